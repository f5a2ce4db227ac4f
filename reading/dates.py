"""Timestamps as people write them; which way a column has is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bundle.record.fields import DateOrder
from reading.options import Options

SECONDS = (946_684_800, 4_102_444_800)
"""The years 2000 to 2100 as seconds since 1970."""
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""How many of each since 1970 programs write for a timestamp, a second."""

LOOSE = (
    r"^\D{0,6}(?:\d{4}\s*[-/.年]\s*\d{1,2}\s*[-/.月]\s*\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|"
    r"\d{1,2}[-/. ]{1,2}\pL{3,9}[-/. ]{1,2}\d{2,4}|\pL{3,9}\.? \d{1,2},? \d{4})(?:[^\d.].*)?$"
)
"""What looks like a timestamp, in whatever form."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED = rf"(?P<m>(?i:{'|'.join(_MONTHS)})[a-zA-Z]*\.?)"
_WEEKDAY = r"(?:(?i:mon|tue|wed|thu|fri|sat|sun)[a-z]*,?\s+)?"
_TIME = (
    r"(?:(?:T|\s*,?\s+)(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d{1,9}))?)?"
    r"(?:\s*(?P<p>[AaPp]\.?[Mm]\.?))?(?:\s*(?P<z>Z|UTC|GMT|[-+]\d{2}:?\d{2}|[-+]\d{2}))?)?"
)
_SHORT_YEARS = 69
"""POSIX: two digits up to 68 are of this century, others of the one before."""
_SAMPLE = 1000


@dataclass(frozen=True)
class DateFormat:
    """How the timestamps of a column are written.

    Args:
        order: Of year, month and day.
        separator: Between them.
        named: Whether months are names.
        short: Whether years have two digits.
        is_guess: Whether another order of year, month and day would fit the cells as well.
    """

    order: DateOrder
    separator: str
    named: bool = False
    short: bool = False
    is_guess: bool = False

    @cached_property
    def pattern(self) -> str:
        """What a cell looks like, as RE2 has it; its parts are named."""
        parts = {
            "y": r"(?P<y>\d{2})" if self.short else r"(?P<y>\d{4})",
            "m": _NAMED if self.named else r"(?P<m>\d{1,2})",
            "d": r"(?P<d>\d{1,2})(?:st|nd|rd|th)?",
        }
        between = r",?\s+" if self.separator == " " else "\\" + self.separator
        return rf"^{_WEEKDAY}{between.join(parts[each] for each in self.order)}{_TIME}$"

    def __str__(self) -> str:
        names = {"y": "yy" if self.short else "yyyy", "m": "month" if self.named else "mm", "d": "dd"}
        return self.separator.join(names[each] for each in self.order)


def looked_at(
    column: pa.ChunkedArray, options: Options, day_likely: bool = False, order: DateOrder | None = None
) -> DateFormat | None:
    """How the timestamps of a column are written.

    Args:
        column: (n,) text.
        options: `missing` texts are not looked at.
        day_likely: Whether the file's other signs, as a decimal comma, speak for the day before the month.
        order: That of the column in a file before, which holds here where it fits.

    Returns:
        The format of every cell; None where there is none.
    """
    cells = pc.unique(pc.utf8_trim_whitespace(column.drop_null()))
    cells = cells.filter(pc.invert(pc.is_in(cells, pa.array(options.missing))))
    if not len(cells):
        return None
    fitting = [form for form in _FORMATS if _fit(cells.slice(0, _SAMPLE), form)]
    fitting = [form for form in fitting if _fit(cells, form)]
    if not fitting:
        return None
    if any(form.order == order for form in fitting):
        fitting = [form for form in fitting if form.order == order]
    if len({form.order for form in fitting}) == 1:
        return fitting[0]
    # The rows of most files follow one another in time, under one of the readings only.
    rising = [form for form in fitting if _rises(column, form, options)]
    chosen = rising[0] if len({form.order for form in rising}) == 1 else None
    if all(form.order != "ymd" for form in rising) and _has_fewer_last(cells):
        # Years are fewer than days, so that they stand last.
        fitting = [form for form in fitting if form.order != "ymd"]
        if len({form.order for form in fitting}) == 1:
            return fitting[0]
    if chosen is None:
        wanted = "dmy" if day_likely or fitting[0].separator == "." else "mdy"
        chosen = next((form for form in fitting if form.order == wanted), fitting[0])
    return replace(chosen, is_guess=True)


def parse(
    column: pa.ChunkedArray, form: DateFormat | str, options: Options
) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.bool_]]:
    """Read text as timestamps.

    Args:
        column: (n,) text.
        form: How they are written, or what `strptime` takes.
        options: `missing` texts are NaT.

    Returns:
        (n,) datetime64 in microseconds, in UTC where the text names an offset and as it stands else; and (n,) whether
        a cell is filled and no timestamp.
    """
    trimmed = pc.utf8_trim_whitespace(column)
    missing = np.asarray(pc.or_(pc.is_null(trimmed), pc.fill_null(pc.is_in(trimmed, pa.array(options.missing)), True)))
    values = _by_strptime(trimmed, form) if isinstance(form, str) else _values(trimmed, form)
    return np.where(missing, np.datetime64("NaT"), values), np.isnat(values) & ~missing


def epoch(values: npt.NDArray[np.float64]) -> str | None:
    """The unit in which numbers may count the time since 1970: one of `UNITS`, None where they do not.

    Args:
        values: (n,) without NaN.
    """
    if not len(values) or values.min() == values.max():
        return None
    return next((unit for unit, scale in UNITS.items() if _within(values, scale)), None)


def are_days(values: npt.NDArray[np.float64]) -> bool:
    """Whether numbers are days written as yyyymmdd, or moments as yyyymmddhhmm or yyyymmddhhmmss.

    Args:
        values: (n,) without NaN.
    """
    # Of twelve or fourteen digits the last are hours, minutes and seconds.
    largest = float(values.max()) if len(values) else 0.0
    values = values // next((unit for unit in (10**6, 10**4) if largest >= 1900_01_01 * unit), 1)
    day, month = values % 100, values // 100 % 100
    within = (values >= 1900_01_01) & (values <= 2100_12_31) & (day >= 1) & (day <= 31) & (month >= 1) & (month <= 12)
    return bool(len(values)) and bool(within.all())


def counted(values: npt.NDArray[np.float64]) -> str | None:
    """In which way numbers are timestamps.

    Args:
        values: (n,) days as yyyymmdd, moments as yyyymmddhhmm or yyyymmddhhmmss, or the time since 1970 in one of
            `UNITS`; NaN is missing.

    Returns:
        What `strptime` takes, or the name of the unit; None where the numbers are neither.
    """
    present = values[~np.isnan(values)]
    if are_days(present):
        return {12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(f"{present.max():.0f}"), "%Y%m%d")
    return next((unit for unit, scale in UNITS.items() if len(present) and _within(present, scale)), None)


def of_numbers(values: npt.NDArray[np.float64], way: str) -> npt.NDArray[np.datetime64]:
    """Numbers read as timestamps.

    Args:
        values: (n,) numbers; NaN is missing.
        way: See `counted`.

    Returns:
        (n,) datetime64 in microseconds, NaT where missing or no such timestamp.
    """
    missing = np.isnan(values)
    if way not in UNITS:
        texts = [None if gone else f"{value:.0f}" for value, gone in zip(values, missing, strict=True)]
        return _by_strptime(pa.chunked_array([pa.array(texts, pa.string())]), way)
    scale = UNITS[way]
    missing |= (values < SECONDS[0] * scale) | (values >= SECONDS[1] * scale)
    micros = np.round(np.where(missing, 0, values) / scale * 1e6).astype("datetime64[us]")
    return np.where(missing, np.datetime64("NaT"), micros)


def _within(values: npt.NDArray[np.float64], scale: int) -> bool:
    return bool(SECONDS[0] * scale <= values.min() and values.max() < SECONDS[1] * scale)


def _values(cells: pa.ChunkedArray, form: DateFormat) -> npt.NDArray[np.datetime64]:
    parts = pc.extract_regex(cells, form.pattern)

    def part(name: str) -> pa.ChunkedArray:
        return pc.struct_field(parts, name)

    def number(name: str, otherwise: int) -> npt.NDArray[np.int64]:
        text = part(name)
        given = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
        return np.asarray(pc.fill_null(pc.cast(given, pa.int64()), otherwise))

    year = number("y", 1)
    if form.short:
        year = np.where(year < _SHORT_YEARS, 2000, 1900) + year
    if form.named:
        months = pc.utf8_lower(pc.utf8_slice_codeunits(part("m"), 0, 3))
        month = np.asarray(pc.fill_null(pc.index_in(months, pa.array(_MONTHS)), -1)) + 1
    else:
        month = number("m", 0)
    day, hour, minute, second = number("d", 0), number("H", 0), number("M", 0), number("S", 0)
    half = np.asarray(pc.utf8_lower(pc.utf8_slice_codeunits(pc.fill_null(part("p"), ""), 0, 1)), object)
    hour = np.where(half == "p", hour % 12 + 12, np.where(half == "a", hour % 12, hour))
    fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.fill_null(part("f"), ""), 6, "0"), 0, 6)
    micros = np.asarray(pc.cast(fraction, pa.int64()))
    good = ~np.asarray(pc.is_null(parts)) & (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1)
    good &= (hour < 24) & (minute < 60) & (second < 61)
    first = ((np.where(good, year, 1970) - 1970) * 12 + np.where(good, month, 1) - 1).astype("datetime64[M]")
    date = first.astype("datetime64[D]") + (np.where(good, day, 1) - 1)
    good &= date.astype("datetime64[M]") == first
    seconds = (hour * 60 + minute) * 60 + second - _offsets(part("z"))
    found = date.astype("datetime64[us]") + (seconds * 1_000_000 + micros).astype("timedelta64[us]")
    return np.where(good, found, np.datetime64("NaT"))


def _offsets(zones: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Seconds east of Greenwich."""
    signed = pc.extract_regex(zones, r"^(?P<sign>[-+])(?P<h>\d{2}):?(?P<m>\d{2})?$")
    hours = pc.fill_null(pc.cast(pc.struct_field(signed, "h"), pa.int64()), 0)
    text = pc.struct_field(signed, "m")
    given = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    minutes = pc.fill_null(pc.cast(given, pa.int64()), 0)
    west = np.asarray(pc.fill_null(pc.equal(pc.struct_field(signed, "sign"), "-"), False))
    size: npt.NDArray[np.int64] = np.asarray(hours) * 3600 + np.asarray(minutes) * 60
    return np.where(west, -size, size)


