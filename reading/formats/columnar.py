"""Parquet, Arrow and Feather: columns that say their types."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from reading.block import Block
from reading.errors import FileInvalid
from reading.options import Options

_ROWS = 8192
_STREAM = b"\xff\xff\xff\xff"
_FILE = b"ARROW1"


class ParquetFile:
    """Reads a Parquet file; see `reading.opening.TableFile`.

    Args:
        path: The file.
        options: Nothing of it is looked at: the file says by itself how it is written.
        skip: No row can be damaged by itself.
    """

    comma_likely: bool = False
    is_text: bool = False
    skipped: tuple[str, ...] = ()

    def __init__(self, path: Path, options: Options, skip: bool = False) -> None:
        del options, skip
        self._path = path
        try:
            self.schema: pa.Schema = pyarrow.parquet.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, "its footer cannot be read", error) from error
        self.said: tuple[str, ...] = ()

    def blocks(self) -> Iterator[Block]:
        """See `TableFile.blocks`."""
        with pyarrow.parquet.ParquetFile(self._path) as file:
            rows, total = 0, max(1, file.metadata.num_rows)
            for group in range(file.num_row_groups):
                try:
                    for batch in file.iter_batches(_ROWS, [group], use_pandas_metadata=False):
                        table = pa.Table.from_batches([batch], self.schema)
                        numbers = range(rows + 1, rows + 1 + table.num_rows)
                        rows += table.num_rows
                        yield Block(table, str(self._path), numbers, "row", min(1.0, rows / total))
                except (pa.ArrowException, OSError) as error:
                    raise _damaged(self._path, f"row group {group + 1} of {file.num_row_groups}", error) from error


class ArrowFile:
    """Reads an Arrow file, an Arrow stream or a Feather file; see `reading.opening.TableFile`.

    Args:
        path: The file.
        options: Nothing of it is looked at: the file says by itself how it is written.
        skip: No row can be damaged by itself.
    """

    comma_likely: bool = False
    is_text: bool = False
    skipped: tuple[str, ...] = ()

    def __init__(self, path: Path, options: Options, skip: bool = False) -> None:
        del options, skip
        self._path = path
        try:
            with path.open("rb") as file:
                self._start = file.read(len(_FILE))
            with self._opened() as reader:
                self.schema: pa.Schema = reader.schema
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, "its head cannot be read", error) from error
        self.said: tuple[str, ...] = ()

    def blocks(self) -> Iterator[Block]:
        """See `TableFile.blocks`."""
        rows = 0
        try:
            with self._opened() as reader:
                for batch in _batches(reader):
                    table = pa.Table.from_batches([batch], self.schema)
                    yield Block(table, str(self._path), range(rows + 1, rows + 1 + table.num_rows), "row", 0.0)
                    rows += table.num_rows
        except pa.ArrowException as error:
            raise _damaged(self._path, f"after row {rows}", error) from error

    def _opened(self) -> Any:
        if self._start.startswith(_FILE):
            return pa.ipc.open_file(pa.memory_map(str(self._path)))
        if self._start.startswith(_STREAM):
            return pa.ipc.open_stream(pa.memory_map(str(self._path)))
        # Version 1 of Feather has no batches.
        table = pyarrow.feather.read_table(self._path)
        return pa.RecordBatchReader.from_batches(table.schema, table.to_batches())


def index_columns(schema: pa.Schema) -> tuple[str, ...]:
    """The columns that hold a pandas index, by the metadata that pandas leaves.

    Args:
        schema: Of a file.
    """
    written = (schema.metadata or {}).get(b"pandas")
    if not written:
        return ()
    try:
        found = json.loads(written)["index_columns"]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(each for each in found if isinstance(each, str))


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(index) for index in range(reader.num_record_batches))
    return iter(reader)


def _damaged(path: Path, where: str, error: Exception) -> FileInvalid:
    return FileInvalid(f"{path}: damaged, {where}: {' '.join(str(error).split())}")
