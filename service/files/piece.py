"""Some rows of a file of records, as they stand there and as tensors."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bundle.errors import Problem
from bundle.record.fields import Tensors
from bundle.record.schema import RecordSchema

ROWS = 8192
"""Most rows in a piece, but of delimited text, which has pieces of megabytes."""
_LEVELS = 2**24


@dataclass(frozen=True)
class Piece:
    """Some rows of a file.

    Args:
        table: All their columns, as they stand in the file.
        tensors: The same rows as the graph's inputs.
        share: How much of the file has been read, 0 to 1.
        numbers: (n,) int64, each row's number in its file, from 1; None where the rows are simply counted.
        faults: Rows that have no score, and why, by their position; their tensors mean nothing.
    """

    table: pa.Table
    tensors: Tensors
    share: float
    faults: Mapping[int, str] = field(default_factory=dict)
    numbers: npt.NDArray[np.int64] | None = None


def blocks(pieces: Iterator[Piece], rows: int) -> Iterator[Piece]:
    """The same rows in blocks of one size, the last apart: cut alike whatever a reader's pieces are.

    Args:
        pieces: Of one file, in order.
        rows: In a block.
    """
    held: list[Piece] = []
    count, cut = 0, False
    for piece in pieces:
        held.append(piece)
        count += piece.table.num_rows
        while count >= rows:
            whole = _joined(held)
            yield _part(whole, 0, rows)
            cut, count = True, count - rows
            held = [_part(whole, rows, count)] if count else []
    if held and (count or not cut):
        yield _joined(held)


def _joined(pieces: list[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    tensors = {name: np.concatenate([each.tensors[name] for each in pieces]) for name in pieces[0].tensors}
    faults: dict[int, str] = {}
    before = 0
    for each in pieces:
        faults |= {before + row: fault for row, fault in each.faults.items()}
        before += each.table.num_rows
    numbered = [each.numbers for each in pieces if each.numbers is not None]
    numbers = np.concatenate(numbered) if len(numbered) == len(pieces) else None
    return Piece(pa.concat_tables([each.table for each in pieces]), tensors, pieces[-1].share, faults, numbers)


def _part(piece: Piece, first: int, rows: int) -> Piece:
    if rows == piece.table.num_rows:
        return piece
    tensors = {name: values[first : first + rows] for name, values in piece.tensors.items()}
    faults = {row - first: fault for row, fault in piece.faults.items() if first <= row < first + rows}
    numbers = None if piece.numbers is None else piece.numbers[first : first + rows]
    return Piece(piece.table.slice(first, rows), tensors, piece.share, faults, numbers)


def rows_of(schema: RecordSchema) -> int:
    """Most rows that are scored at a time: of images as many as hold so many levels."""
    return max(1, min(ROWS, _LEVELS // max(1, schema.levels)))


def first_of_rows(problems: Iterable[Problem]) -> dict[int, Problem]:
    """Of each row that has problems the first of them, in the order of the rows."""
    found: dict[int, Problem] = {}
    for problem in sorted(problems, key=lambda problem: problem.row):
        found.setdefault(problem.row, problem)
    return found


def fault(problem: Problem) -> str:
    """What is wrong with a row, in words."""
    return problem.detail if problem.field is None else f"column {problem.field!r}: {problem.detail}"
