"""application/x-ndjson: a record a line to tensors, scores to a line each."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import orjson

from bundle.contents.manifest import Manifest
from bundle.errors import MOST_PROBLEMS, InvalidRecords, Problem
from bundle.record.fields import Tensors
from bundle.record.records import encode_records
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.codecs import json, scan, syntax
from service.codecs.syntax import Counts, Most
from service.engine.question import Question
from service.engine.request import Admission, ScoreRequest, admitted
from service.engine.verdicts import Verdicts
from service.errors import Fault, RequestInvalid, TooManyRecords, pointer

MEDIA_TYPE = "application/x-ndjson"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_TEXT = re.compile(rb"\S")
_WINDOW = 2**18
"""Bytes of blank lines that one search passes over: no other thread runs meanwhile."""
_FRAME = 64  # values of a line besides the fields'
_SLACK = 4  # commas and brackets that texts may hold, for each that JSON needs
_LINE, _FAULT = 168, 400  # bytes that Python takes for a line with its number, and for what is wrong with it

Line = tuple[int, bytes | None]
"""A line's number, from 1, and its text; None where it is too long."""


@dataclass(frozen=True, slots=True)
class Records:
    """What some lines hold.

    Args:
        tensors: The B records that fit, in order; None where there is none.
        problems: What is wrong with the other lines, by position among all; `Problem.row` means nothing here.
    """

    tensors: Tensors | None
    problems: dict[int, list[Problem]]


def decode(
    body: bytes, manifest: Manifest, max_records: int, question: Question, admission: Admission = admitted
) -> ScoreRequest:
    """Read a whole body of `POST /score`; `service.score.stream` reads those that are answered line by line.

    Args:
        body: UTF-8; a line is a record by field name or in field order, and blank ones are passed over.
        manifest: Of the model that is asked.
        max_records: Most records in a request.
        question: What is asked of each record.
        admission: May refuse so many records before their tensors are made.

    Raises:
        RequestInvalid: A line that does not fit, by its number, from 1.
        TooManyRecords: More records than allowed, or more values than so many records hold.
    """
    if len(body) > syntax.SMALL:
        _most_of(manifest.record, max_records).check(body, Counts.of(body))
    numbered = list(islice(_lines(body), max_records + 1))
    if len(numbered) > max_records:
        raise TooManyRecords(f"over {max_records} records; a request holds at most {max_records}, so send several")
    admission(len(numbered), question)
    records = parse(manifest.record, [line for _, line in numbered], enough=1)
    faults = [
        Fault(pointer(number) if each.field is None else pointer(number, each.field), each.detail)
        for place, (number, _) in enumerate(numbered)
        for each in records.problems.get(place, ())
    ]
    if faults:
        raise RequestInvalid(faults[:MOST_PROBLEMS])
    if records.tensors is None:
        raise RequestInvalid([Fault("", "at least one record is expected")])
    return ScoreRequest(records.tensors, question)


def bound(body: bytes, manifest: Manifest, max_records: int) -> int:
    """Most bytes that `decode` makes of a body, the body itself apart; see `service.score.negotiation.Codec.bound`."""
    if len(body) > syntax.SMALL:
        _most_of(manifest.record, max_records).check(body, Counts.of(body))
    # The lines are copies.
    return len(body) + _bound(body, manifest.record, max_records)


def bound_lines(texts: Sequence[bytes], schema: RecordSchema) -> int:
    """Most bytes that `parse` makes of some lines, the lines themselves apart.

    Args:
        texts: The lines.
        schema: The model's fields.
    """
    most = _most_of_line(schema)
    return _bound(b"\n".join(text for text in texts if not _holds_more(text, most)), schema, len(texts))


def encode(name: str, version: int, question: Question, verdicts: Verdicts) -> bytes:
    """Write the answer of `POST /score`: a line a record, the same as an element of JSON's `results`.

    Args:
        name: Not written; the response's head says which model answered.
        version: Not written either.
        question: Nor this.
        verdicts: Of B records.
    """
    return b"".join(lines(verdicts))


def lines(verdicts: Verdicts) -> list[bytes]:
    """A line for each of B records."""
    return [orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE) for said in verdicts.objects()]


