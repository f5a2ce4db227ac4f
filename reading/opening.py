"""A table of records in files: opened, and read some rows at a time."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from reading.block import Block
from reading.errors import FileInvalid
from reading.formats.columnar import ArrowFile, ParquetFile
from reading.formats.delimited import DelimitedFile
from reading.formats.ndjson import AS_JSON, NdjsonFile, in_json
from reading.formats.section import Section
from reading.options import Options
from reading.parts import Part, parts


class _OneFile(Protocol):
    """Reads one file."""

    schema: pa.Schema
    """Its columns, in order, as they stand in the file."""
    comma_likely: bool
    """Whether its numbers speak for a decimal comma."""
    is_text: bool
    """Whether every cell is text, whatever it means."""

    @property
    def said(self) -> Sequence[str]:
        """How it was read where a reader could expect otherwise, in words."""

    @property
    def skipped(self) -> Sequence[str]:
        """Rows that could not be taken apart and were passed over, in words; complete when all blocks are there."""

    def blocks(self) -> Iterator[Block]:
        """All its rows, in order.

        Raises:
            FileInvalid: Damaged; names the file and the row or line.
            OSError: It cannot be read.
        """


class TableFile(_OneFile, Protocol):
    """Reads a table of records."""

    is_joined: bool
    """Whether it is several files, in each of which rows are counted anew."""
    partly: Sequence[str]
    """Columns that some of these files lack; they are missing in all their rows."""


_TEXTS: Mapping[str, Callable[[Path, Options, bool, Section | None, Any], _OneFile]] = {
    "delimited": DelimitedFile,
    "ndjson": NdjsonFile,
}


def opened(path: Path, options: Options | None = None, skip: bool = False) -> TableFile:
    """Open a table of records.

    Args:
        path: A file, a folder of parts, or a pattern; see `reading.parts`.
        options: What a person said of it.
        skip: Whether rows that cannot be taken apart are passed over, and counted.

    Raises:
        FileInvalid: Not there, of a kind that is not read, damaged, or with two columns of one name.
        OSError: It cannot be read.
    """
    found = parts(path)
    if len(found) == 1 and not found[0].constants:
        return _plain(found[0], options or Options(), skip)
    return _Joined(path, found, options or Options(), skip)


def opened_part(part: Part, options: Options | None = None, skip: bool = False) -> TableFile:
    """Open one file of a table, or some row groups of it, with the columns that its folders name.

    Args:
        part: The file.
        options: What a person said of it.
        skip: Whether rows that cannot be taken apart are passed over, and counted.

    Raises:
        FileInvalid: Damaged, or with two columns of one name.
        OSError: It cannot be read.
    """
    if not part.constants:
        return _plain(part, options or Options(), skip)
    return _Joined(part.path, [part], options or Options(), skip)


def read(file: TableFile) -> tuple[pa.Table, list[Block]]:
    """All rows of a file.

    Returns:
        Its table, and the blocks that it was joined of, without their tables' rows: they know where a row stands.
    """
    blocks = list(file.blocks())
    table = pa.concat_tables([each.table for each in blocks]) if blocks else pa.Table.from_batches([], file.schema)
    # A slice of no rows would keep all of them in memory.
    return table, [replace(each, table=pa.Table.from_batches([], each.table.schema)) for each in blocks]


def _plain(part: Part, options: Options, skip: bool) -> TableFile:
    if part.kind == "parquet":
        return _Plain(ParquetFile(part.path, options, skip, part.groups, part.filesystem), part.path)
    if part.kind == "arrow":
        return _Plain(ArrowFile(part.path, options, skip), part.path)
    return _Plain(_TEXTS[part.kind](part.path, options, skip, part.section, part.found), part.path)


class _Plain:
    """A file whose views are plain text and bytes, which every writer takes."""

    def __init__(self, file: _OneFile, path: Path) -> None:
        self._file = file
        names = file.schema.names
        if doubled := sorted({name for name in names if name and names.count(name) > 1}):
            raise FileInvalid(f"{path}: two columns are named {doubled[0]!r}; rename one of them")
        self.schema = pa.schema(
            [pa.field(each.name, _without_views(each.type), metadata=each.metadata) for each in file.schema],
            file.schema.metadata,
        )
        self.said: Sequence[str] = file.said
        self.comma_likely, self.is_text = file.comma_likely, file.is_text
        self.is_joined = False
        self.partly: Sequence[str] = ()

    @property
    def skipped(self) -> Sequence[str]:
        """See `TableFile.skipped`."""
        return self._file.skipped

    def blocks(self) -> Iterator[Block]:
        """See `TableFile.blocks`."""
        for block in self._file.blocks():
            table = block.table
            yield replace(block, table=table if table.schema.types == self.schema.types else table.cast(self.schema))


class _Joined:
    """Several files as one: every column that any of them has, and those that their folders name."""

    def __init__(self, path: Path, found: Sequence[Part], options: Options, skip: bool) -> None:
        self._parts = found
        self._files = [_plain(part, options, skip) for part in found]
        self.schema = self._joined()
        kinds = {each: None for file in self._files for each in file.said}
        held = Counter(name for file in self._files for name in file.schema.names)
        self.partly: Sequence[str] = tuple(name for name, count in held.items() if count < len(self._files))
        lacks = [f"{name} is in {held[name]} of them alone" for name in self.partly]
        several = (f"{len(found)} files one behind another",) if len(found) > 1 else ()
        self.said: Sequence[str] = (*several, *lacks, *kinds)
        self.comma_likely = any(file.comma_likely for file in self._files)
        self.is_text = self._files[0].is_text
        self.is_joined = len(found) > 1

    @property
    def skipped(self) -> Sequence[str]:
        """See `TableFile.skipped`."""
        pairs = zip(self._parts, self._files, strict=True)
        return [f"{part.path.name}: {each}" for part, file in pairs for each in file.skipped]

    def blocks(self) -> Iterator[Block]:
        """See `TableFile.blocks`."""
        for done, (part, file) in enumerate(zip(self._parts, self._files, strict=True)):
            for block in file.blocks():
                table = self._completed(block, part.constants)
                yield replace(block, table=table, share=(done + block.share) / len(self._files))

    def _joined(self) -> pa.Schema:
        types: dict[str, pa.DataType] = {}
        metadata: dict[str, dict[bytes, bytes] | None] = {}
        for file in self._files:
            for field in file.schema:
                metadata.setdefault(field.name, field.metadata)
                of_both = _of_both(types.setdefault(field.name, field.type), field.type)
                if of_both is None or AS_JSON in (field.metadata, metadata[field.name]):
                    types[field.name], metadata[field.name] = pa.string(), AS_JSON
                else:
                    types[field.name] = of_both
        for part in self._parts:
            for name in part.constants:
                types[name] = pa.string()
        first = self._files[0].schema.metadata
        return pa.schema([pa.field(name, kind, metadata=metadata.get(name)) for name, kind in types.items()], first)

    def _completed(self, block: Block, constants: Mapping[str, str | None]) -> pa.Table:
        table, columns = block.table, []
        for field in self.schema:
            if field.name in constants:
                columns.append(pa.array([constants[field.name]] * table.num_rows, pa.string()))
            elif field.name not in table.column_names:
                columns.append(pa.nulls(table.num_rows, field.type))
            elif field.metadata == AS_JSON != table.schema.field(field.name).metadata:
                columns.append(in_json(table[field.name]))
            else:
                columns.append(_as(table[field.name], field, block.file))
        return pa.table(columns, schema=self.schema)


def _without_views(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def _of_both(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """A type that holds the values of both; None where there is none."""
    schemas = [pa.schema([("", one)]), pa.schema([("", other)])]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").types[0]
    except pa.ArrowException:
        return None


def _as(column: pa.ChunkedArray, field: pa.Field, file: str) -> pa.ChunkedArray:
    if column.type == field.type:
        return column
    try:
        return pc.cast(column, field.type)
    except pa.ArrowException as error:
        raise FileInvalid(
            f"{file}: column {field.name!r} holds {column.type}, in other files it is read as {field.type}, and a "
            "value is too large for that; write it with one type in all of them"
        ) from error
