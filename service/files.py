"""Files of records, a piece at a time: CSV, Parquet and NDJSON in and out, in constant memory."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from bundle.errors import BundleError, InvalidRecords
from bundle.fields import BooleanField, CategoricalField, NumericField, RecordSchema, Tensors
from bundle.records import MISSING_TEXTS, category_text, encode_columns, encode_records

SUFFIXES = (".csv", ".parquet", ".ndjson", ".jsonl")
ROWS = 8192
"""Rows in a piece."""


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


class Writer(Protocol):
    """Takes tables of one schema, one after another."""

    def write_table(self, table: pa.Table) -> None:
        """Append a table."""


def columns(path: Path) -> list[str]:
    """The columns of a file, by its head.

    Raises:
        FileInvalid: Damaged, empty, or of another kind.
        OSError: It cannot be read.
    """
    names = _columns(path)
    if doubled := {name for name in names if names.count(name) > 1}:
        raise FileInvalid(f"{path}: two columns are named {sorted(doubled)[0]!r}")
    return names


def _columns(path: Path) -> list[str]:
    with _refusals(path):
        match _suffix(path):
            case ".parquet":
                return list(pyarrow.parquet.read_schema(path).names)
            case ".csv":
                with pyarrow.csv.open_csv(path) as reader:
                    return list(reader.schema.names)
            case _:
                with path.open("rb") as lines:
                    first = next((line for line in lines if not line.isspace()), None)
                    if first is None:
                        raise FileInvalid(f"{path}: holds no rows")
                    return list(_object(first, 1))


def read(path: Path, schema: RecordSchema) -> Iterator[Piece]:
    """Read a file of records a piece at a time.

    Args:
        path: `.csv`, `.parquet`, `.ndjson` or `.jsonl`. Columns that are no field are carried along.
        schema: The bundle's fields.

    Raises:
        FileInvalid: Damaged, or a value that does not fit its field, named by row (from 1) and column.
        OSError: It cannot be read.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    with _refusals(path):
        first = 1
        for table, tensors, share in readers.get(_suffix(path), _read_lines)(path, schema):
            yield Piece(table, _encode(path, schema, table, first) if tensors is None else tensors, share)
            first += table.num_rows


@contextlib.contextmanager
def writer(path: Path) -> Iterator[Writer]:
    """Open a file to write tables to; it appears under its name when all has been written.

    Args:
        path: `.csv`, `.parquet`, `.ndjson` or `.jsonl`.

    Raises:
        FileInvalid: Of another kind.
        OSError: It cannot be written.
    """
    makers = {".csv": _CsvWriter, ".parquet": _ParquetWriter}
    beside = path.with_name(f".{path.name}.writing")
    opened = makers.get(_suffix(path), _LineWriter)(beside)
    try:
        with _refusals(path):
            yield opened
        opened.close()
        beside.replace(path)
    finally:
        opened.close()
        beside.unlink(missing_ok=True)


def with_scores(table: pa.Table, scores: Mapping[str, np.ndarray[Any, Any]], flat: bool) -> pa.Table:
    """Append scores to a table as columns.

    Args:
        table: n rows.
        scores: (n,) or (n, K) arrays by name.
        flat: Whether (n, K) becomes K columns, as CSV needs it, and not one of lists.

    Raises:
        FileInvalid: The table has such a column already.
    """
    for name, values in scores.items():
        if values.ndim == 1:
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


def _suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise FileInvalid(f"{path}: a file that ends in {', '.join(SUFFIXES)} is expected")
    return path.suffix


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:
        raise FileInvalid(f"{path}: {' '.join(str(error).split())}") from error


def _encode(path: Path, schema: RecordSchema, table: pa.Table, first: int) -> Tensors:
    wanted = [name for name in table.column_names if name in schema.name_set or name in schema.timestamps]
    try:
        return encode_columns(schema, {name: np.asarray(table[name]) for name in wanted}, table.num_rows)
    except InvalidRecords as error:
        raise _at_row(path, error, first) from error


def _at_row(path: Path, error: InvalidRecords, first: int) -> FileInvalid:
    problem = error.problems[0]
    column = f", column {problem.field!r}" if problem.field is not None else ""
    return FileInvalid(f"{path}: row {first + problem.row}{column}: {problem.detail}")


