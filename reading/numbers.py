"""Numbers as people write them, with decimal comma, thousands, percent or currency: a column is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reading.options import Decimal, Options

LARGEST_EXACT = 2**53
"""Beyond it float64 tells whole numbers apart no longer."""

_CURRENCY = r"R\$|Rs\.?|\p{Sc}|円|元|EUR|USD|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|AUD|CAD|BRL|kr|zł|Fr\."
_MEASURE = (
    r"°[CFK]?|(?:[kMGTm]?(?:W|Wh|V|A|Hz|Pa|B|bit|bar|g|m|s|l|mol|N|J))|cm|mm|km|µm|nm|µs|ns|min|h|hPa|kWh|lb|ft|in|mph|"
    r"km/h|m/s|m²|m³|rpm|ppm|dB|pcs|Stk"
)
_UNIT = rf"%|{_CURRENCY}|{_MEASURE}"
_DIGITS = "[\\d.][\\d.,'\u2019 \u00a0\u2007\u2009\u202f]*(?:[eE][-+]?\\d+)?"
_SIGN = "[-+(\u2212\u2013]*"
_WITH_UNIT = rf"^{_SIGN}\s*(?P<before>{_CURRENCY})?\s*{_SIGN}\s*{_DIGITS}\s*(?P<after>{_UNIT})?\s*[)-]*$"
_EXPONENT = r"(?:[eE][-+]?\d+)?"
_PLAIN = rf"^[-+]?(?:\d+\.?\d*|\.\d+){_EXPONENT}$"
_GROUPED = r"^[-+]?[1-9]\d{0,2}(\.\d{3})+$"
_INFINITE = r"^[-+]?(?i:inf|infinity)$"
_BRACKETS = r"^[^\w]*\([^\pL\d)]*\d[^)]*\)$"
_MINUS_BEHIND = "\\d\\s*[-\u2212\u2013]$"
_LEADING_ZERO = r"^[-+]?0\d+$"
_DIGITS_ALONE = r"^[-+]?\d+$"
_SPACES = "[\u00a0\u2007\u2009\u202f ]"
_OF_ONE_UNIT = 0.95
_CODES = 0.05
"""Share of the whole numbers with zeros before them from which on all are codes."""
_OF_ONE_WIDTH = 0.95
_ENOUGH_GROUPED = 50
"""Cells as 12.345, beside whole numbers under 1000, that are no decimals with three digits by chance."""
_FEW_GROUPED = 3
"""Cells as 12.345 from which on it is said that their point may stand between thousands."""
_THOUSANDS = ("", ",", ".", " ", "'")


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a column are written.

    Args:
        decimal: The decimal mark.
        thousands: What stands between groups of digits; empty if nothing does.
        unit: A percent or currency sign that is left out; empty if there is none.
        unseen: Whether no cell has any mark, so that nothing is to be said and later cells may have others.
        brackets: Whether some stand in brackets, which is a minus sign to accountants.
        minus_behind: Whether a minus sign stands behind some, as programs for accounts write it.
        is_guess: Whether another reading fits the cells as well.
    """

    decimal: Decimal = "."
    thousands: str = ""
    unit: str = ""
    brackets: bool = False
    minus_behind: bool = False
    unseen: bool = False
    is_guess: bool = False

    @property
    def is_said(self) -> bool:
        """Whether a reader would not expect it."""
        return self.is_guess or not (self.is_plain or self.unseen)

    @property
    def is_plain(self) -> bool:
        """Whether programs write numbers so, and nothing is to be said."""
        return self.decimal == "." and not (self.thousands or self.unit or self.brackets or self.minus_behind)

    @cached_property
    def pattern(self) -> str:
        """What a cell looks like whose signs and units are gone, as RE2 has it."""
        mark = "\\" + self.decimal
        whole = r"\d+"
        if self.thousands:
            between = "\\" + self.thousands if self.thousands != " " else " "
            # The second form is that of India, which groups by two digits above the thousands.
            groups = rf"[1-9]\d{{0,2}}(?:{between}\d{{3}})+|[1-9]\d?(?:{between}\d{{2}})*{between}\d{{3}}"
            whole = rf"(?:{groups}|\d+)"
        return rf"^[-+]?(?:{whole}(?:{mark}\d*)?|{mark}\d+){_EXPONENT}$"

    def __str__(self) -> str:
        said = []
        if self.decimal == "," or self.is_guess:
            said.append(f"decimal {'comma' if self.decimal == ',' else 'point'}")
        if self.thousands:
            names = {",": "comma", ".": "point", " ": "space", "'": "apostrophe"}
            said.append(f"{names[self.thousands]} between thousands")
        if self.unit:
            said.append(f"{self.unit} left out")
        if self.brackets:
            said.append("brackets as a minus sign")
        if self.minus_behind:
            said.append("minus signs behind numbers")
        return ", ".join(said) or "plain numbers"


