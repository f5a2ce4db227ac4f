"""How the lines of a text file are to be taken apart: found by looking at its beginning, and said."""

import csv
import io
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from reading.errors import FileInvalid
from reading.options import Options

_DELIMITERS = ("\t", ";", "|", ",")
"""Commas last: in a file of decimal commas they divide lines evenly, too."""
_RECORDS = 500
_NAMED = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma", " ": "space"}
_NUMBER = re.compile(r"[-+(]?\s*[^\w\s.,-]?\s*(?:\d[\d.,' \u00a0\u202f]*|[.,]\d+)(?:[eE][-+]?\d+)?\s*[^\w\s]?\)?-?")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ].*)?|true|false", re.IGNORECASE)
_AROUND = re.compile(r"^[^\d.,]+|[^\d.,]+$|(?<=\d)['\u2019 \u00a0\u202f](?=\d)")
_UNIT = re.compile(
    r".*[%°/²³\[\]()€$#].*|-|kg|g|mg|t|m|cm|mm|km|µm|s|ms|min|h|d|Hz|kHz|V|mV|A|mA|W|kW|kWh|Pa|hPa|kPa|bar|K|C|F|l|ml|EUR|"
    r"USD|GBP|CHF|SEK|count|counts|pcs|Stk|unit|units|n|rpm|ppm|dB|mol|N|J",
    re.IGNORECASE,
)
_COMMA = re.compile(r"[-+]?(?:\d+,\d{1,2}|\d+,\d{4,}|0,\d+|\d{4,},\d+|\d{1,3}(?:\.\d{3})+,\d+)")
_POINT = re.compile(r"[-+]?(?:\d+\.\d{1,2}|\d+\.\d{4,}|0\.\d+|\d{4,}\.\d+|\d{1,3}(?:,\d{3})+\.\d+)")
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n?$", re.IGNORECASE)
_NO_NAME = re.compile(r"[-+]?\d+[.,]\d+|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ].*)?|true|false", re.IGNORECASE)
"""A value that nobody calls a column."""
_TITLES = 50
"""Lines at the beginning among which the names are looked for."""
_COUNTING = 3
"""Numbers that count up as the names of columns do."""


@dataclass(frozen=True)
class Dialect:
    """How a text file is written.

    Args:
        encoding: As Python names it.
        delimiter: Between cells.
        quote: Around cells that hold one.
        escape: Before a quote within quotes; None where it is doubled.
        before: Lines before the names, which are passed over.
        names: Of the columns.
        after: Rows to pass over behind that, blank ones included: the names themselves, and a row of units.
        spaced: Whether a space follows every delimiter.
        decimal_comma: Whether its numbers speak for a decimal comma.
        left_out: How many of the last columns are empty and have no name.
        said: What a reader would not expect, in words.
    """

    encoding: str
    delimiter: str
    quote: str
    escape: str | None
    before: int
    names: tuple[str, ...]
    after: int
    spaced: bool
    decimal_comma: bool
    left_out: int
    said: tuple[str, ...]


def looked_at(head: str, is_all: bool, encoding: str, options: Options, place: str) -> Dialect:
    """Find out how a file of delimited text is written.

    Args:
        head: Its beginning, decoded and without a byte order mark.
        is_all: Whether that is the whole file.
        encoding: In which it was decoded.
        options: What a person said.
        place: The file, for messages.

    Raises:
        FileInvalid: It holds no line, or fewer lines than the header is said to have.
    """
    if not head.strip():
        raise FileInvalid(f"{place}: holds no rows")
    said: list[str] = []
    marked = _SEPARATOR_LINE.match(head.partition("\n")[0] + "\n")
    quote = _quote(head)
    escape = _escape(head, quote)
    given = options.delimiter or (marked.group(1) if marked else None)
    delimiter = given or _delimiter(head, quote, escape, is_all)
    records, lines = _records(head, delimiter, quote, escape, is_all)
    _refuse_spaces(records, given, place)
    start, names = _header(records, lines, options, place, 1 if marked else 0)
    before, after = lines[start], 1
    below = start if names is None else start + 1
    rows = [row for row in records[below:] if row]
    if names is None:
        names, after = tuple(f"column_{index}" for index in range(1, len(rows[0]) + 1)), 0
        said.append(f"no row of names: the columns are called {names[0]} to {names[-1]}")
    width = _most_common(map(len, rows)) if rows else len(names)
    if width == len(names) + 1 and after:
        if all(row[-1] == "" for row in rows if len(row) == width):
            names = (*names, "")
        else:
            names = ("", *names)
            said.append("one cell more than names: the first column has none")
    if before:
        said.insert(0, f"{before} {'line' if before == 1 else 'lines'} before the names passed over")
    nameless = _empty_behind(names, rows)
    if nameless > 1:
        said.append(f"{nameless} empty columns without a name left out")
    stripped = tuple(name.strip() for name in names)
    if options.header is None and after and _is_of_units(rows, options.missing):
        said.append(f"a row of units passed over: {', '.join(cell.strip() for cell in rows[0] if cell.strip())[:80]}")
        after, rows = records.index(rows[0], below) - start + 1, rows[1:]
    spaced = delimiter != " " and _is_spaced(rows, names)
    comma = _speaks_for_comma(rows, delimiter)
    if delimiter != ",":
        said.insert(0, _NAMED.get(delimiter, repr(delimiter)))
    if stripped != names:
        said.append("spaces around names left out")
    return Dialect(encoding, delimiter, quote, escape, before, stripped, after, spaced, comma, nameless, tuple(said))