_Read = Iterator[tuple[pa.Table, Tensors | None, float]]


def _read_parquet(path: Path, schema: RecordSchema) -> _Read:
    with pyarrow.parquet.ParquetFile(path) as file:
        rows, total = 0, max(1, file.metadata.num_rows)
        for batch in file.iter_batches(ROWS):
            rows += batch.num_rows
            yield pa.Table.from_batches([batch]), None, rows / total


def _read_csv(path: Path, schema: RecordSchema) -> _Read:
    types = {name: pa.string() for name in columns(path)}
    for field in schema.fields:
        if field.name in types:
            types[field.name] = pa.float64() if isinstance(field, NumericField) else pa.string()
    flags = [field.name for field in schema.boolean if field.name in types]
    options = pyarrow.csv.ConvertOptions(null_values=list(MISSING_TEXTS), strings_can_be_null=True, column_types=types)
    total = max(1, path.stat().st_size)
    with pa.OSFile(str(path)) as file, pyarrow.csv.open_csv(file, convert_options=options) as reader:
        for batch in reader:
            table = pa.Table.from_batches([batch])
            for name in flags:
                values = [_FLAGS.get(text, text) for text in table[name].to_pylist()]
                if set(map(type, values)) <= {bool, type(None)}:
                    table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.bool_()))
            yield table, None, min(1.0, file.tell() / total)


_FLAGS = {
    text: value
    for value, texts in ((True, ("true", "True", "TRUE", "1", "1.0")), (False, ("false", "False", "FALSE", "0", "0.0")))
    for text in texts
}
_TYPES = {NumericField: pa.float64(), BooleanField: pa.bool_(), CategoricalField: pa.string()}


def _read_lines(path: Path, schema: RecordSchema) -> _Read:
    total, done, first = max(1, path.stat().st_size), 0, 1
    fields = schema.name_set | schema.timestamps.keys()
    types: dict[str, pa.DataType | None] = {}
    with path.open("rb") as file:
        content = (line for line in file if not line.isspace())
        while lines := list(islice(content, ROWS)):
            done += sum(map(len, lines))
            objects = [_object(line, first + index) for index, line in enumerate(lines)]
            records = [{name: value for name, value in each.items() if name in fields} for each in objects]
            try:
                tensors = encode_records(schema, records)
            except InvalidRecords as error:
                raise _at_row(path, error, first) from error
            yield _table(objects, schema, types, first), tensors, min(1.0, done / total)
            first += len(lines)


def _object(line: bytes, row: int) -> dict[str, Any]:
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise FileInvalid(f"row {row} is not JSON: {error.msg}") from error
    if not isinstance(content, dict):
        raise FileInvalid(f"row {row} is not an object")
    return content


def _table(
    objects: list[dict[str, Any]], schema: RecordSchema, types: dict[str, pa.DataType | None], first: int
) -> pa.Table:
    """Objects as a table; the first piece fixes the columns and their types for those that follow."""
    if not types:
        types |= {name: None for each in objects for name in each}
        types |= {field.name: _TYPES[type(field)] for field in schema.fields if field.name in types}
    elif late := {name for each in objects for name in each} - types.keys():
        last = first + len(objects) - 1
        raise FileInvalid(f"column {sorted(late)[0]!r} appears between row {first} and {last} and not before")
    arrays = {}
    for name, kind in types.items():
        values = [each.get(name) for each in objects]
        if kind == pa.string():
            values = [category_text(value) if not isinstance(value, list | dict) else value for value in values]
        try:
            # Inferred first and cast then: an array made of floats with an integer type would lose their fractions.
            array = pa.array(values)
            # A column that is empty so far may hold anything later; text holds most.
            types[name] = kind or (pa.string() if pa.types.is_null(array.type) else array.type)
            arrays[name] = array.cast(types[name])
        except (pa.ArrowException, OverflowError) as error:
            last = first + len(objects) - 1
            raise FileInvalid(f"column {name!r} holds values of several types up to row {last}: {error}") from error
    return pa.table(arrays)


class _ParquetWriter:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def write_table(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _CsvWriter(_ParquetWriter):
    def write_table(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pyarrow.csv.CSVWriter(self._path, table.schema)
        self._writer.write_table(table)


class _LineWriter:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write_table(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            self._file.write(orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._file.close()
