"""Parquet, Arrow and Feather: columns that say their types."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.fs
import pyarrow.parquet

from reading.block import Block
from reading.errors import FileInvalid
from reading.options import Options

_ROWS = 8192
_STREAM = b"\xff\xff\xff\xff"
_FILE = b"ARROW1"


class _ColumnarFile:
    """Reads a file that says by itself how it is written; see `reading.opening.TableFile`.

    Args:
        path: The file.
        options: Nothing of it is looked at.
        skip: No row can be damaged by itself.
    """

    comma_likely: bool = False
    is_text: bool = False
    said: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    schema: pa.Schema

    def __init__(self, path: Path, options: Options, skip: bool = False) -> None:
        del options, skip
        self._path = path

    def _block(self, batch: pa.RecordBatch, before: int, share: float) -> Block:
        table = pa.Table.from_batches([batch], self.schema)
        return Block(table, str(self._path), range(before + 1, before + 1 + table.num_rows), "row", share)


class ParquetFile(_ColumnarFile):
    """Reads a Parquet file, or some of its row groups.

    Args:
        path: The file.
        options: Nothing of it is looked at.
        skip: No row can be damaged by itself.
        groups: Which row groups; None for all.
        filesystem: Of pyarrow, where the path is; None for this machine's.
    """

    def __init__(
        self,
        path: Path,
        options: Options,
        skip: bool = False,
        groups: range | None = None,
        filesystem: pyarrow.fs.FileSystem | None = None,
    ) -> None:
        super().__init__(path, options, skip)
        self._groups, self._filesystem = groups, filesystem
        try:
            self.schema = pyarrow.parquet.read_schema(str(path), filesystem=filesystem)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, "its footer cannot be read", error) from error

    def blocks(self) -> Iterator[Block]:
        """See `TableFile.blocks`."""
        with pyarrow.parquet.ParquetFile(str(self._path), filesystem=self._filesystem) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            groups = range(len(sizes)) if self._groups is None else self._groups
            rows, read, total = sum(sizes[: groups.start]), 0, max(1, sum(sizes[group] for group in groups))
            for group in groups:
                try:
                    for batch in file.iter_batches(_ROWS, [group], use_pandas_metadata=False):
                        yield self._block(batch, rows, min(1.0, (read + batch.num_rows) / total))
                        rows, read = rows + batch.num_rows, read + batch.num_rows
                except (pa.ArrowException, OSError) as error:
                    raise _damaged(self._path, f"row group {group + 1} of {file.num_row_groups}", error) from error


class ArrowFile(_ColumnarFile):
    """Reads an Arrow file, an Arrow stream or a Feather file."""

    def __init__(self, path: Path, options: Options, skip: bool = False) -> None:
        super().__init__(path, options, skip)
        try:
            with path.open("rb") as file:
                self._start = file.read(len(_FILE))
            with self._opened() as (self.schema, _):
                pass
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, "its head cannot be read", error) from error

    def blocks(self) -> Iterator[Block]:
        """See `TableFile.blocks`."""
        rows, read = 0, 0.0
        try:
            with self._opened() as (_, batches):
                for whole, share in batches:
                    # Some programs write a file of any size as one batch.
                    for start in range(0, whole.num_rows, _ROWS):
                        batch = whole.slice(start, _ROWS)
                        part = (start + batch.num_rows) / whole.num_rows
                        yield self._block(batch, rows, read + (share - read) * part)
                        rows += batch.num_rows
                    read = share
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self._path, f"after row {rows}", error) from error

    @contextmanager
    def _opened(self) -> Iterator[tuple[pa.Schema, Iterator[tuple[pa.RecordBatch, float]]]]:
        """The columns; and the batches, with how much of the file has been read with each."""
        if self._start.startswith(_FILE):
            with pa.ipc.open_file(pa.memory_map(str(self._path))) as reader:
                total = reader.num_record_batches
                yield reader.schema, ((reader.get_batch(index), (index + 1) / total) for index in range(total))
        elif self._start.startswith(_STREAM):
            source = pa.memory_map(str(self._path))
            with pa.ipc.open_stream(source) as reader:
                yield reader.schema, ((batch, source.tell() / source.size()) for batch in reader)
        else:
            # Version 1 of Feather has no batches.
            table = pyarrow.feather.read_table(self._path)
            yield table.schema, ((batch, 1.0) for batch in table.to_batches())


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


def _damaged(path: Path, where: str, error: Exception) -> FileInvalid:
    return FileInvalid(f"{path}: damaged, {where}: {' '.join(str(error).split())}")
