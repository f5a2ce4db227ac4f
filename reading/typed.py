"""A column of a whole file by what its values mean: texts that are numbers, flags or timestamps become such."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from bundle.record.fields import DateOrder
from reading import dates, numbers
from reading.formats.ndjson import AS_JSON
from reading.options import Options

STRANGERS = 0.05
"""Share of its filled cells that may be no number in a column of numbers."""
_MOST_NUMBERS = 0.5
"""A column of text with more numbers than this share is said to look like one of numbers."""
_NAMED_ROWS = 10
_NEARLY_ALL = 0.8
_MANY = 50
"""Different texts; fewer are categories with a number in their names."""
_NUMBER_AMID = r"^[^\d]{1,4}\d[\d.,' ]*[^\d]{0,4}$|^[^\d]{0,4}\d[\d.,' ]*[^\d]{1,4}$"
_CODES = 'holds zeros before digits, or more digits than a number keeps: read as codes; kind = "numeric" reads numbers'
_FLAGS = ("true", "false")


@dataclass(frozen=True)
class Typed:
    """A column by what its values mean.

    Args:
        column: (n,) float64, int64, boolean, timestamp in microseconds, text, or as the file has it where its type
            means something else.
        said: What was found by looking, in words that follow the column's name.
        is_nested: Whether cells hold lists or objects.
        order: In which timestamps that were text have year, month and day, where only one fits.
    """

    column: pa.ChunkedArray
    said: tuple[str, ...] = ()
    is_nested: bool = False
    order: DateOrder | None = None


def typed(
    column: pa.ChunkedArray,
    metadata: object,
    options: Options,
    comma_likely: bool = False,
    kind: str | None = None,
    order: DateOrder | None = None,
    rows: Sequence[int] | None = None,
) -> Typed:
    """Find out what the values of a column mean.

    Args:
        column: (n,) as the file has it.
        metadata: Of its field in the file's schema.
        options: What a person said of the file.
        comma_likely: Whether the file speaks for a decimal comma.
        kind: What a person said that the column is: `numeric`, `timestamp`, another kind, or None.
        order: Of its timestamps in a file before; see `dates.looked_at`.
        rows: n numbers of its rows, where they are some of a file's; by default from 1 on.
    """
    rows = range(1, len(column) + 1) if rows is None else rows
    if metadata == AS_JSON:
        column, is_nested = _of_json(column)
        if is_nested:
            return Typed(column, is_nested=True)
    column = plain(column)
    if types.is_string(column.type):
        return _of_text(column, options, comma_likely, kind, order, rows)
    if types.is_integer(column.type) or types.is_floating(column.type):
        if kind == "timestamp":
            return _timestamps_of_numbers(column, options, rows)
        column = without_missing_numbers(column, options)
        if types.is_floating(column.type):
            # NaN is how programs without nulls say missing.
            column = pc.if_else(pc.fill_null(pc.is_nan(column), False), pa.scalar(None, column.type), column)
        if types.is_integer(column.type) and not numbers.are_exact(column):
            return Typed(pc.cast(column, pa.string()), ("holds whole numbers beyond 2^53, which are read as text",))
        if types.is_integer(column.type):
            column = pc.cast(column, pa.int64())
    return Typed(column)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without what only its storage knows: dictionaries, views, halves, decimals, large texts."""
    kind = column.type
    if types.is_dictionary(kind):
        column = pc.cast(column, kind.value_type)
        kind = column.type
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pc.cast(column, pa.string())
    if types.is_float16(kind):
        return pc.cast(column, pa.float32())
    if types.is_decimal(kind):
        return _of_decimals(column)
    if types.is_timestamp(kind):
        # Python's datetime ends at microseconds, and an hour does not need more.
        return pc.cast(column, pa.timestamp("us", kind.tz), safe=False)
    return column


def without_missing_numbers(column: pa.ChunkedArray, options: Options) -> pa.ChunkedArray:
    """A column of numbers without those that a person said to mean missing."""
    marks = []
    for text in options.missing_values or ():
        try:
            marks.append(float(text))
        except ValueError:
            continue
    if not marks:
        return column
    wrong = pc.is_in(pc.cast(column, pa.float64(), safe=False), pa.array(marks))
    return pc.if_else(wrong, pa.scalar(None, column.type), column)


@dataclass(frozen=True)
class Counted:
    """How the numbers of a column are timestamps.

    Args:
        form: How they are written, where they are text.
        way: See `dates.counted`.
    """

    form: numbers.NumberFormat | None
    way: str


