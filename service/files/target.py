"""A file of scored records to write."""

import base64
import contextlib
import errno
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from bundle.record import images
from bundle.record.fields import ImageField
from reading.errors import FileInvalid
from reading.formats.ndjson import AS_JSON
from reading.typed import texts_of

STANDARD_OUTPUT = Path("-")
"""In the place of a file: standard output, as NDJSON."""

_ENDS_A_CELL = '[",\r\n]'


class Target(Protocol):
    """Takes tables of one schema, one after another."""

    @property
    def flat(self) -> bool:
        """Whether it holds no lists: a column of them is to be written as several columns."""

    @property
    def text(self) -> bool:
        """Whether it holds no binary: images are to be written as text."""

    def write_table(self, table: pa.Table) -> None:
        """Append a table.

        Raises:
            FileInvalid: It cannot hold such a table.
            OSError: It cannot be written.
        """


class Writer(ABC):
    """Takes tables of one schema, one after another.

    What goes wrong is the fault of the file that is written, and is told under its name.

    Args:
        path: What the file is called.
        sink: Takes its bytes.
    """

    flat: ClassVar[bool] = False
    """Whether it holds no lists: a column of them is to be written as several columns."""
    lines: ClassVar[bool] = False
    """Whether it holds JSON: cells that are JSON are written as they are."""
    text: ClassVar[bool] = True
    """Whether it holds no binary: images are to be written as text."""

    def __init__(self, path: Path, sink: Any) -> None:
        self._path = path
        self._sink = sink

    def write_table(self, table: pa.Table) -> None:
        """Append a table.

        Raises:
            FileInvalid: It cannot hold such a table.
            OSError: It cannot be written.
        """
        with _faults_of(self._path):
            self._write(table if self.lines else _without_json(table))

    @abstractmethod
    def _write(self, table: pa.Table) -> None:
        """Append a table."""

    def _finish(self) -> None:
        """Write what stands behind all tables."""
        return

    def close(self) -> None:
        """End the file; afterwards it holds all that was written.

        Raises:
            OSError: It cannot be written.
        """
        with _faults_of(self._path):
            self._finish()
            self._sink.close()

    def abandon(self) -> None:
        """Let go of a file that is not to be kept."""
        # What cannot be written any more is nobody's loss, and another fault is being told already.
        with contextlib.suppress(OSError, pa.ArrowException):
            self._finish()
        with contextlib.suppress(OSError):
            self._sink.close()


class _ParquetWriter(Writer):
    text = False
    _writer: Any = None

    def _write(self, table: pa.Table) -> None:
        if self._writer is None:
            # Few numbers come twice: looking for those that do takes most of the time of writing them.
            repeated = [field.name for field in table.schema if not _is_of_floats(field.type)]
            self._writer = pyarrow.parquet.ParquetWriter(self._sink, table.schema, use_dictionary=repeated)
        self._writer.write_table(table)

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _CsvWriter(Writer):
    """Writes a cell in quotes where it needs them; pyarrow's own writer quotes every text."""

    flat = True
    _begun = False

    def _write(self, table: pa.Table) -> None:
        if not self._begun:
            self._sink.write((",".join(_quoted(pa.array(table.column_names)).to_pylist()) + "\n").encode())
            self._begun = True
        if not table.num_rows:
            return
        cells = [self._cells(name, table[name]) for name in table.column_names]
        lines = pc.binary_join_element_wise(*cells, ",", null_handling="replace", null_replacement="")
        for chunk in pc.binary_join_element_wise(lines, "", "\n").chunks:
            # One line behind another is what the array holds.
            _, offsets, content = chunk.buffers()
            first, *_, last = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
            self._sink.write(content[first:last])

    def _cells(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """A column as text."""
        try:
            text = pc.cast(column, pa.string())
        except pa.ArrowException as error:
            raise FileInvalid(
                f"{self._path}: column {name!r} holds {column.type}, which cannot be written as text; leave it out "
                "with --keep, or write a Parquet file"
            ) from error
        plain = pa.types.is_primitive(column.type) or pa.types.is_decimal(column.type)
        return text if plain else _quoted(text)


class _LineWriter(Writer):
    lines = True

    def _write(self, table: pa.Table) -> None:
        as_json = [field.name for field in table.schema if field.metadata == AS_JSON]
        for row in table.to_pylist():
            for name in as_json:
                row[name] = None if row[name] is None else orjson.Fragment(row[name])
            self._sink.write(orjson.dumps(row, default=_text, option=orjson.OPT_APPEND_NEWLINE))


_KINDS: dict[str, type[Writer]] = {
    ".csv": _CsvWriter,
    ".parquet": _ParquetWriter,
    ".ndjson": _LineWriter,
    ".jsonl": _LineWriter,
}
WRITABLE = tuple(_KINDS)


@contextlib.contextmanager
def writer(path: Path) -> Iterator[Writer]:
    """Open a file to write tables to; it appears under its name when all has been written.

    Args:
        path: `.csv`, `.parquet`, `.ndjson` or `.jsonl`, or `STANDARD_OUTPUT`, which gets the rows as they come.

    Raises:
        FileInvalid: Of another kind, or it cannot hold such a table.
        OSError: It cannot be written.
    """
    if path == STANDARD_OUTPUT:
        name = Path("standard output")
        yield _LineWriter(name, sys.stdout.buffer)
        with _faults_of(name):
            sys.stdout.buffer.flush()
        return
    if path.suffix not in WRITABLE:
        raise FileInvalid(f"{path}: a file that ends in {', '.join(WRITABLE)} is expected")
    beside = path.with_name(f".{path.name}.writing")
    with _faults_of(path):
        opened = _KINDS[path.suffix](path, beside.open("wb"))
    try:
        yield opened
        opened.close()
        with _faults_of(path):
            beside.replace(path)
    except BaseException:
        opened.abandon()
        raise
    finally:
        beside.unlink(missing_ok=True)


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


@contextlib.contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    """Tell under a file's name what went wrong when it was written."""
    try:
        yield
    except pa.ArrowException as error:
        raise FileInvalid(f"{path}: {' '.join(str(error).split())}") from error
    except OSError as error:
        number = error.errno or errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error


def _quoted(text: Any) -> Any:
    """Cells of CSV, in quotes where they hold what ends a cell."""
    needs = pc.match_substring_regex(text, _ENDS_A_CELL)
    if not pc.any(needs).as_py():
        return text
    doubled = pc.replace_substring(text, '"', '""')
    return pc.if_else(needs, pc.binary_join_element_wise('"', doubled, '"', ""), text)


def _without_json(table: pa.Table) -> pa.Table:
    """A table whose cells of JSON are the texts that they mean; what is nested stays JSON."""
    for place, field in enumerate(table.schema):
        if field.metadata == AS_JSON:
            table = table.set_column(place, field.name, texts_of(table.column(place)))
    return table


def _text(value: object) -> str:
    """What JSON has no type for: binary as a client may send it, dates and decimals as they are written."""
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


def _is_of_floats(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_fixed_size_list(kind))
