"""The syntax of JSON, counted before it is parsed: what a body may hold, and what the parser makes of it."""

from dataclasses import dataclass
from typing import NamedTuple

from bundle.record import images
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.codecs import scan
from service.errors import TooManyRecords

SMALL = 2**12
"""Bodies of so many bytes are parsed uncounted: whatever they hold, it is little."""

# Bytes that orjson and CPython take for each, measured by tests/service/codecs/test_bounds.py.
_NODE = 24  # of the parser's tree, which is let go before records are encoded: 16, and what it outgrew
_LIST = 88
_OBJECT = 200
_PAIR = 100  # of an object's table, just grown, with those that it outgrew
_SLOT = 8
_NUMBER = 32
_TEXT, _WIDE_TEXT = 64, 88  # besides its characters
_ROW, _VALUE, _PACKED = 64, 24, 24  # while records are encoded: tuples, columns, tensors, and numbers put in a row
_WORST = 96  # for a byte of the worst that JSON has: an empty list, which is two
_BASE = 2**16

_EXACT_BYTES = 2**23
"""Larger bodies are counted with the slack alone: passing over their texts would take long."""


class Counts(NamedTuple):
    """What a JSON body holds of its syntax, in texts or not.

    Args:
        lists: Opening brackets.
        objects: Opening braces.
        commas: Commas.
        colons: Colons.
        quotes: Double quotes.
    """

    lists: int
    objects: int
    commas: int
    colons: int
    quotes: int

    @classmethod
    def of(cls, body: bytes) -> "Counts":
        """Those of a body."""
        return cls(*scan.count(body, b'[{,:"'))

    @property
    def nested(self) -> int:
        """Most lists and objects."""
        return self.lists + self.objects


@dataclass(frozen=True, slots=True)
class Most:
    """What a JSON body may hold.

    Args:
        values: Commas and opening brackets and braces, which are at least as many as there are values.
        nested: Of these, brackets and braces.
        detail: What is said of a body that holds more.
        slack: How many times as many there may be within texts.
    """

    values: int
    nested: int
    detail: str
    slack: int = 4

    def check(self, body: bytes, counts: Counts) -> None:
        """Check a body.

        Args:
            body: The body.
            counts: Of it.

        Raises:
            TooManyRecords: It holds more.
        """
        nested, values = counts.nested, counts.nested + counts.commas
        if nested <= self.nested and values <= self.values:
            return
        fits = nested <= self.slack * self.nested and values <= self.slack * self.values
        if self.slack > 1 and len(body) <= _EXACT_BYTES and values <= self.slack * self.values:
            fits = scan.outside_strings(body, b"[{,") <= self.values
            fits = fits and (nested <= self.nested or scan.outside_strings(body, b"[{") <= self.nested)
        if not fits:
            raise TooManyRecords(self.detail)


def small(body: bytes, fields: int) -> int:
    """Most bytes that a small body of records becomes: dear by the byte, and quick.

    Args:
        body: At most `SMALL` bytes.
        fields: Of a record.
    """
    return _BASE + len(body) * _WORST + (body.count(b"[") + body.count(b"{")) * (_ROW + fields * (_VALUE + _PACKED))


def bound(body: bytes, counts: Counts, schema: RecordSchema, rows: int, lines: int = 1) -> int:
    """Most bytes that a body of records becomes, from its first parsed value to the last tensor.

    Args:
        body: JSON, or lines of it.
        counts: Of the body.
        schema: The model's fields.
        rows: Most records.
        lines: Most documents.
    """
    objects = parsed(body, counts, lines)
    match schema:
        case ImageSchema():
            encoding = images.bound(schema.field, rows, len(body))
        case TableSchema():
            encoding = rows * (_ROW + len(schema.names) * _VALUE + len(schema.numeric) * _PACKED)
    return objects + max(parsing(body, counts, lines), encoding) + _BASE


def parsing(body: bytes, counts: Counts, lines: int = 1) -> int:
    """Most bytes that the parser takes besides what it gives: a copy of the body, and its tree."""
    return len(body) + (counts.commas + lines + counts.nested + min(counts.quotes // 2 + 1, counts.colons)) * _NODE


def parsed(body: bytes, counts: Counts, lines: int = 1) -> int:
    """Most bytes of the objects that the parser gives."""
    leaves, texts = counts.commas + lines, counts.quotes // 2 + 1
    pairs = min(texts, counts.colons)
    wide = max(scan.width(body), scan.escaped_width(body))
    return (
        counts.lists * _LIST
        + counts.objects * _OBJECT
        + pairs * _PAIR
        + (leaves + counts.nested) * _SLOT
        + max(0, leaves + pairs - texts) * _NUMBER  # what is no text is a number at most
        + texts * (_TEXT if wide == 1 else _WIDE_TEXT)
        + len(body) * wide
    )