@dataclass(frozen=True)
class Numbers:
    """A column of text read as numbers.

    Args:
        format: How they are written.
        values: (n,) float64, or int64 where all are whole; null where missing or no number.
        strangers: (n,) whether a cell is filled and no number.
        are_codes: Whether they are whole numbers of which float64 does not hold every digit.
    """

    format: NumberFormat
    values: pa.ChunkedArray
    strangers: npt.NDArray[np.bool_]
    are_codes: bool


def looked_at(column: pa.ChunkedArray, options: Options, comma_likely: bool = False) -> NumberFormat | None:
    """How the numbers of a column are written.

    Args:
        column: (n,) text.
        options: `decimal` says it where a person did; `missing` texts are no evidence.
        comma_likely: Whether the file's other signs, as semicolons between its cells, speak for a decimal comma; it
            decides where a column by itself does not.

    Returns:
        The format that most cells have; None where no cell is a number, or several units occur.
    """
    cells = _filled(column, options)
    if not len(cells):
        return None
    if options.decimal != "," and _all_match(cells, _PLAIN):
        pointed = _matches(cells, r"\.")
        is_sure = options.decimal is not None or _matches(cells, _GROUPED) < pointed
        if is_sure or not (pointed or comma_likely):
            return NumberFormat(unseen=not pointed)
        if not pointed:
            # Later cells will be written as the rest of the file is.
            return NumberFormat(",", ".", unseen=True)
        if not comma_likely:
            short = _matches(cells, r"^[-+]?\d{1,3}$")
            if short and short + pointed == len(cells) and pointed >= _ENOUGH_GROUPED:
                return NumberFormat(",", ".", is_guess=True)
            return NumberFormat(is_guess=pointed >= _FEW_GROUPED)
    unit = _unit(cells)
    if unit is None:
        return None
    bare = _bare(cells, unit)
    brackets, behind = _matches(cells, _BRACKETS) > 0, _matches(cells, _MINUS_BEHIND) > 0
    formats = [replace(each, unit=unit, brackets=brackets, minus_behind=behind) for each in _formats(options.decimal)]
    found = {each: _matches(bare, each.pattern) for each in formats}
    most = max(found.values())
    if not most:
        return None
    best = [each for each, count in found.items() if count == most]
    # Where a mark never occurs, formats that differ by it fit alike: the plainest comes first.
    chosen = best[0]
    likely: Decimal = "," if comma_likely else "."
    other = [each for each in best if each.decimal != chosen.decimal]
    if not other or not _matches(bare.filter(pc.match_substring_regex(bare, chosen.pattern)), r"[.,]"):
        return chosen
    fitting = next((each for each in best if each.decimal == likely), chosen)
    return replace(fitting, is_guess=options.decimal is None)


def parse(column: pa.ChunkedArray, form: NumberFormat, options: Options) -> Numbers:
    """Read text as numbers.

    Args:
        column: (n,) text.
        form: How they are written.
        options: `missing` texts are null.
    """
    trimmed = pc.utf8_trim_whitespace(column)
    missing = pc.fill_null(pc.is_in(trimmed, pa.array(options.missing)), True)
    missing = pc.or_(missing, pc.is_null(trimmed))
    is_bare = form.is_plain and pc.all(pc.or_(missing, pc.match_substring_regex(trimmed, _PLAIN))).as_py()
    bare = trimmed if is_bare else _bare(trimmed, form.unit)
    fits = pc.fill_null(pc.match_substring_regex(bare, form.pattern), False)
    text = pc.if_else(pc.and_not(fits, missing), bare, pa.scalar(None, pa.string()))
    if form.thousands:
        text = pc.replace_substring(text, form.thousands, "")
    if form.decimal == ",":
        text = pc.replace_substring(text, ",", ".")
    # An infinity is a number, of which whoever reads it says that a finite one is expected.
    infinite = pc.fill_null(pc.match_substring_regex(bare, _INFINITE), False)
    values = pc.cast(pc.if_else(infinite, pc.utf8_lower(bare), text), pa.float64())
    # What float64 cannot hold is a code that looks like a power of ten, as 5e667.
    beyond = pc.and_not(pc.fill_null(pc.is_inf(values), False), infinite)
    values = pc.if_else(beyond, pa.scalar(None, pa.float64()), values)
    strangers = pc.invert(pc.or_(pc.or_(pc.and_not(fits, beyond), infinite), missing))
    are_whole = not (pc.any(pc.match_substring_regex(text, r"[.eE]")).as_py() or pc.any(infinite).as_py())
    whole = _whole(text) if are_whole else None
    if whole is not None:
        return Numbers(form, whole, np.asarray(strangers), are_codes=False)
    return Numbers(form, values, np.asarray(strangers), are_codes=are_whole)