def parse(schema: RecordSchema, texts: Sequence[bytes], enough: int) -> Records:
    """Read lines, each for itself: a bad one says nothing about the others.

    Args:
        schema: The bundle's fields.
        texts: The lines, none of them blank.
        enough: Bad lines after which the others are let go, unread.
    """
    records: list[object] = []
    places: list[int] = []
    problems: dict[int, list[Problem]] = {}
    most = _most_of_line(schema)
    for place, text in enumerate(texts):
        if _holds_more(text, most):
            problems[place] = [Problem(0, None, most.detail)]
            continue
        try:
            records.append(orjson.loads(text))
        except orjson.JSONDecodeError as error:
            # The library's message names what it expected and where, never what it found.
            problems[place] = [Problem(0, None, f"not JSON: {error.msg} (column {error.colno})")]
        else:
            places.append(place)
    while records:
        try:
            return Records(encode_records(schema, records), problems)
        except InvalidRecords as error:
            # Not necessarily all that is wrong: so many rows at a time, and one kind of fault after another.
            for problem in error.problems:
                problems.setdefault(places[problem.row], []).append(problem)
            if len(problems) >= enough:
                break
            good = [row for row, place in enumerate(places) if place not in problems]
            records, places = [records[row] for row in good], [places[row] for row in good]
    return Records(None, problems)


class Splitter:
    """Cuts a stream of bytes into lines; blank ones are counted and left out.

    Args:
        longest: Most bytes in a line; of a longer one nothing is kept.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._number = 1  # of the line that has begun
        self._begun = bytearray()
        self._too_long = False

    @property
    def begun(self) -> int:
        """Bytes of the line that has begun."""
        return len(self._begun)

    def feed(self, piece: bytes) -> list[Line]:
        """The lines that a piece ends."""
        if piece.isspace() and not self._begun and not self._too_long:
            # Blank lines alone, of which a million cost no more than counting them.
            self._number += piece.count(b"\n")
            self._go_on(piece[piece.rfind(b"\n") + 1 :])
            return []
        texts: list[bytes | None] = list(piece.split(b"\n"))
        last = texts.pop()
        if texts:
            self._go_on(texts[0])
            texts[0] = self._end_line()
        self._go_on(last)
        first, self._number = self._number, self._number + len(texts)
        return [
            (number, text if text is None or len(text) <= self._longest else None)
            for number, text in enumerate(texts, first)
            if text is None or (text and not text.isspace())
        ]

    def end(self) -> list[Line]:
        """The last line, where no newline ends it."""
        return self.feed(b"\n")

    def _go_on(self, more: bytes | None) -> None:
        if self._too_long or not more:
            return
        self._begun += more
        if len(self._begun) > self._longest:
            self._too_long = True
            self._begun.clear()

    def _end_line(self) -> bytes | None:
        text = None if self._too_long else bytes(self._begun)
        self._too_long = False
        self._begun.clear()
        return text.removeprefix(BYTE_ORDER_MARK) if text is not None and self._number == 1 else text


def _bound(body: bytes, schema: RecordSchema, most_lines: int) -> int:
    if isinstance(schema, TableSchema) and len(body) <= syntax.SMALL:
        lines = min(body.count(b"\n") + 1, most_lines)
        return syntax.small(body, len(schema.names)) + lines * (_LINE + _FAULT)
    lines = min(scan.count(body, b"\n")[0] + 1, most_lines)
    return syntax.bound(body, Counts.of(body), schema, lines, lines) + lines * (_LINE + _FAULT)


def _most_of(schema: RecordSchema, max_records: int) -> Most:
    # A fault in a line says nothing about the next, so what texts hold cannot be told from what they do not.
    most = json.most_of(schema, max_records)
    match schema:
        case ImageSchema():
            return most
        case TableSchema():
            return Most(_SLACK * most.values, _SLACK * most.nested, most.detail, slack=1)


def _most_of_line(schema: RecordSchema) -> Most:
    detail = "more values than a record holds"
    match schema:
        case ImageSchema(field=image):
            lists = image.height * (image.width + 1)
            return Most(lists + image.dimensions + _FRAME, lists + _FRAME, detail)
        case TableSchema():
            return Most(len(schema.names) + _FRAME, _FRAME, detail)


def _holds_more(text: bytes, most: Most) -> bool:
    if len(text) <= syntax.SMALL:
        return False
    try:
        most.check(text, Counts.of(text))
    except TooManyRecords:
        return True
    return False


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, and their numbers."""
    number, place = 1, len(BYTE_ORDER_MARK) if body.startswith(BYTE_ORDER_MARK) else 0
    while place < len(body):
        window = min(place + _WINDOW, len(body))
        found = _TEXT.search(body, place, window)
        start = window if found is None else found.start()
        number += body.count(b"\n", place, start)
        place = start
        if found is not None:
            end = body.find(b"\n", start)
            place = len(body) if end < 0 else end
            yield number, body[start:place]
