"""The rows with the smallest hashes: a uniform sample of bounded size, the same in whatever order rows come."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.data.row_hash import Hashes

_SLACK = 1.25
"""Times the size that is kept between two selections, so that not every block costs one."""


class Smallest:
    """Keeps the rows with the smallest hashes of all that are added (a bottom-k sample).

    Samples of parts merge to the sample of the whole, so that it does not depend on blocks, files or processes.

    Args:
        size: Rows that are kept at most.
        schema: Of the tables that are added.

    Reference:
        Cohen & Kaplan 2007, "Summarizing data using bottom-k sketches".
    """

    def __init__(self, size: int, schema: pa.Schema) -> None:
        self.size = size
        self._hashes: Hashes = np.empty(0, np.uint64)
        self._places: npt.NDArray[np.int64] = np.empty((0, 2), np.int64)
        self._tables: list[pa.Table] = [schema.empty_table()]
        self._bound = np.uint64(2**64 - 1)
        """No hash above it is among the smallest."""

    def add(
        self,
        hashes: Hashes,
        places: npt.NDArray[np.int64],
        table: pa.Table,
        chosen: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Take in rows, in any order, but each of them once.

        Args:
            hashes: (n,) uint64.
            places: (n, 2) where each stands in the whole, and its number in its file.
            table: Their n rows.
            chosen: (n,) which of them are meant; by default all.
        """
        near = np.flatnonzero((hashes <= self._bound) & (True if chosen is None else chosen))
        if not near.size:
            return
        self._hashes = np.concatenate([self._hashes, hashes[near]])
        self._places = np.concatenate([self._places, places[near]])
        # A slice would keep the whole block in memory.
        self._tables.append(table.take(pa.array(near)))
        if self._hashes.size > max(_SLACK * self.size, self.size + 1):
            self._select()

    def merge(self, other: "Smallest") -> None:
        """Take in the rows of another sample, of other rows of the same table."""
        self.add(other._hashes, other._places, pa.concat_tables(other._tables))

    def rows(self) -> tuple[Hashes, npt.NDArray[np.int64], pa.Table]:
        """The rows in the order of their places: (n,) hashes, (n, 2) places, and a table of n rows."""
        self._select()
        order = np.argsort(self._places[:, 0], kind="stable")
        self._hashes, self._places = self._hashes[order], self._places[order]
        self._tables = [self._tables[0].take(pa.array(order))]
        return self._hashes, self._places, self._tables[0]

    def _select(self) -> None:
        whole = pa.concat_tables(self._tables)
        # Of equal hashes the earlier row comes first.
        kept = np.lexsort((self._places[:, 0], self._hashes))[: self.size]
        self._hashes, self._places = self._hashes[kept], self._places[kept]
        self._tables = [whole.take(pa.array(kept)).combine_chunks()]
        if kept.size == self.size:
            self._bound = self._hashes[-1] if self.size else np.uint64(0)
