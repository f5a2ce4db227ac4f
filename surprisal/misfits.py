"""Values of a table in memory that do not fit their field: where they stand, and what to do."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bundle.errors import MOST_PROBLEMS
from service.errors import Fault

if TYPE_CHECKING:
    import pyarrow as pa

_NAMED = 3
"""Rows of a column that are named."""


def said(faults: Iterable[Fault], table: "pa.Table") -> str:
    """What is wrong with a table, a column at a time.

    Args:
        faults: What was found, at places `/ROW/COLUMN` (rows from 1), `/ROW`, `/COLUMN` or none.
        table: What was to be scored.
    """
    faults = tuple(faults)
    rows: dict[tuple[str, str], list[str]] = {}
    words = []
    for fault in faults:
        row, _, column = fault.pointer.removeprefix("/").partition("/")
        if row.isdecimal() and (column or row not in table.column_names):
            rows.setdefault((_plain(column), fault.detail), []).append(row)
        else:
            words.append(f"{_plain(row)}: {fault.detail}" if row else fault.detail)
    least = "at least " if len(faults) >= MOST_PROBLEMS else ""
    for (column, detail), where in rows.items():
        of_column = f"column {column!r}, " if column else ""
        words.append(f"{of_column}{_places(where, least)}: {detail}")
    ways_out = [way_out for column, _ in rows for way_out in _way_out(column, table)]
    return "; ".join([*words, *dict.fromkeys(ways_out)])


def _places(rows: list[str], least: str) -> str:
    more = f" and {least}{len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(rows[:_NAMED])}{more}"


def _way_out(column: str, table: "pa.Table") -> Iterator[str]:
    """How text that a file's reader takes for numbers or timestamps is scored; nothing of any other column."""
    from pyarrow import types

    from reading.options import Options
    from reading.typed import plain, typed

    if column not in table.column_names:
        return
    texts = plain(table[column])
    if not types.is_string(texts.type):
        return
    found = typed(texts, None, Options())
    how = f" ({found.said[0]})" if found.said else ""
    command = "score the file with `surprisal score`, which reads it so"
    if types.is_integer(found.column.type) or types.is_floating(found.column.type):
        numbers = "pandas.read_csv takes decimal and thousands"
        yield f"{column!r} holds text that looks like numbers{how}: {command}, or make it numbers first ({numbers})"
    elif types.is_temporal(found.column.type):
        yield (
            f"{column!r} holds text that looks like timestamps{how}: {command}, or make it timestamps first "
            "(pandas.to_datetime, pyarrow.compute.strptime)"
        )


def _plain(name: str) -> str:
    """A name out of a JSON pointer."""
    return name.replace("~1", "/").replace("~0", "~")
