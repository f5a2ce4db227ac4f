"""Delimited text: CSV, TSV and what spreadsheets make of them; every column as the text that it is."""

import codecs
from collections.abc import Iterator, Sequence
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
from reading.formats.dialect import looked_at
from reading.options import Options

_HEAD = 2**20
"""Bytes that are looked at."""
_BLOCK = 2**23
"""Bytes in a block; a row has to fit into one."""
_FEW_COLUMNS = 3
"""In files of fewer columns a text with a comma in a line of its own looks like a row."""
_UNSAID = ("utf-8", "utf-8-sig")


class DelimitedFile:
    """Reads delimited text; see `reading.opening.TableFile`.

    A cell that is empty, in quotes or not, is null.

    Args:
        path: The file.
        options: What a person said of it.
        skip: Whether rows of too few or too many cells are passed over, and counted.
    """

    is_text: bool = True

    def __init__(self, path: Path, options: Options, skip: bool = False) -> None:
        self._path, self._skip = path, skip
        encoding, is_guess = (_known(options.encoding), False) if options.encoding else raw.encoding(path)
        with raw.opened(path) as unpacked:
            start = unpacked.stream.read(_HEAD + 1)
        self._dialect = looked_at(
            self._decoded(start[:_HEAD], encoding), len(start) <= _HEAD, encoding, options, str(path)
        )
        names = self._dialect.names
        self.schema = pa.schema([(name, pa.string()) for name in names[: len(names) - self._dialect.left_out]])
        self.skipped: list[str] = []
        self.comma_likely = self._dialect.decimal_comma
        packed = raw.packing(path)
        written = None if encoding in _UNSAID else encoding + (" (a guess)" if is_guess else "")
        self.said: tuple[str, ...] = tuple(each for each in (*self._dialect.said, written, packed) if each)

    def blocks(self) -> Iterator[Block]:
        """See `TableFile.blocks`."""
        following = 1
        ragged: dict[int, str] = {}
        for table, share in self._tables(ragged):
            numbers: Sequence[int] = range(following, following + table.num_rows)
            if ragged:
                free = (number for number in count(following) if number not in ragged)
                numbers = list(islice(free, table.num_rows))
            if table.num_rows:
                following = numbers[-1] + 1
            yield Block(table, str(self._path), numbers, "row", share)
        self.skipped = list(ragged.values())

    def _tables(self, ragged: dict[int, str]) -> Iterator[tuple[pa.Table, float]]:
        read, parse, convert = self._settings(ragged)
        try:
            with (
                raw.opened(self._path) as unpacked,
                pyarrow.csv.open_csv(unpacked.stream, read, parse, convert) as reader,
            ):
                rows = 0
                for batch in reader:
                    table = pa.Table.from_batches([batch]).select(range(len(self.schema)))
                    table = table.rename_columns(self.schema.names)
                    self._refuse_swallowed_rows(table, rows)
                    rows += table.num_rows
                    yield (_without_a_space(table) if self._dialect.spaced else table), unpacked.share
        except UnicodeDecodeError as error:
            raise FileInvalid(self._not_text(error)) from error
        except pa.ArrowInvalid as error:
            first = next(iter(ragged.values()), None)
            raise FileInvalid(f"{self._path}: {first or _said(error)}") from error

    def _refuse_swallowed_rows(self, table: pa.Table, before: int) -> None:
        """Refuse a cell that holds whole rows: its quote was opened and not closed.

        Raises:
            FileInvalid: There is one.
        """
        if len(self.schema) < _FEW_COLUMNS:
            return
        for place, column in enumerate(table.columns):
            long = np.flatnonzero(np.asarray(pc.fill_null(pc.match_substring(column, "\n"), False)))
            for row in long.tolist():
                lines = column[row].as_py().splitlines()[1:]
                swallowed = sum(line.count(self._dialect.delimiter) == len(self.schema) - 1 for line in lines)
                if swallowed:
                    raise FileInvalid(
                        f"{self._path}: row {before + row + 1}, column {self.schema.names[place]!r}: a quote is opened "
                        f"there and {swallowed} rows stand in the cell; close it, or double it if it is meant as a sign"
                    )

    def _settings(self, ragged: dict[int, str]) -> tuple[Any, Any, Any]:
        def refuse(row: Any) -> str:
            number = row.number - self._dialect.after
            ragged[number] = (
                f"row {number} has {row.actual_columns} cells, and there are {row.expected_columns} columns"
            )
            return "skip" if self._skip else "error"

        dialect = self._dialect
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
