"""What is said of columns, told once for all that it is true of."""

from collections.abc import Iterable, Mapping


def by_note(notes: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Which columns each note is about, in order.

    Args:
        notes: By column.

    >>> by_note({"a": ["read with decimal comma"], "b": ["read with decimal comma"]})
    {'read with decimal comma': ['a', 'b']}
    """
    columns: dict[str, list[str]] = {}
    for name, each in notes.items():
        for note in each:
            columns.setdefault(note, []).append(name)
    return columns
