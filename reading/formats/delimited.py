"""Delimited text: CSV, TSV and what spreadsheets make of them; every column as the text that it is."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from reading.block import Block
from reading.errors import FileInvalid
from reading.formats import raw
from reading.formats.dialect import Dialect, looked_at
from reading.formats.section import Section
from reading.options import Options

_HEAD = 2**20
"""Bytes that are looked at."""
_BLOCK = 2**23
"""Bytes in a block; a row has to fit into one."""
_FEW_COLUMNS = 3
"""In files of fewer columns a text with a comma in a line of its own looks like a row."""
_SHOWN = 40
"""Characters of a row that a message quotes."""
_UNSAID = ("utf-8", "utf-8-sig")


@dataclass
class _Ragged:
    """Rows of too few or too many cells.

    Args:
        skipped: Those that were passed over, in words, by their number.
        refused: The one that was not, in words.
    """

    skipped: dict[int, str]
    refused: str | None = None


class DelimitedFile:
    """Reads delimited text; see `reading.opening.TableFile`.

    A cell that is empty, in quotes or not, is null.

    Args:
        path: The file.
        options: What a person said of it.
        skip: Whether rows of too few or too many cells are passed over, and counted.
        section: What of the file is read; None for all.
        dialect: What was found of the whole file, where a section of its rows is read.
    """

    is_text: bool = True

    def __init__(
        self,
        path: Path,
        options: Options,
        skip: bool = False,
        section: Section | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        self._path, self._skip, self._section = path, skip, section
        self._before = 0 if section is None else section.before
        packed = None if dialect else raw.packing(path, section)
        # The header stands before the sections.
        self.dialect = replace(dialect, before=0, after=0) if dialect else self._looked_at(options)
        names = self.dialect.names
        self.schema = pa.schema([(name, pa.string()) for name in names[: len(names) - self.dialect.left_out]])
        self.skipped: list[str] = []
        self.comma_likely = self.dialect.decimal_comma
        self.said: tuple[str, ...] = (*self.dialect.said, packed) if packed else self.dialect.said

    def _looked_at(self, options: Options) -> Dialect:
        said = options.encoding
        encoding, is_guess = (_known(said), False) if said else raw.encoding(self._path, self._section)
        with raw.opened(self._path, self._section) as unpacked:
            start = unpacked.stream.read(_HEAD + 1)
        head = self._decoded(start[:_HEAD], encoding)
        found = looked_at(head, len(start) <= _HEAD, encoding, options, str(self._path))
        written = () if encoding in _UNSAID else (encoding + (" (a guess)" if is_guess else ""),)
        return replace(found, said=(*found.said, *written))

    def blocks(self) -> Iterator[Block]:
        """See `TableFile.blocks`."""
        following = 1 + self._before
        ragged = _Ragged({})
        for table, share in self._tables(ragged):
            numbers: Sequence[int] = range(following, following + table.num_rows)
            if ragged.skipped:
                free = (number for number in count(following) if number not in ragged.skipped)
                numbers = list(islice(free, table.num_rows))
            if table.num_rows:
                following = numbers[-1] + 1
            block = Block(table, str(self._path), numbers, "row", share)
            self._refuse_swallowed_rows(block)
            self._refuse_another_order(block)
            yield block
        self.skipped = list(ragged.skipped.values())

    def _tables(self, ragged: _Ragged) -> Iterator[tuple[pa.Table, float]]:
        read, parse, convert = self._settings(ragged)
        try:
            with (
                raw.opened(self._path, self._section) as unpacked,
                pyarrow.csv.open_csv(unpacked.stream, read, parse, convert) as reader,
            ):
                for batch in reader:
                    table = pa.Table.from_batches([batch]).select(range(len(self.schema)))
                    table = table.rename_columns(self.schema.names)
                    yield (_without_a_space(table) if self.dialect.spaced else table), unpacked.share
        except UnicodeDecodeError as error:
            raise FileInvalid(self._not_text(error)) from error
        except pa.ArrowInvalid as error:
            raise FileInvalid(f"{self._path}: {ragged.refused or _said(error)}") from error

    def _refuse_swallowed_rows(self, block: Block) -> None:
        """Refuse a cell that holds whole rows: its quote was opened and not closed.

        Raises:
            FileInvalid: There is one.
        """
        if len(self.schema) < _FEW_COLUMNS:
            return
        for name, column in zip(self.schema.names, block.table.columns, strict=True):
            long = np.flatnonzero(np.asarray(pc.fill_null(pc.match_substring(column, "\n"), False)))
            for row in long.tolist():
                if swallowed := self._swallowed(column[row].as_py()):
                    raise FileInvalid(f"{block.place(row)}, column {name!r}: {_opened(swallowed, 'the cell')}")

    def _refuse_another_order(self, block: Block) -> None:
        """Refuse a row that has the names of the columns in another order: another file begins there.

        Raises:
            FileInvalid: There is one.
        """
        names = pa.array(self.schema.names)
        rows = np.arange(block.table.num_rows)
        for column in block.table.columns:
            if rows.size:
                rows = rows[np.asarray(pc.fill_null(pc.is_in(column.take(pa.array(rows)), names), False))]
        for row in rows.tolist():
            cells = [column[row].as_py() for column in block.table.columns]
            if len(cells) > 1 and sorted(cells) == sorted(self.schema.names) and cells != self.schema.names:
                raise FileInvalid(
                    f"{block.place(row)} has the names of the columns in another order: two files stand one behind "
                    "the other; divide them there"
                )

    def _swallowed(self, text: str) -> int:
        """How many lines behind the first have the cells of a whole row."""
        cells = len(self.dialect.names)
        return sum(line.count(self.dialect.delimiter) == cells - 1 for line in text.splitlines()[1:])

    def _settings(self, ragged: _Ragged) -> tuple[Any, Any, Any]:
        dialect = self.dialect

        def refuse(row: Any) -> str:
            number = row.number - dialect.before - dialect.after + self._before
            cells = f"{row.actual_columns} {'cell' if row.actual_columns == 1 else 'cells'}"
            said = f"row {number} has {cells}, and there are {row.expected_columns} columns ({_short(row.text)})"
            # An open quote may take the rest of a file, which is more than a row to pass over.
            swallowed = self._swallowed(row.text) if "\n" in row.text else 0
            if self._skip and not swallowed:
                ragged.skipped[number] = said
                return "skip"
            ragged.refused = f"{said}: {_opened(swallowed, 'it')}" if swallowed else said
            return "error"

        # Names may be doubled where they are empty; positions are not.
        names = [str(index) for index in range(len(dialect.names))]
        read = pyarrow.csv.ReadOptions(
            # With threads, a row that does not fit would not know its number.
            use_threads=False,
            block_size=_BLOCK,
            column_names=names,
            skip_rows=dialect.before,
            skip_rows_after_names=dialect.after,
            encoding="utf8" if dialect.encoding in _UNSAID else dialect.encoding,
        )
        parse = pyarrow.csv.ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=dialect.quote,
            double_quote=dialect.escape is None,
            escape_char=dialect.escape or False,
            newlines_in_values=True,
            invalid_row_handler=refuse,
        )
        convert = pyarrow.csv.ConvertOptions(
            null_values=[""], strings_can_be_null=True, column_types=dict.fromkeys(names, pa.string())
        )
        return read, parse, convert

    def _decoded(self, start: bytes, encoding: str) -> str:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            return decoder.decode(start).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise FileInvalid(self._not_text(error)) from error

    def _not_text(self, error: UnicodeDecodeError) -> str:
        return (
            f"{self._path}: is not {error.encoding}: byte 0x{error.object[error.start]:02x} is none of its letters; "
            "say the encoding (encoding, as windows-1252)"
        )


def _short(text: str) -> str:
    first = text.strip().partition("\n")[0]
    return repr(first if len(first) <= _SHOWN else f"{first[:_SHOWN]}…")


def _opened(swallowed: int, where: str) -> str:
    way_out = "close it, or double it if it is meant as a sign"
    return f"a quote is opened there and {swallowed} rows stand in {where}; {way_out}"


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise FileInvalid(f"encoding = {encoding!r} is unknown; examples are utf-8, windows-1252 and utf-16") from error


def _without_a_space(table: pa.Table) -> pa.Table:
    columns = [pc.replace_substring_regex(column, "^ ", "") for column in table.columns]
    empty = pa.scalar(None, pa.string())
    return pa.table([pc.if_else(pc.equal(each, ""), empty, each) for each in columns], names=table.column_names)


def _said(error: pa.ArrowInvalid) -> str:
    text = " ".join(str(error).split())
    if "straddl" in text:
        return f"a row is longer than {_BLOCK // 2**20} MiB, or a quote is opened and never closed"
    return text
