"""An Arrow stream's messages, looked into before pyarrow reads any: what they claim is held against what is there."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bundle.record.schema import RecordSchema
from service.errors import BodyMalformed, Fault, MediaTypeUnsupported, RequestInvalid, TooManyRecords

_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3  # kinds of messages
_LARGEST_HEAD = 2**20
_MOST_TEXT = 2**20
"""Bytes of names and metadata of a schema; pyarrow copies a text for each place that refers to it."""
_MORE_TABLES, _DEEPEST = 2**10, 64
_FEW_MESSAGES, _RECORDS_A_MESSAGE = 2**10, 8
"""Batches, or dictionaries, that a stream may have at least, and records that more of them are to hold each."""
_TEXTS = frozenset((5, 20, 24))  # kinds of types: Utf8, LargeUtf8, Utf8View
_TIMESTAMP, _UNION = 10, 14


@dataclass(frozen=True, slots=True)
class Survey:
    """What a stream claims, all of it within bounds.

    Args:
        rows: Of all batches.
        batches: How many there are.
        dictionaries: How many there are, replacements and deltas too.
        tables: Fields of the schema, with the types within types.
        joined: Bytes of dictionaries that are joined from deltas.
        texts: Whether any column holds text.
    """

    rows: int
    batches: int
    dictionaries: int
    tables: int
    joined: int
    texts: bool


def survey(body: bytes, schema: RecordSchema, max_records: int) -> Survey:
    """Look at every message's head.

    Args:
        body: Claimed to be a stream.
        schema: The model's fields.
        max_records: Most records in a request.

    Raises:
        BodyMalformed: It claims what it does not hold, or shows the same bytes in several places.
        MediaTypeUnsupported: Its buffers are compressed one by one, so that nothing bounds what they expand to.
        RequestInvalid: It has far more columns than there are fields.
        TooManyRecords: More records than allowed, or far more batches.
        IndexError, struct.error, ValueError: It is damaged.
    """
    fields = _Fields(4 * (len(schema.names) + len(schema.timestamps)) + _MORE_TABLES)
    rows = batches = dictionaries = joined = 0
    sizes: dict[int, int] = {}
    for message, size in _messages(body):
        kind, header = message.number(1, "<B"), message.table(2)
        _Fields(fields.most).metadata(message, 4)
        if kind == _SCHEMA:
            fields.walk(header)
        elif kind == _DICTIONARY:
            dictionaries += 1
            identity, batch, delta = header.number(0, "<q"), header.table(1), header.number(2, "<B")
            _refuse_compressed(batch)
            _check(batch, size, max_records)
            sizes[identity] = size + (sizes.get(identity, 0) if delta else 0)
            joined += sizes[identity] if delta else 0
        elif kind == _BATCH:
            batches += 1
            claimed = header.number(0, "<q")
            rows += claimed
            _refuse_compressed(header)
            if claimed < 0:
                raise BodyMalformed("a batch of an Arrow stream claims fewer rows than none")
            if rows > max_records:
                raise TooManyRecords(f"over {max_records} records, which is the most of a request, so send several")
            _check(header, size, claimed)
        else:
            raise BodyMalformed("an Arrow stream holds nothing but a schema, dictionaries and batches")
        if max(batches, dictionaries) > _FEW_MESSAGES + max_records // _RECORDS_A_MESSAGE:
            raise TooManyRecords("too many batches, or dictionaries, for a request; send fewer and larger ones")
        if joined > len(body):
            raise BodyMalformed("dictionaries grow batch by batch, again and again; send each as a whole")
    return Survey(rows, batches, dictionaries, fields.tables, joined, fields.texts)


class _Table:
    """A table of a flatbuffer; reading beyond the buffer raises.

    Args:
        head: The flatbuffer.
        place: Where in it the table is.
    """

    __slots__ = ("_head", "_place", "_size", "_slots")

    def __init__(self, head: bytes, place: int) -> None:
        self._head, self._place = head, place
        self._slots = place - _read(head, place, "<i")
        self._size = _read(head, self._slots, "<H")

    def number(self, index: int, form: str) -> int:
        """A member that is a number; 0 where it is left out."""
        place = self._member(index)
        return _read(self._head, place, form) if place else 0

    def table(self, index: int) -> "_Table":
        """A member that is a table."""
        place = self._member(index)
        if not place:
            raise IndexError
        return _Table(self._head, self._referred(place))

    def has(self, index: int) -> bool:
        """Whether a member is there."""
        return bool(self._member(index))

    def length(self, index: int) -> int:
        """How long a member is that is a text or a vector; 0 where it is left out."""
        place = self._member(index)
        return _read(self._head, self._referred(place), "<I") if place else 0

    def tables(self, index: int) -> Iterator["_Table"]:
        """A member that is a vector of tables, one by one."""
        place = self._member(index)
        if place:
            start = self._referred(place)
            for each in range(_read(self._head, start, "<I")):
                yield _Table(self._head, self._referred(start + 4 + 4 * each))

    def pairs(self, index: int) -> tuple[int, ...]:
        """A member that is a vector of structs of two numbers, one struct after the other."""
        place = self._member(index)
        if not place:
            return ()
        start = self._referred(place)
        return struct.unpack_from(f"<{2 * _read(self._head, start, '<I')}q", self._head, start + 4)

    def _member(self, index: int) -> int:
        slot = 4 + 2 * index
        offset = _read(self._head, self._slots + slot, "<H") if slot < self._size else 0
        return self._place + offset if offset else 0

    def _referred(self, place: int) -> int:
        return place + _read(self._head, place, "<I")


class _Fields:
    """What a schema makes pyarrow allocate, counted; a flatbuffer may refer to the same table from many places.

    Args:
        most: Fields, types and metadata that may be there.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.tables = 0
        self.texts = False
        self._text = 0

    def walk(self, schema: _Table) -> None:
        """Count a schema."""
        self.metadata(schema, 2)
        for field in schema.tables(1):
            self._field(field, _DEEPEST)

    def metadata(self, table: _Table, index: int) -> None:
        """Count pairs of texts."""
        for pair in table.tables(index):
            self._add(pair.length(0) + pair.length(1))

    def _field(self, field: _Table, deeper: int) -> None:
        self._add(field.length(0))
        if not deeper:
            raise BodyMalformed("types within types of an Arrow stream are too deep")
        kind = field.number(2, "<B")
        self.texts = self.texts or kind in _TEXTS
        if kind in (_TIMESTAMP, _UNION):
            self._add(field.table(3).length(1))  # a time zone, or numbers
        self.metadata(field, 6)
        for child in field.tables(5):
            self._field(child, deeper - 1)

    def _add(self, text: int) -> None:
        self.tables += 1
        self._text += text
        if self.tables > self.most or self._text > _MOST_TEXT:
            raise RequestInvalid([Fault("", "there are far more columns, or longer names, than the model has fields")])


