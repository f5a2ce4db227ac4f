"""The files of a data set, read again and again: a block at a time, with the hash and the place of each row."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reading import opening, parts
from reading.block import Block
from reading.options import Options
from training.data import row_hash
from training.data.row_hash import Hashes
from training.errors import DataInvalid


@dataclass(frozen=True)
class Piece:
    """Some rows of the files.

    Args:
        block: Their columns, as they stand in their file.
        hashes: (n,) uint64, see `row_hash.hashes`.
        places: (n, 2) int64 where each stands among all rows, from 0, and its number in its file as a person counts.
    """

    block: Block
    hashes: Hashes
    places: npt.NDArray[np.int64]


class Files:
    """The files that a path means, which are the same each time they are read.

    A row's hash is made from the seed, its file's name below the folder, and its number in that file.

    Args:
        path: See `reading.parts`.
        options: What a person said of them.
        seed: Of the hashes.

    Raises:
        FileInvalid: There is none, or one is damaged.
        OSError: One cannot be read.
    """

    def __init__(self, path: Path, options: Options, seed: int) -> None:
        self.path = path
        self._options = options
        found = parts.parts(path)
        root = parts.root(path)
        self._keys = {
            str(part.path): row_hash.key(seed, part.path.relative_to(root).as_posix() if root else part.path.name)
            for part in found
        }
        self._before = {each: _state(Path(each)) for each in self._keys}
        self.table = opening.opened(path, options)
        fields = [pa.field(each.name, _values(each.type), metadata=each.metadata) for each in self.table.schema]
        self.schema = pa.schema(fields, self.table.schema.metadata)
        """Of the pieces: without dictionaries, of which each block has its own, and every column may have nulls."""

    @property
    def are_several(self) -> bool:
        """Whether rows are counted anew in each of several files."""
        return self.count > 1

    @property
    def keys(self) -> tuple[int, ...]:
        """Of the hashes, a number a file."""
        return tuple(int(key) for key in self._keys.values())

    @property
    def count(self) -> int:
        """How many files there are."""
        return len(self._keys)

    def pieces(self) -> Iterator[Piece]:
        """All rows, in order.

        Raises:
            DataInvalid: A file is another one than when it was first looked at.
            FileInvalid: Damaged; names the file and the row or line.
            OSError: It cannot be read.
        """
        place, row, file = 0, 0, ""
        for block in self.table.blocks():
            if block.file != file:
                file, row = block.file, 0
                self._refuse_changed(file)
            rows = block.table.num_rows
            places = np.stack([np.arange(place, place + rows), np.asarray(block.numbers, np.int64)], axis=1)
            if block.table.schema != self.schema:
                block = replace(block, table=block.table.cast(self.schema))
            yield Piece(block, row_hash.hashes(self._keys[file], row, rows), places)
            place, row = place + rows, row + rows
        for each in self._before:
            self._refuse_changed(each)

    def _refuse_changed(self, file: str) -> None:
        if _state(Path(file)) != self._before[file]:
            raise DataInvalid(
                f"{file}: has changed since the training began, and it is read several times; train again once nobody "
                "writes to it"
            )


def _values(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _state(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
