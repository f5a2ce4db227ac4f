"""application/json: a request object to tensors, scores to a response object."""

from itertools import islice
from typing import Any

import orjson

from bundle.contents.manifest import Manifest
from bundle.errors import MOST_PROBLEMS, InvalidRecords, Problem
from bundle.record.records import encode_records
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.codecs import syntax
from service.codecs.syntax import Counts, Most
from service.engine.question import MEMBERS, Question
from service.engine.request import Admission, ScoreRequest, admitted
from service.engine.verdicts import Verdicts
from service.errors import BodyMalformed, Fault, RequestInvalid, TooManyRecords, pointer

MEDIA_TYPE = "application/json"
MOST_ROWS = 2**21
"""Arrays in a body of images: a hundred bytes each once parsed, where the numbers in them take eight."""

_MEMBERS = ("records", *MEMBERS)
_FRAME = 64  # values around the records


def parse(body: bytes, most: Most) -> Any:
    """Read JSON.

    Args:
        body: UTF-8.
        most: What it may hold.

    Raises:
        BodyMalformed: Not JSON (RFC 8259; NaN, Infinity and numbers beyond a double are none).
        TooManyRecords: It holds more.
    """
    if len(body) > syntax.SMALL:
        most.check(body, Counts.of(body))
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # The library's message names what it expected and where, never what it found.
        detail = f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
    # Outside of the handler: the library's error holds the whole text, and one raised within would hold that error.
    raise BodyMalformed(detail)


def most_of(schema: RecordSchema, max_records: int) -> Most:
    """What a body of records may hold.

    Args:
        schema: The model's fields.
        max_records: Most records in a request.
    """
    values = max_records * (schema.width + 2)
    match schema:
        case ImageSchema():
            detail = "more numbers than a request may hold; send fewer images, or files in base64"
            return Most(values + MOST_ROWS, MOST_ROWS, detail, slack=1)
        case TableSchema():
            detail = f"more values than {max_records} records hold, which is the most of a request"
            return Most(values + _FRAME, max_records + _FRAME, detail)


def bound(body: bytes, manifest: Manifest, max_records: int) -> int:
    """Most bytes that `decode` makes of a body, the body itself apart; see `service.score.negotiation.Codec.bound`."""
    schema = manifest.record
    if isinstance(schema, TableSchema) and len(body) <= syntax.SMALL:
        return syntax.small(body, len(schema.names))
    counts = Counts.of(body)
    most_of(schema, max_records).check(body, counts)
    return syntax.bound(body, counts, schema, min(max_records, counts.nested))


def decode(
    body: bytes, manifest: Manifest, max_records: int, question: Question, admission: Admission = admitted
) -> ScoreRequest:
    """Read a body of `POST /score`.

    Args:
        body: UTF-8 JSON.
        manifest: Of the model that is asked.
        max_records: Most records in a request.
        question: What is asked of each record, unless the body asks something else.
        admission: May refuse so many records before their tensors are made.

    Raises:
        BodyMalformed: Not JSON; see `parse`.
        RequestInvalid: A member or a record that does not fit, by JSON pointer.
        TooManyRecords: More records than allowed.
    """
    content = parse(body, most_of(manifest.record, max_records))
    if not isinstance(content, dict):
        raise RequestInvalid([Fault("", 'an object is expected: {"records": [...]}')])
    unknown = islice((name for name in content if name not in _MEMBERS), MOST_PROBLEMS)
    faults = [Fault(pointer(name), "no such member") for name in unknown]
    question, wrong = question.changed(content, manifest)
    faults += wrong
    records = content.get("records")
    if not isinstance(records, list) or not records:
        faults.append(Fault("/records", "an array of at least one record is expected"))
    if faults:
        raise RequestInvalid(faults)
    assert isinstance(records, list)
    if len(records) > max_records:
        raise TooManyRecords(f"{len(records)} records; a request holds at most {max_records}, so send several")
    admission(len(records), question)
    try:
        tensors = encode_records(manifest.record, records)
    except InvalidRecords as error:
        raise RequestInvalid([_fault(manifest.record, records[each.row], each) for each in error.problems]) from None
    return ScoreRequest(tensors, question)


def encode(name: str, version: int, question: Question, verdicts: Verdicts) -> bytes:
    """Write the answer of `POST /score`.

    Args:
        name: The model that answered.
        version: Its version.
        question: What was asked.
        verdicts: Of B records.
    """
    # float64 throughout, so that a client reads back the very number that was computed; NaN becomes null.
    answer = {
        "model": {"name": name, "version": str(version)},
        "samples": question.samples,
        "score": question.score,
        "false_alarm_rate": question.false_alarm_rate,
        "results": verdicts.objects(),
    }
    return orjson.dumps(answer)


def _fault(schema: RecordSchema, record: object, problem: Problem) -> Fault:
    if problem.field is None:
        return Fault(pointer("records", problem.row), problem.detail)
    if isinstance(record, list) and problem.field in schema.name_set:
        return Fault(pointer("records", problem.row, schema.names.index(problem.field)), problem.detail)
    return Fault(pointer("records", problem.row, problem.field), problem.detail)
