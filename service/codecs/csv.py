"""text/csv (RFC 4180, UTF-8, with a header row): cells to tensors, scores to rows; what CSV files share with it."""

import codecs
import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bundle.contents.manifest import Manifest
from bundle.errors import MOST_PROBLEMS, InvalidRecords, Problem
from bundle.record import images
from bundle.record.fields import BooleanField, CategoricalField, NumericField
from bundle.record.records import MISSING_TEXTS
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.codecs import arrow, columns, scan
from service.engine.question import Question
from service.engine.request import Admission, ScoreRequest, admitted
from service.engine.verdicts import Verdicts
from service.errors import BodyMalformed, Fault, RequestInvalid, TooManyRecords

MEDIA_TYPE = "text/csv"

_MISSING = pa.array(MISSING_TEXTS)
_FLAGS = {
    text: value
    for value, texts in ((True, ("true", "True", "TRUE", "1", "1.0")), (False, ("false", "False", "FALSE", "0", "0.0")))
    for text in texts
}
_FLAG_TEXTS, _FLAG_VALUES = pa.array(_FLAGS), pa.array(_FLAGS.values())
_SLACK = 4  # commas and ends of lines that texts may hold, for each that the cells need
_SMALL = 2**12
# Bytes that pyarrow, numpy and CPython take for each, measured by tests/service/codecs/test_bounds.py.
_CELL, _TEXT, _VALUE = 24, 104, 24
_COPIES = 4  # parsed, converted, with what is missing as null; and once more where a number is none
_WORST, _BASE = 128, 2**20
_HEADER_BYTES = 2**16
"""Most bytes of a header row that are looked at: more can only be columns that are no field."""
_LARGEST_BLOCK = 2**31 - 1
_WRITTEN = pyarrow.csv.WriteOptions(eol="\r\n", quoting_header="none")


class Ragged(Exception):
    """A row has more or fewer cells than the header; the message says which."""


def decode(
    body: bytes, manifest: Manifest, max_records: int, question: Question, admission: Admission = admitted
) -> ScoreRequest:
    """Read a body of `POST /score`.

    Args:
        body: UTF-8 text; its first row names the fields, or the timestamp that fields derive from.
        manifest: Of the model that is asked.
        max_records: Most records in a request.
        question: What is asked of each record.
        admission: May refuse so many records before their tensors are made.

    Raises:
        BodyMalformed: Not CSV, or not UTF-8.
        RequestInvalid: A column or a cell that does not fit.
        TooManyRecords: More records than allowed.
    """
    schema = manifest.record
    names, more = _header(body)
    _check_header(schema, names)
    if len(body) > _SMALL:
        _check_cells(_Cells.of(body), len(names), max_records)
    if not more:
        raise RequestInvalid([Fault("", "at least one record is expected, after the header row")])
    numbers = [name for name in _numbers(schema) if name in names]
    try:
        try:
            table = _table(body, names, numbers)
        except pa.ArrowInvalid:
            # pyarrow says what the cell holds; which one it is shows once they are all read as text.
            wrong = _wrong_numbers(_table(body, names, ()), numbers)
            if not wrong:
                raise
            raise RequestInvalid([columns.row_fault(each.row, each.field, each.detail) for each in wrong]) from None
    except Ragged as error:
        raise BodyMalformed(f"not CSV: {error}") from None
    except pa.ArrowException as error:
        raise BodyMalformed("not CSV in UTF-8 with a header row, or damaged") from error
    if table.num_rows > max_records:
        raise TooManyRecords(f"{table.num_rows} records; a request holds at most {max_records}, so send several")
    admission(table.num_rows, question)
    try:
        return ScoreRequest(columns.tensors(schema, cells(schema, table)), question)
    except InvalidRecords as error:
        raise RequestInvalid(
            [columns.row_fault(each.row, each.field, each.detail) for each in error.problems]
        ) from None


def bound(body: bytes, manifest: Manifest, max_records: int) -> int:
    """Most bytes that `decode` makes of a body, the body itself apart; see `service.score.negotiation.Codec.bound`."""
    schema = manifest.record
    if isinstance(schema, TableSchema) and len(body) <= _SMALL:
        return _BASE + len(body) * _WORST + (body.count(b"\n") + body.count(b"\r")) * len(schema.names) * _VALUE
    cells = _Cells.of(body)
    names, _ = _header(body)
    _check_header(schema, names)
    _check_cells(cells, len(names), max_records)
    numbers = _numbers(schema)
    texts = sum(name not in numbers for name in names)
    rows = min(cells.lines, max_records)
    match schema:
        case ImageSchema():
            values = images.bound(schema.field, rows, len(body))
        case TableSchema():
            values = rows * len(schema.names) * _VALUE
    objects = min(cells.all, cells.lines * texts) * _TEXT + len(body) * scan.width(body)
    return cells.all * _CELL + objects + values + _COPIES * len(body) + _BASE


def encode(name: str, version: int, question: Question, verdicts: Verdicts) -> bytes:
    """Write the answer of `POST /score`: a header and a row a record, latent means as `latent_mean_0` and so on.

    Args:
        name: Not written; the response's head says which model answered.
        version: Not written either.
        question: Nor this.
        verdicts: Of B records; a cell without a number is empty.
    """
    target = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.record_batch(arrow.columns(verdicts, flat=True)), target, _WRITTEN)
    content: bytes = target.getvalue().to_pybytes()
    return content


