"""A file of records to read."""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from bundle.record.schema import RecordSchema
from service.files.csv import CsvFile
from service.files.folder import ImageFolder
from service.files.ndjson import NdjsonFile
from service.files.npz import NpzFile
from service.files.parquet import ParquetFile
from service.files.piece import FileInvalid, Piece

_KINDS: dict[str, type[CsvFile | ParquetFile | NdjsonFile | NpzFile]] = {
    ".csv": CsvFile,
    ".parquet": ParquetFile,
    ".ndjson": NdjsonFile,
    ".jsonl": NdjsonFile,
    ".npz": NpzFile,
}
READABLE = tuple(_KINDS)


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
    """Open a file of records, or a folder of images.

    Args:
        path: `.csv`, `.parquet`, `.ndjson`, `.jsonl` or `.npz`, or a folder. Columns that are no field are carried
            along.
        schema: The bundle's fields.

    Raises:
        FileInvalid: Damaged, empty, of another kind, or with two columns of one name.
        OSError: It cannot be read.
    """
    with refusals(path):
        file = ImageFolder(path, schema) if path.is_dir() else _KINDS[ending(path, READABLE)](path, schema)
        if doubled := {name for name in file.columns if file.columns.count(name) > 1}:
            raise FileInvalid(f"{path}: two columns are named {sorted(doubled)[0]!r}")
        yield file


def ending(path: Path, suffixes: Collection[str]) -> str:
    """How the name of a file ends.

    Args:
        path: The file.
        suffixes: Endings that are expected.

    Raises:
        FileInvalid: It ends otherwise.
    """
    if path.suffix not in suffixes:
        raise FileInvalid(f"{path}: a file that ends in {', '.join(suffixes)} is expected")
    return path.suffix


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Say in a sentence what pyarrow cannot read or write."""
    try:
        yield
    except pa.ArrowException as error:
        raise FileInvalid(f"{path}: {' '.join(str(error).split())}") from error
