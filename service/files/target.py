"""A file of scored records to write."""

import base64
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from bundle.record import images
from bundle.record.fields import ImageField
from service.files.piece import FileInvalid
from service.files.source import ending, refusals


class Writer(Protocol):
    """Takes tables of one schema, one after another."""

    def write_table(self, table: pa.Table) -> None:
        """Append a table."""


@contextlib.contextmanager
def writer(path: Path) -> Iterator[Writer]:
    """Open a file to write tables to; it appears under its name when all has been written.

    Args:
        path: `.csv`, `.parquet`, `.ndjson` or `.jsonl`.

    Raises:
        FileInvalid: Of another kind, or it cannot hold such a table.
        OSError: It cannot be written.
    """
    kind = _KINDS[ending(path, WRITABLE)]
    beside = path.with_name(f".{path.name}.writing")
    opened = kind(beside)
    try:
        with refusals(path):
            yield opened
        opened.close()
        beside.replace(path)
    finally:
        opened.close()
        beside.unlink(missing_ok=True)


def with_scores(table: pa.Table, scores: Mapping[str, np.ndarray[Any, Any] | pa.Array], flat: bool) -> pa.Table:
    """Append scores to a table as columns.

    Args:
        table: n rows.
        scores: (n,) or (n, K) arrays by name, or (n,) arrays of Arrow.
        flat: Whether (n, K) becomes K columns, as CSV needs it, and not one of lists.

    Raises:
        FileInvalid: The table has such a column already.
    """
    for name, values in scores.items():
        if isinstance(values, pa.Array):
            added = {name: values}
        elif values.ndim == 1:
            added = {name: pa.array(values)}
        elif flat:
            added = {f"{name}_{index}": pa.array(values[:, index]) for index in range(values.shape[1])}
        else:
            items = pa.array(np.ascontiguousarray(values).reshape(-1))
            added = {name: pa.FixedSizeListArray.from_arrays(items, values.shape[1])}
        for column, array in added.items():
            if column in table.column_names:
                raise FileInvalid(f"the input has a column {column!r} already; rename it")
            table = table.append_column(column, array)
    return table


def images_as_text(table: pa.Table, field: ImageField, levels: npt.NDArray[np.uint8]) -> pa.Table:
    """A table whose column of images is text, as CSV and a line of JSON may hold it and as a client may send it.

    Args:
        table: n rows; images that are text stay as they are, and so does a table that has none.
        field: The image.
        levels: (n, H, W, C), the same images.
    """
    name = field.name
    if name not in table.column_names:
        return table
    kind = table.schema.field(name).type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return table
    files = pa.array([images.in_base64(image) for image in levels])
    return table.set_column(table.column_names.index(name), name, files)


class _TableWriter(ABC):
    """A writer that is opened by the first table, whose columns all others have."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    @staticmethod
    @abstractmethod
    def _open(path: Path, schema: pa.Schema) -> Any:
        """Arrow's writer of such a file."""

    def write_table(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = self._open(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _ParquetWriter(_TableWriter):
    @staticmethod
    def _open(path: Path, schema: pa.Schema) -> Any:
        # Few numbers come twice: looking for those that do takes most of the time of writing them.
        repeated = [field.name for field in schema if not _is_of_floats(field.type)]
        return pyarrow.parquet.ParquetWriter(path, schema, use_dictionary=repeated)


class _CsvWriter(_TableWriter):
    @staticmethod
    def _open(path: Path, schema: pa.Schema) -> Any:
        return pyarrow.csv.CSVWriter(path, schema)


class _LineWriter:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write_table(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            self._file.write(orjson.dumps(row, default=_text, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._file.close()


_KINDS: dict[str, type[_TableWriter | _LineWriter]] = {
    ".csv": _CsvWriter,
    ".parquet": _ParquetWriter,
    ".ndjson": _LineWriter,
    ".jsonl": _LineWriter,
}
WRITABLE = tuple(_KINDS)


def _text(value: object) -> str:
    """What JSON has no type for: binary as a client may send it, dates and decimals as they are written."""
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


def _is_of_floats(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_fixed_size_list(kind))
