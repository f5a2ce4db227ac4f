"""What of a scored file is written: which of its columns, and which of its rows."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from reading.errors import NotRead
from service.files.scored_rows import ScoredRows, strangest_first

_SAID = 20
"""Columns that are named where another one was asked for."""


class ColumnsRefused(NotRead):
    """Columns that were asked for are not there, or have names that the columns of scores have."""


class Sieve(Protocol):
    """Takes the rows of a file and gives those that are to be written."""

    def add(self, rows: ScoredRows) -> Iterator[ScoredRows]:
        """Take the next rows, and give what can be written by now."""

    def rest(self) -> Iterator[ScoredRows]:
        """Give what is left, once all rows are there."""


@dataclass(frozen=True)
class Selection:
    """What is asked.

    Args:
        keep: Of the file's columns those that are carried along, in order; None for all.
        columns: Of the columns of scores those that are written, in order; None for all.
        latent: Whether latent means are written.
        only_flagged: Whether anomalies alone are written.
        top: How many rows are written, the strangest first; None for all, in the file's order.
    """

    keep: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    latent: bool = False
    only_flagged: bool = False
    top: int | None = None

    @property
    def everything(self) -> bool:
        """Whether every row is written."""
        return not self.only_flagged and self.top is None

    def carries(self, name: str) -> bool:
        """Whether a column of the file is written, if there is one of that name."""
        return self.keep is None or name in self.keep

    def carried(self, found: Sequence[str], added: Collection[str]) -> tuple[str, ...]:
        """The columns of the file that are written, in order.

        Args:
            found: All its columns.
            added: What the columns of scores are called.

        Raises:
            ColumnsRefused: A column that is not there, is asked for twice, or is called like one that is added.
        """
        columns = tuple(found) if self.keep is None else self.keep
        if unknown := [name for name in columns if name not in found]:
            more = ", …" if len(found) > _SAID else ""
            raise ColumnsRefused(
                f"--keep: there is no column {unknown[0]!r}, but {_listed(found[:_SAID]) or 'none'}{more}; columns of "
                "scores are named with --columns"
            )
        if twice := [name for name in columns if columns.count(name) > 1]:
            if not twice[0]:
                raise ColumnsRefused(
                    f"{len(twice)} columns have no name, and OUT can hold one such: name them, or leave them out with "
                    "--keep"
                )
            raise ColumnsRefused(f"--keep: column {twice[0]!r} is asked for twice")
        if taken := [name for name in columns if name in added]:
            raise ColumnsRefused(
                f"a column is called {_listed(taken)}, and so is one that scores are written to: rename it, or leave "
                "it out with --keep"
            )
        return columns

    def scores(self, offered: Sequence[str], elsewhere: Mapping[str, str]) -> tuple[str, ...]:
        """The columns of scores that are written, in order.

        Args:
            offered: All that this call can write.
            elsewhere: What to do for one that it cannot, by its name.

        Raises:
            ColumnsRefused: A column that is none of them, or is asked for twice; or none is asked for.
        """
        columns = tuple(offered) if self.columns is None else self.columns
        if not columns:
            raise ColumnsRefused("--columns: no column of scores is named; leave it out for all of them")
        for name in columns:
            if name in offered:
                continue
            if name in elsewhere:
                raise ColumnsRefused(f"--columns: this call does not write {name!r}: {elsewhere[name]}")
            raise ColumnsRefused(
                f"--columns: there is no column of scores {name!r}, but {_listed(offered)}; columns of IN are named "
                "with --keep"
            )
        if twice := [name for name in columns if columns.count(name) > 1]:
            raise ColumnsRefused(f"--columns: column {twice[0]!r} is asked for twice")
        return columns

    def sieve(self, rows: int) -> Sieve:
        """What finds the rows that are written.

        Args:
            rows: How many are written at a time.
        """
        if self.top is not None:
            return _Strangest(self.top, rows, only_flagged=self.only_flagged)
        return _Flagged(rows) if self.only_flagged else _All()


class _All:
    def add(self, rows: ScoredRows) -> Iterator[ScoredRows]:
        yield rows

    def rest(self) -> Iterator[ScoredRows]:
        yield from ()


class _Flagged:
    """Anomalies alone, joined to blocks: of each block of the file there may be few.

    Args:
        rows: In a block.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._held: ScoredRows | None = None
        self._given = False

    def add(self, rows: ScoredRows) -> Iterator[ScoredRows]:
        flagged = _flagged(rows)
        if self._held is None:
            self._held = flagged
        elif len(flagged):
            self._held = ScoredRows.joined([self._held, flagged])
        if len(self._held) >= self._rows:
            yield self._held
            self._held, self._given = None, True

    def rest(self) -> Iterator[ScoredRows]:
        # No row at all is given once, so that the columns are known.
        if self._held is not None and (len(self._held) or not self._given):
            yield self._held


class _Strangest:
    """The strangest rows; it holds at most twice as many, and two blocks.

    Args:
        most: How many.
        rows: In a block.
        only_flagged: Whether they are anomalies, too.
    """

    def __init__(self, most: int, rows: int, *, only_flagged: bool) -> None:
        self._most = most
        self._rows = rows
        self._only_flagged = only_flagged
        self._held: list[ScoredRows] = []
        self._count = 0
        self._worst = np.inf

    def add(self, rows: ScoredRows) -> Iterator[ScoredRows]:
        if self._only_flagged:
            rows = _flagged(rows)
        # Of rows that are less strange than as many others none will be written.
        rows = rows.take(np.flatnonzero(rows.verdicts.p_value <= self._worst))
        if len(rows) or not self._held:
            self._held.append(rows)
            self._count += len(rows)
        if self._count >= self._most + max(self._most, self._rows):
            self._held = [self._best()]
            self._count = self._most
            self._worst = self._held[0].verdicts.p_value[-1]
        yield from ()

    def rest(self) -> Iterator[ScoredRows]:
        best = self._best()
        for start in range(0, max(len(best), 1), self._rows):
            yield best.take(np.arange(start, min(start + self._rows, len(best))))

    def _best(self) -> ScoredRows:
        held = ScoredRows.joined(self._held)
        return held.take(strangest_first(held)[: self._most])


def _flagged(rows: ScoredRows) -> ScoredRows:
    return rows.take(np.flatnonzero(rows.verdicts.is_anomaly))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