def counted(column: pa.ChunkedArray, options: Options) -> Counted | None:
    """How a column of numbers, or of text that is numbers, holds timestamps; None where it holds none."""
    form = None
    if types.is_string(column.type):
        form = numbers.looked_at(column, options)
        if form is None:
            return None
    way = dates.counted(_numbers_of(column, form, options)[0])
    return None if way is None else Counted(form, way)


def numbered_timestamps(
    column: pa.ChunkedArray, found: Counted, options: Options
) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.bool_]]:
    """A column of numbers, or of text that is numbers, read as timestamps.

    Returns:
        (n,) datetime64 in microseconds, NaT where missing; and (n,) whether a cell is filled and no timestamp.
    """
    values, strangers = _numbers_of(column, found.form, options)
    read = dates.of_numbers(values, found.way)
    return read, strangers | (np.isnat(read) & ~np.isnan(values))


def _numbers_of(
    column: pa.ChunkedArray, form: numbers.NumberFormat | None, options: Options
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """(n,) numbers, NaN where missing; and (n,) whether a cell is filled and no number."""
    strangers = np.zeros(len(column), bool)
    if form is not None:
        read = numbers.parse(column, form, options)
        column, strangers = read.values, read.strangers
    return np.asarray(without_missing_numbers(column, options)).astype(np.float64), strangers


def texts_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of JSON as the texts that its cells mean: without quotes around texts."""
    return _of_json(column)[0]


def _of_json(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, bool]:
    cells: Sequence[str | None] = column.to_pylist()
    is_nested = any(cell is not None and cell[:1] in "[{" for cell in cells)
    found = [orjson.loads(cell) if cell is not None and cell[:1] == '"' else cell for cell in cells]
    return pa.chunked_array([pa.array(found, pa.string())]), is_nested


def _of_decimals(column: pa.ChunkedArray) -> pa.ChunkedArray:
    text = pc.cast(column, pa.string())
    if column.type.scale > 0:
        # By its digits: the direct cast makes 7.1000000000000005 of 7.10.
        return pc.cast(text, pa.float64())
    try:
        return pc.cast(text, pa.int64())
    except pa.ArrowInvalid:
        return text


def _of_text(
    column: pa.ChunkedArray,
    options: Options,
    comma_likely: bool,
    kind: str | None,
    order: DateOrder | None,
    rows: Sequence[int],
) -> Typed:
    empty = pc.equal(pc.utf8_trim_whitespace(column), "")
    texts = pc.if_else(empty, pa.scalar(None, pa.string()), column)
    if texts.null_count == len(texts):
        return Typed(pa.chunked_array([pa.nulls(len(texts))]))
    if kind == "categorical":
        return Typed(texts)
    if pc.all(pc.is_in(pc.utf8_trim_whitespace(texts.drop_null()), pa.array(options.missing))).as_py():
        return Typed(pa.chunked_array([pa.nulls(len(texts))]))
    if kind == "timestamp" or kind is None:
        found = _timestamps(texts, options, comma_likely, order, rows)
        if found is not None:
            return found
    if kind == "timestamp":
        return _timestamps_of_numbers(texts, options, rows)
    flags = _flags(texts, options)
    if flags is not None and kind != "numeric":
        return flags
    return _numbers(texts, options, comma_likely, kind, rows)


def _timestamps(
    texts: pa.ChunkedArray, options: Options, comma_likely: bool, order: DateOrder | None, rows: Sequence[int]
) -> Typed | None:
    if options.date_format is not None:
        values, wrong = dates.parse(texts, options.date_format, options)
        if wrong.all() or wrong.sum() > STRANGERS * max(1, len(texts) - texts.null_count):
            return None
        return Typed(pa.chunked_array([pa.array(values)]), _strangers_said(texts, wrong, rows))
    form = dates.looked_at(texts, options, comma_likely, order)
    if form is None:
        return None
    values, _ = dates.parse(texts, form, options)
    said = [f"read as {form}"]
    if form.is_guess:
        said.append("another order of day, month and year would fit: date_format in [data] says it")
    # Where a month is a name, nothing is known of the order of numbers.
    sure = None if form.is_guess or form.named else form.order
    return Typed(pa.chunked_array([pa.array(values)]), ("; ".join(said),), order=sure)


def _timestamps_of_numbers(column: pa.ChunkedArray, options: Options, rows: Sequence[int]) -> Typed:
    found = counted(column, options)
    if found is None:
        return Typed(column)
    values, wrong = numbered_timestamps(column, found, options)
    return Typed(pa.chunked_array([pa.array(values)]), _strangers_said(pc.cast(column, pa.string()), wrong, rows))


def _flags(texts: pa.ChunkedArray, options: Options) -> Typed | None:
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    flags = pc.is_in(lower, pa.array(_FLAGS))
    missing = pc.or_(pc.is_null(lower), pc.is_in(pc.utf8_trim_whitespace(texts), pa.array(options.missing)))
    if not pc.any(flags).as_py() or not pc.all(pc.or_(flags, pc.fill_null(missing, True))).as_py():
        return None
    found = pc.if_else(flags, pc.equal(lower, "true"), pa.scalar(None, pa.bool_()))
    return Typed(found)


def _numbers(
    texts: pa.ChunkedArray, options: Options, comma_likely: bool, kind: str | None, rows: Sequence[int]
) -> Typed:
    if kind != "numeric" and numbers.has_codes(texts, options):
        return Typed(texts, (_CODES,))
    form = numbers.looked_at(texts, options, comma_likely)
    if form is None:
        return Typed(texts, _hints(texts))
    read = numbers.parse(texts, form, options)
    found, wrong = len(texts) - read.values.null_count, int(read.strangers.sum())
    if not found or (kind != "numeric" and wrong > STRANGERS * (found + wrong)):
        share = found / max(1, found + wrong)
        if share <= _MOST_NUMBERS:
            return Typed(texts, _hints(texts))
        return Typed(
            texts, (f'looks like numbers in {share:.0%} of its cells; kind = "numeric" has the others missing',)
        )
    if types.is_floating(read.values.type) and read.are_codes:
        return Typed(texts, ("holds whole numbers beyond 2^53, which are read as text",))
    said = []
    if form.is_said:
        guess = "; a guess, as both marks would fit: decimal in [data] says it" if form.is_guess else ""
        said.append(f"read with {form}{guess}")
    said += _cells_said(texts, numbers.without_unit(texts, form, options), f"read without {form.unit}", rows)
    zeros = 'read without its zeros (kind = "categorical" keeps them)'
    said += _cells_said(texts, numbers.with_zeros_before(texts), zeros, rows)
    marks = pc.and_(pc.is_valid(texts), pc.is_null(read.values))
    said += _strangers_said(texts, np.asarray(marks), rows)
    return Typed(read.values, tuple(said))


def _hints(texts: pa.ChunkedArray) -> tuple[str, ...]:
    """That nearly all cells hold a number or a timestamp, in forms that are not read or that differ."""
    cells = texts.drop_null()
    if _share(cells, dates.LOOSE) >= _NEARLY_ALL:
        return ("looks like timestamps, in several forms or one that is not known; date_format in [data] says it",)
    if pc.count_distinct(cells).as_py() > _MANY and _share(cells, _NUMBER_AMID) >= _NEARLY_ALL:
        example = cells[0].as_py()
        return (f"looks like numbers amid other signs, as {example!r}, and is read as text",)
    return ()


def _share(cells: pa.ChunkedArray, pattern: str) -> float:
    found: float = pc.mean(pc.cast(pc.match_substring_regex(cells, pattern), pa.float64())).as_py() or 0.0
    return found


def _strangers_said(texts: pa.ChunkedArray, wrong: npt.NDArray[np.bool_], rows: Sequence[int]) -> tuple[str, ...]:
    return _cells_said(texts, wrong, "missing", rows)


def _cells_said(
    texts: pa.ChunkedArray, chosen: npt.NDArray[np.bool_], what: str, rows: Sequence[int]
) -> tuple[str, ...]:
    places = np.flatnonzero(chosen)
    if not places.size:
        return ()
    cells = pc.unique(texts.take(pa.array(places))).to_pylist()
    shown = ", ".join(repr(cell) for cell in cells[:3]) + (", …" if len(cells) > 3 else "")
    named = ", ".join(str(rows[place]) for place in places[:_NAMED_ROWS]) + (", …" if places.size > _NAMED_ROWS else "")
    cells_are = "cell is" if places.size == 1 else "cells are"
    return (f"{places.size} {cells_are} {what} ({shown}; {'row' if places.size == 1 else 'rows'} {named})",)
