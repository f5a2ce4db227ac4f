"""A file of records to read."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from bundle.fields import RecordSchema
from service.files.csv import CsvFile
from service.files.ndjson import NdjsonFile
from service.files.parquet import ParquetFile
from service.files.piece import FileInvalid, Piece

_KINDS: dict[str, type[CsvFile | ParquetFile | NdjsonFile]] = {
    ".csv": CsvFile,
    ".parquet": ParquetFile,
    ".ndjson": NdjsonFile,
    ".jsonl": NdjsonFile,
}
SUFFIXES = tuple(_KINDS)


class RecordFile(Protocol):
    """Reads a file of records."""

    columns: list[str]
    """Its columns, in order."""

    def pieces(self) -> Iterator[Piece]:
        """All its rows, in order; at least one piece, which holds no row if the file does not.

        Raises:
            FileInvalid: Damaged, or a value that does not fit its field, named by row (from 1) and column.
            OSError: It cannot be read.
        """


@contextlib.contextmanager
def open_records(path: Path, schema: RecordSchema) -> Iterator[RecordFile]:
    """Open a file of records.

    Args:
        path: `.csv`, `.parquet`, `.ndjson` or `.jsonl`. Columns that are no field are carried along.
        schema: The bundle's fields.

    Raises:
        FileInvalid: Damaged, empty, of another kind, or with two columns of one name.
        OSError: It cannot be read.
    """
    with refusals(path):
        file = kind(path)(path, schema)
        if doubled := {name for name in file.columns if file.columns.count(name) > 1}:
            raise FileInvalid(f"{path}: two columns are named {sorted(doubled)[0]!r}")
        yield file


def kind(path: Path) -> type[CsvFile | ParquetFile | NdjsonFile]:
    """What reads a file of this name.

    Raises:
        FileInvalid: Nothing does.
    """
    if path.suffix not in _KINDS:
        raise FileInvalid(f"{path}: a file that ends in {', '.join(_KINDS)} is expected")
    return _KINDS[path.suffix]


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Say in a sentence what pyarrow cannot read or write."""
    try:
        yield
    except pa.ArrowException as error:
        raise FileInvalid(f"{path}: {' '.join(str(error).split())}") from error