def _empty_behind(names: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """How many of the last columns have neither a name nor a cell."""
    found = 0
    for index in range(len(names) - 1, -1, -1):
        if names[index].strip() or any(len(row) > index and row[index].strip() for row in rows):
            break
        found += 1
    return found


def _refuse_spaces(records: Sequence[Sequence[str]], given: str | None, place: str) -> None:
    """Refuse a file whose cells are separated by spaces, in columns of fixed widths maybe.

    Raises:
        FileInvalid: It is one.
    """
    lines = [row[0].split() for row in records if len(row) == 1]
    width = _most_common(map(len, lines))
    if given is not None or width < 2 or not len(lines) == len(records) > _COUNTING:
        return
    if sum(len(line) == width for line in lines) >= 0.9 * len(lines):
        raise FileInvalid(
            f"{place}: no delimiter is found, and its lines hold {width} words each: say the delimiter, or in Python: "
            "pandas.read_csv(..., sep=r'\\s+').to_parquet(...)"
        )


def is_number(cell: str) -> bool:
    """Whether a cell looks like a number, however it is written."""
    return _NUMBER.fullmatch(cell.strip()) is not None


def _quote(head: str) -> str:
    single = len(re.findall(r"(?:^|[,;\t|])'[^'\n]*'(?=[,;\t|\r\n])", head, re.MULTILINE))
    return "'" if single > head.count('"') and single > 1 else '"'


def _escape(head: str, quote: str) -> str | None:
    """The backslash, if some stand before quotes, no quote is doubled, and some of these do not end a cell.

    Where all of them end cells, the backslashes are the ends of folders.
    """
    if quote * 2 in head.replace(f"\\{quote}", ""):
        return None
    return "\\" if re.search(rf"\\{quote}[^,;\t|\r\n]", head) else None


def _records(
    head: str, delimiter: str, quote: str, escape: str | None, is_all: bool
) -> tuple[list[list[str]], list[int]]:
    """The first rows, and how many lines stand before each and behind the last: a cell may hold several."""
    reader = csv.reader(
        io.StringIO(head, newline=""),
        delimiter=delimiter,
        quotechar=quote,
        escapechar=escape,
        doublequote=escape is None,
        skipinitialspace=False,
    )
    csv.field_size_limit(2**31 - 1)
    found, lines = [], [0]
    for row in islice(reader, _RECORDS + 1):
        found.append(row)
        lines.append(reader.line_num)
    # The last of a beginning may be cut.
    return (found if is_all and len(found) <= _RECORDS else found[:-1] or found), lines


def _delimiter(head: str, quote: str, escape: str | None, is_all: bool) -> str:
    best, most = ",", 0.0
    for each in _DELIMITERS:
        widths = [len(row) for row in _records(head, each, quote, escape, is_all)[0] if row]
        width = _most_common(widths)
        if width < 2:
            continue
        # A comma within numbers divides rows as evenly as a semicolon, but not the names above them.
        even = sum(size == width for size in widths) / len(widths)
        if even > most:
            best, most = each, even
    return best


def _header(
    records: Sequence[list[str]], lines: Sequence[int], options: Options, place: str, marked: int
) -> tuple[int, tuple[str, ...] | None]:
    """Which row has the names, and these; None where there are none, and the first row of data."""
    if options.header is not None:
        if options.header > lines[-1]:
            raise FileInvalid(f"{place}: header = {options.header}, and there are {lines[-1]} lines")
        if options.header == 0:
            return marked, None
        said = bisect_right(lines[: len(records)], options.header - 1) - 1
        return said, tuple(records[said])
    width = _most_common(len(row) for row in records[marked:] if row)
    least = max(1, width - 1)
    start = marked
    for index, row in enumerate(records[marked:], start=marked):
        filled = sum(bool(cell.strip()) for cell in row)
        if len(row) >= least and (filled >= max(1, 0.5 * width) or width == 1):
            start = _behind_titles(records, index, width, options.missing)
            break
    rows = [row for row in records[start + 1 :] if row]
    first = records[start]
    if _is_data(first, rows, options.missing) and not (_counts(first) or _are_years(first, rows, options.missing)):
        return start, None
    if len(rows) > _COUNTING and _is_of_names(rows[0], rows[1:], width, options.missing):
        return records.index(rows[0], start + 1), tuple(rows[0])
    return start, tuple(first)


def _behind_titles(records: Sequence[list[str]], start: int, width: int, missing: Sequence[str]) -> int:
    """The row of names: behind titles and comments that are narrower than the table, where names stand there."""
    for index, row in enumerate(records[start : start + _TITLES], start=start):
        if len(row) == width:
            rows = [each for each in records[index + 1 :] if each]
            return index if _above_values(row, rows, width, missing) else start
    return start


def _is_data(first: Sequence[str], rows: Sequence[Sequence[str]], missing: Sequence[str]) -> bool:
    """Whether the first row stands where names are expected and is one of data."""
    filled = [cell for cell in first if cell.strip()]
    if filled and len(filled) == len(first) and all(map(_is_value, filled)):
        return True
    places = [index for index in _of_values(rows, missing) if index < len(first)]
    # A mark of what is missing is no name; but the first column may have none.
    values = [cell for index in places if (cell := first[index].strip()) not in missing or not (cell or index)]
    if not values or not all(map(_is_value, values)):
        return False
    return len(places) > 1 or any(map(_NO_NAME.fullmatch, values))


def _of_values(rows: Sequence[Sequence[str]], missing: Sequence[str]) -> list[int]:
    """Columns of which nearly all cells are numbers, timestamps or flags, those that are missing left out."""
    found = []
    for index in range(max(map(len, rows), default=0)):
        cells = [cell for row in rows if len(row) > index and (cell := row[index].strip()) not in missing]
        if cells and sum(map(_is_value, cells)) >= 0.9 * len(cells):
            found.append(index)
    return found


def _is_value(cell: str) -> bool:
    return is_number(cell) or _DATE.fullmatch(cell.strip()) is not None


def _is_of_names(row: Sequence[str], rows: Sequence[Sequence[str]], width: int, missing: Sequence[str]) -> bool:
    """Whether the row below the first one has the names, the first one being a title as wide as the table."""
    above = _above_values(row, rows, width, missing)
    return len(above) > 0 and not any(map(_UNIT.fullmatch, above))


def _above_values(row: Sequence[str], rows: Sequence[Sequence[str]], width: int, missing: Sequence[str]) -> list[str]:
    """The cells of a row above columns of values, where it has a name for each column; else none."""
    cells = [cell.strip() for cell in row]
    if len(cells) != width or not all(cells) or len(set(cells)) < len(cells) or any(map(_is_value, cells)):
        return []
    return [cells[index] for index in _of_values(rows, missing) if index < len(cells)]


def _counts(first: Sequence[str]) -> bool:
    if len(first) < _COUNTING or not all(cell.strip().isdecimal() for cell in first):
        return False
    numbers = [int(cell) for cell in first]
    steps = {after - before for before, after in pairwise(numbers)}
    return len(steps) == 1 and steps != {0}


def _are_years(first: Sequence[str], rows: Sequence[Sequence[str]], missing: Sequence[str]) -> bool:
    """Whether the columns of numbers are called by years that follow one another."""
    above = [first[index].strip() for index in _of_values(rows, missing) if index < len(first)]
    return _counts(above) and all(re.fullmatch("(?:19|20)[0-9]{2}", cell) for cell in above)


def _is_of_units(rows: Sequence[Sequence[str]], missing: Sequence[str]) -> bool:
    """Whether the first row has no number where nearly all below it have one."""
    if len(rows) < 4:
        return False
    numeric = [rows[0][index].strip() for index in _of_values(rows[1:], missing) if index < len(rows[0])]
    named = [cell for cell in numeric if cell]
    return bool(named) and len(named) * 2 >= len(numeric) and all(map(_UNIT.fullmatch, named))


def _is_spaced(rows: Sequence[Sequence[str]], names: Sequence[str]) -> bool:
    cells = [cell for row in rows for cell in row[1:]]
    return len(names) > 1 and bool(cells) and all(cell.startswith(" ") or not cell for cell in cells)


def _speaks_for_comma(rows: Sequence[Sequence[str]], delimiter: str) -> bool:
    columns = [
        [_AROUND.sub("", row[index]) for row in rows if len(row) > index]
        for index in range(max(map(len, rows), default=0))
    ]
    commas = sum(any(_COMMA.fullmatch(cell) for cell in column) for column in columns)
    points = sum(any(_POINT.fullmatch(cell) for cell in column) for column in columns)
    return commas > points or (delimiter == ";" and not points)


def _most_common(sizes: Iterable[int]) -> int:
    return max(Counter(sizes).items(), key=lambda pair: (pair[1], pair[0]), default=(0, 0))[0]
