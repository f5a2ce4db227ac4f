"""Some rows of a file of records, as they stand there and as tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from bundle.errors import BundleError, InvalidRecords
from bundle.record.fields import Tensors
from bundle.record.records import encode_columns
from bundle.record.schema import RecordSchema
from service.codecs import columns
from service.errors import RequestInvalid

ROWS = 8192
"""Most rows in a piece, but of CSV, which has pieces of a megabyte."""
_LEVELS = 2**24


class FileInvalid(BundleError):
    """A file cannot be read as records, or what is in it does not fit the bundle's fields."""


@dataclass(frozen=True)
class Piece:
    """Some rows of a file.

    Args:
        table: All their columns, as they stand in the file.
        tensors: The same rows as the graph's inputs.
        share: How much of the file has been read, 0 to 1.
    """

    table: pa.Table
    tensors: Tensors
    share: float


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
    return Piece(pa.concat_tables([each.table for each in pieces]), tensors, pieces[-1].share)


def _part(piece: Piece, first: int, rows: int) -> Piece:
    if rows == piece.table.num_rows:
        return piece
    tensors = {name: values[first : first + rows] for name, values in piece.tensors.items()}
    return Piece(piece.table.slice(first, rows), tensors, piece.share)


def rows_of(schema: RecordSchema) -> int:
    """Rows in a piece, but of CSV: of images as many as hold so many levels."""
    return max(1, min(ROWS, _LEVELS // max(1, schema.levels)))


def encode_table(path: Path, schema: RecordSchema, table: pa.Table, first: int) -> Tensors:
    """The graph's inputs for a table.

    Args:
        path: Where it comes from, for the message.
        schema: The bundle's fields.
        table: Columns that are no field are ignored.
        first: Number of its first row in the file.

    Raises:
        FileInvalid: A value that does not fit its field, named by row and column.
    """
    try:
        given = columns.values_of(schema, table) if table.num_rows else {}
        return encode_columns(schema, given, table.num_rows)
    except RequestInvalid as error:  # a column of images of another size
        fault = error.faults[0]
        raise FileInvalid(f"{path}: column {fault.pointer.removeprefix('/')!r}: {fault.detail}") from error
    except InvalidRecords as error:
        raise at_row(path, error, f"row {first + error.problems[0].row}") from error


def at_row(path: Path, error: InvalidRecords, place: str) -> FileInvalid:
    """The first of some problems, which stands at `place`, as a sentence."""
    problem = error.problems[0]
    column = f", column {problem.field!r}" if problem.field is not None else ""
    return FileInvalid(f"{path}: {place}{column}: {problem.detail}")