def options(numbers: Iterable[str], texts: Iterable[str], ragged: list[str]) -> tuple[Any, Any]:
    """How pyarrow is to parse and to convert CSV.

    Args:
        numbers: Columns read as float64.
        texts: Columns read as text.
        ragged: Takes what is wrong with a row that has more or fewer cells than the header.
    """

    def refuse(row: Any) -> str:
        line = f"line {row.number}" if row.number is not None else "a line"
        ragged.append(f"{line} has {row.actual_columns} cells, the header {row.expected_columns}")
        return "error"

    types = dict.fromkeys(texts, pa.string()) | dict.fromkeys(numbers, pa.float64())
    parse = pyarrow.csv.ParseOptions(invalid_row_handler=refuse, newlines_in_values=True)
    return parse, pyarrow.csv.ConvertOptions(null_values=list(MISSING_TEXTS), column_types=types)


def cells(schema: RecordSchema, table: pa.Table) -> pa.Table:
    """A table with the texts of its fields as values: what `MISSING_TEXTS` lists is null, flags are booleans.

    Args:
        schema: The bundle's fields.
        table: Numbers and texts as `options` has them read; columns that are no field stay as they are.

    Raises:
        InvalidRecords: A cell of a boolean field is none.
    """
    flags = {field.name for field in schema.fields if isinstance(field, BooleanField)}
    # A category that is called NA is one where training saw it; the field itself says then what is missing.
    own = {field.name for field in schema.fields if isinstance(field, CategoricalField) and field.missing_texts}
    for index, name in enumerate(table.column_names):
        column = table[name]
        if not schema.takes(name) or not pa.types.is_string(column.type) or name in own:
            continue
        missing = pc.is_in(column, _MISSING)
        if name in flags:
            values = pc.take(_FLAG_VALUES, pc.index_in(column, _FLAG_TEXTS))
            wrong = np.flatnonzero(pc.and_not(pc.is_null(values), missing))[:MOST_PROBLEMS]
            if wrong.size:
                raise InvalidRecords([Problem(int(row), name, "true or false is expected") for row in wrong])
        else:
            values = pc.if_else(missing, pa.scalar(None, pa.string()), column)
        table = table.set_column(index, name, values)
    return table


def first_wrong_number(column: pa.ChunkedArray) -> int | None:
    """The row of the first cell of a column of text that is no number, if there is one."""
    if _are_numbers(column):
        return None
    first, end = 0, len(column)
    while end - first > 1:
        middle = (first + end) // 2
        if _are_numbers(column.slice(first, middle - first)):
            first = middle
        else:
            end = middle
    return first


def _are_numbers(column: pa.ChunkedArray) -> bool:
    filled = column.filter(pc.invert(pc.is_in(column, _MISSING)))
    try:
        pc.cast(pc.utf8_trim_whitespace(filled), pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _wrong_numbers(table: pa.Table, numbers: Iterable[str]) -> list[Problem]:
    rows = ((first_wrong_number(table[name]), name) for name in numbers)
    found = sorted((row, name) for row, name in rows if row is not None)
    return [Problem(row, name, "a number is expected") for row, name in found[:MOST_PROBLEMS]]


class _Cells(NamedTuple):
    """What of its syntax a body holds, in quotes or not.

    Args:
        lines: Ends of lines, and the end of the body.
        commas: Commas.
    """

    lines: int
    commas: int

    @classmethod
    def of(cls, body: bytes) -> "_Cells":
        """Those of a body."""
        newlines, returns, commas = scan.count(body, b"\n\r,")
        return cls(newlines + returns + 1, commas)

    @property
    def all(self) -> int:
        """Most cells."""
        return self.lines + self.commas


def _check_header(schema: RecordSchema, names: Sequence[str]) -> None:
    if not any(map(schema.takes, names)) and any(names):
        # Likely the first record of many: what it holds is not sent back.
        what = f"the first row is to name the fields; none of its {len(names)} cells is one: send a header row"
        raise RequestInvalid([Fault("", what)])
    columns.check_columns(schema, names)


def _check_cells(cells: _Cells, columns: int, max_records: int) -> None:
    most = _SLACK * (max_records + 2)
    if cells.lines > 2 * most or cells.all > (columns + 1) * most:
        raise TooManyRecords(f"more cells than {max_records} records hold, which is the most of a request")


def _numbers(schema: RecordSchema) -> dict[str, NumericField]:
    """The numeric fields by name, in order."""
    return {field.name: field for field in schema.fields if isinstance(field, NumericField)}


def _header(body: bytes) -> tuple[Sequence[str], bool]:
    """The cells of the first row, and whether anything follows it.

    Raises:
        BodyMalformed: There is none, or it is not CSV.
    """
    start = body[:_HEADER_BYTES]
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        text = io.StringIO(decoder.decode(start, final=len(start) == len(body)), newline="")
        names = next(csv.reader(text, strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        raise BodyMalformed("not CSV: the first row is to name the columns, in UTF-8") from None
    if not names:
        raise BodyMalformed("not CSV: the first row is to name the columns, and there is none")
    return names, len(start) < len(body) or text.read(1) != ""


def _table(body: bytes, names: Sequence[str], numbers: Iterable[str]) -> pa.Table:
    ragged: list[str] = []
    parse, convert = options(numbers, names, ragged)
    # All of it is one block, so that no row lies across two; with threads, a ragged row would not know its number.
    block = min(len(body) + 1, _LARGEST_BLOCK)
    # The names are given, or a header of a million columns would make as many.
    read = pyarrow.csv.ReadOptions(use_threads=False, block_size=block, column_names=names, skip_rows_after_names=1)
    try:
        return pyarrow.csv.read_csv(pa.py_buffer(body), read, parse, convert)
    except pa.ArrowInvalid as error:
        if ragged:
            raise Ragged(ragged[0]) from error
        raise