def _by_strptime(cells: pa.ChunkedArray, form: str) -> npt.NDArray[np.datetime64]:
    texts = pc.dictionary_encode(cells).combine_chunks()
    known = np.array([*(_strptime(text, form) for text in texts.dictionary.to_pylist()), None], "datetime64[us]")
    places: npt.NDArray[np.int64] = np.asarray(pc.fill_null(texts.indices, len(texts.dictionary)))
    return known[places]


def _strptime(text: str, form: str) -> datetime | None:
    try:
        found = datetime.strptime(text, form)
    except ValueError:
        return None
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo is not None else found


def _fit(cells: pa.Array, form: DateFormat) -> bool:
    if not pc.all(pc.match_substring_regex(cells, form.pattern)).as_py():
        return False
    return not np.isnat(_values(pa.chunked_array([cells]), form)).any()


def _rises(column: pa.ChunkedArray, form: DateFormat, options: Options) -> bool:
    values, _ = parse(column, form, options)
    known = values[~np.isnat(values)]
    return bool((np.diff(known) >= np.timedelta64(0)).all() or (np.diff(known) <= np.timedelta64(0)).all())


def _has_fewer_last(cells: pa.Array) -> bool:
    """Whether fewer numbers stand at the third place of dates of three than at the first."""
    parts = pc.extract_regex(cells, r"^(?P<first>\d+)\D+\d+\D+(?P<last>\d+)")
    first, last = (pc.count_distinct(pc.struct_field(parts, name)).as_py() for name in ("first", "last"))
    return bool(last < first)


def _formats() -> Sequence[DateFormat]:
    orders: tuple[DateOrder, ...] = ("ymd", "dmy", "mdy")
    year_last: tuple[DateOrder, ...] = ("dmy", "mdy")
    four = [DateFormat(order, mark) for mark, order in product("-/.", orders)]
    named = [
        DateFormat(order, mark, named=True, short=short)
        for short, order, mark in product((False, True), (*year_last, "ymd"), " -")
        if not (short and order == "ymd")
    ]
    two = [DateFormat(order, mark, short=True) for mark, order in product("/.-", (*year_last, "ymd"))]
    return (*four, *named, *two)


_FORMATS = _formats()