def _messages(body: bytes) -> Iterator[tuple[_Table, int]]:
    """The head of every message, and how many bytes follow it."""
    place = 0
    while place < len(body):
        size = _read(body, place, "<i")
        place += 4
        if size == -1:
            size = _read(body, place, "<i")
            place += 4
        if size == 0:
            return
        if size > _LARGEST_HEAD:
            raise BodyMalformed(
                "not an Arrow IPC stream (the streaming format, not a file), "
                f"or a message whose head is over {_LARGEST_HEAD} bytes"
            )
        if not 0 < size <= len(body) - place:
            raise BodyMalformed("not an Arrow IPC stream (the streaming format, not a file), or damaged")
        head = body[place : place + size]
        message = _Table(head, _read(head, 0, "<I"))
        place += size
        following = message.number(3, "<q")
        if not 0 <= following <= len(body) - place:
            raise BodyMalformed("not an Arrow IPC stream (the streaming format, not a file), or damaged")
        yield message, following
        place += following


def _refuse_compressed(batch: _Table) -> None:
    if batch.has(3):
        raise MediaTypeUnsupported(
            "compressed buffers in an Arrow stream are not read; use Content-Encoding: gzip for the whole instead"
        )


def _check(batch: _Table, size: int, rows: int) -> None:
    """Hold what a batch claims against the bytes that follow it.

    Args:
        batch: A `RecordBatch`.
        size: Bytes that follow.
        rows: Entries that may be claimed though no bytes hold them, as those of a column of nulls.
    """
    lengths, buffers = batch.pairs(1), batch.pairs(2)
    most = max(rows, 8 * size)
    if batch.number(0, "<q") > most or not all(-1 <= length <= most for length in lengths):
        raise BodyMalformed("a column or a dictionary of an Arrow stream claims more entries than there are bytes for")
    starts, sizes = buffers[::2], buffers[1::2]
    if any(start < 0 or length < 0 or start + length > size for start, length in zip(starts, sizes, strict=True)):
        raise BodyMalformed("a buffer of an Arrow stream lies beyond its message")
    if sum(sizes) > size:
        raise BodyMalformed("buffers of an Arrow stream show the same bytes more than once")


def _read(head: bytes, place: int, form: str) -> int:
    # A negative place would be counted from the end.
    if place < 0:
        raise IndexError
    return int(struct.unpack_from(form, head, place)[0])