def has_codes(column: pa.ChunkedArray, options: Options) -> bool:
    """Whether digits stand there as a code: with zeros before them, or more of them than a number keeps exactly.

    Zeros before a few numbers make no codes of the others, but where all have as many digits, as post codes.

    Args:
        column: (n,) text.
        options: `missing` texts are not looked at.
    """
    cells = _filled(column, options)
    digits = cells.filter(pc.match_substring_regex(cells, _DIGITS_ALONE))
    led = digits.filter(pc.match_substring_regex(digits, _LEADING_ZERO))
    if _matches(digits, r"^[-+]?\d{17,}$"):
        return True
    if not len(led) or 2 * len(digits) < len(cells):
        return False
    of_its_width = pc.sum(pc.equal(pc.utf8_length(digits), pc.utf8_length(led[0]))).as_py()
    return len(led) >= _CODES * len(digits) or of_its_width >= _OF_ONE_WIDTH * len(digits)


def with_zeros_before(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """(n,) whether a cell holds digits with zeros before them, as 007."""
    found = pc.match_substring_regex(pc.utf8_trim_whitespace(column), _LEADING_ZERO)
    return np.asarray(pc.fill_null(found, False))


def without_unit(column: pa.ChunkedArray, form: NumberFormat, options: Options) -> npt.NDArray[np.bool_]:
    """(n,) whether a cell holds a number without the unit that the others have."""
    if not form.unit:
        return np.zeros(len(column), bool)
    trimmed = pc.utf8_trim_whitespace(column)
    is_number = pc.match_substring_regex(_bare(trimmed, ""), form.pattern)
    missing = pc.is_in(trimmed, pa.array(options.missing))
    return np.asarray(pc.fill_null(pc.and_not(is_number, missing), False))


def are_exact(column: pa.ChunkedArray) -> bool:
    """Whether float64 holds every whole number of a column exactly."""
    extremes = pc.min_max(column).as_py()
    return all(each is None or abs(each) <= LARGEST_EXACT for each in extremes.values())


def _whole(text: pa.ChunkedArray) -> pa.ChunkedArray | None:
    try:
        found = pc.cast(pc.replace_substring_regex(text, r"^\+", ""), pa.int64())
    except pa.ArrowInvalid:
        return None
    return found if are_exact(found) else None


def _filled(column: pa.ChunkedArray, options: Options) -> pa.ChunkedArray:
    cells = pc.utf8_trim_whitespace(column.drop_null())
    return cells.filter(pc.invert(pc.is_in(cells, pa.array(options.missing))))


def _all_match(cells: pa.ChunkedArray, pattern: str) -> bool:
    # The first few decide most columns of text.
    return _matches(cells.slice(0, 100), pattern) == min(100, len(cells)) and _matches(cells, pattern) == len(cells)


def _matches(cells: pa.ChunkedArray, pattern: str) -> int:
    return pc.sum(pc.match_substring_regex(cells, pattern)).as_py() or 0


def _formats(decimal: Decimal | None) -> Sequence[NumberFormat]:
    marks: tuple[Decimal, ...] = (".", ",") if decimal is None else (decimal,)
    pairs = sorted(product(marks, _THOUSANDS), key=lambda pair: pair[1] != "")
    return [NumberFormat(mark, between) for mark, between in pairs if mark != between]


def _unit(cells: pa.ChunkedArray) -> str | None:
    """The one unit of a column, empty if it has none; None where there are several, or a percent sign in some cells."""
    parts = pc.extract_regex(cells, _WITH_UNIT)
    units = pc.binary_join_element_wise(pc.struct_field(parts, "before"), pc.struct_field(parts, "after"), "")
    counted = {each["values"]: each["counts"] for each in pc.value_counts(units.drop_null()).to_pylist()}
    bare = counted.pop("", 0)
    if not counted:
        return ""
    unit, count = max(counted.items(), key=lambda pair: pair[1])
    # A few strangers do not decide what a column is; that 5 and 5 % are not the same does.
    if count < _OF_ONE_UNIT * sum(counted.values()) or (not _is_currency(unit) and bare > count / _OF_ONE_UNIT - count):
        return None
    return str(unit)


def _is_currency(unit: str) -> bool:
    return bool(_matches(pa.chunked_array([[unit]]), rf"^(?:{_CURRENCY})$"))


def _bare(cells: pa.ChunkedArray, unit: str) -> pa.ChunkedArray:
    """Cells without their unit; minus signs as ASCII and before the number, brackets of accountants as such a sign."""
    if unit:
        cells = pc.utf8_trim_whitespace(pc.replace_substring(cells, unit, "", max_replacements=1))
    cells = pc.replace_substring_regex(cells, "[\u2212\u2013]", "-")
    cells = pc.replace_substring_regex(cells, "[\u2019\u02bc`]", "'")
    cells = pc.replace_substring_regex(cells, rf"(\d){_SPACES}(\d)", r"\1 \2")
    cells = pc.replace_substring_regex(cells, r"^\(\s*(.*?)\s*\)$", r"-\1")
    cells = pc.replace_substring_regex(cells, r"^([^-].*\d)\s*-$", r"-\1")
    return pc.replace_substring_regex(cells, r"^([-+])\s+", r"\1")
