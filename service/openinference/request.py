"""The body of `infer`: a JSON object, and the blobs that may follow it."""

import contextlib
from dataclasses import dataclass
from typing import Any, NoReturn

from bundle.contents.manifest import Manifest
from bundle.record import images
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.codecs import json, scan, syntax
from service.codecs.syntax import Counts, Most
from service.engine.question import Question
from service.engine.request import Admission, ScoreRequest, admitted
from service.errors import BodyMalformed, Fault, RequestInvalid
from service.openinference.outputs import OUTPUTS
from service.openinference.records import to_tensors
from service.openinference.tensor import TensorReader

HEADER_LENGTH = b"inference-header-content-length"

_LARGEST_WITH_NAN = 2**20
"""Bytes of a JSON with bare NaN that are read: looking for it takes ten times as long as parsing does."""
_FRAME = 2**12  # values around those of the records

# Bytes that Python and numpy take for each, measured by tests/service/codecs/test_bounds.py.
_VALUE, _NUMBER, _TEXT, _TENSOR = 48, 48, 160, 24
_PATCHED = 16  # for each byte that is looked through for NaN
_BASE = 2**17


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest(ScoreRequest):
    """Records to score, and how the answer should look.

    Args:
        id: The client's own name for the request, sent back; None where it gave none.
        outputs: The outputs that are wanted, in order, each with whether as binary data.
    """

    id: str | None
    outputs: dict[str, bool]


def decode(
    body: bytes,
    header_length: bytes | None,
    manifest: Manifest,
    max_records: int,
    question: Question,
    admission: Admission = admitted,
) -> InferRequest:
    """Read a body of `infer`.

    Args:
        body: Inflated.
        header_length: The header `Inference-Header-Content-Length`; without it, all of the body is JSON.
        manifest: Of the model that is asked.
        max_records: Most records in a request.
        question: What is asked of each record, unless the body asks something else.
        admission: May refuse so many records before their tensors are put together.

    Raises:
        BodyMalformed: The JSON is none, or is not as long as the header says.
        RequestInvalid: A member, a tensor or a record that does not fit, by JSON pointer.
        TooManyRecords: More records than allowed.
    """
    length = _json_length(header_length, len(body))
    content = _parsed(body if length == len(body) else body[:length], _most_of(manifest.record, max_records))
    if not isinstance(content, dict):
        _refuse("", 'an object is expected: {"inputs": [...]}')
    identifier = content.get("id")
    if identifier is not None and not isinstance(identifier, str):
        _refuse("/id", "text is expected")
    parameters = _parameters(content, "")
    question, faults = question.changed(parameters, manifest, ("parameters",))
    if question.explain:
        faults.append(Fault("/parameters/explain", "an explanation is no tensor: ask for it with POST /score"))
    if faults:
        raise RequestInvalid(faults)
    timeout = parameters.get("timeout")
    if timeout is not None and (type(timeout) is not int or timeout < 0):
        _refuse("/parameters/timeout", "a whole number of microseconds is expected, or 0 for none")
    outputs = _outputs(content.get("outputs"), _flag(parameters, "binary_data_output", "/parameters", default=False))
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        _refuse("/inputs", "an array of at least one tensor is expected")
    if len(inputs) > _most_inputs(manifest.record):
        _refuse("/inputs", "more tensors than the model has inputs; GET /v2/models/NAME lists them")
    reader = TensorReader(body, length, max_records, manifest.record.width, _of_files(manifest.record))
    tensors = [reader.read(position, each) for position, each in enumerate(inputs)]
    reader.end()
    admission(tensors[0].rows, question)
    seconds = timeout / 1e6 if timeout else None
    return InferRequest(to_tensors(manifest.record, tensors), question, seconds, id=identifier, outputs=outputs)


def bound(body: bytes, header_length: bytes | None, manifest: Manifest, max_records: int) -> int:
    """Most bytes that `decode` makes of a body, the body itself apart, at the worst moment.

    Args:
        body: Inflated.
        header_length: The header `Inference-Header-Content-Length`.
        manifest: Of the model that is asked.
        max_records: Most records in a request.

    Raises:
        BodyMalformed: The JSON is not as long as the header says.
        TooManyRecords: It holds more than so many records do.
    """
    schema = manifest.record
    length = _json_length(header_length, len(body))
    text = body if length == len(body) else body[:length]
    counts = Counts.of(text)
    _most_of(schema, max_records).check(text, counts)
    blobs = len(body) - length
    values = counts.commas + counts.nested + 1
    rows = min(max_records, max(values, blobs))
    match schema:
        case ImageSchema():
            tensors = images.bound(schema.field, rows, len(body))
        case TableSchema():
            tensors = rows * len(schema.names) * _TENSOR
    patched = _PATCHED * length if length <= _LARGEST_WITH_NAN and b"NaN" in text else 0
    read = values * _VALUE + min(blobs, max_records * schema.width) * _NUMBER
    texts = min(blobs // 4, max_records * _most_texts(schema)) * _TEXT + blobs * (2 + scan.width(body))
    parsed = syntax.parsed(text, counts)
    copied = length if text is not body else 0
    return parsed + max(syntax.parsing(text, counts) + patched, read + tensors + texts) + copied + _BASE


def _most_of(schema: RecordSchema, max_records: int) -> Most:
    """What the JSON may hold: a value a field of each record, each in a list of its own maybe."""
    match schema:
        case ImageSchema():
            most = json.most_of(schema, max_records)
            return Most(most.values + _FRAME, most.nested + _FRAME, most.detail, most.slack)
        case TableSchema():
            fields = len(schema.names)
            detail = f"more values than {max_records} records hold, which is the most of a request"
            return Most(max_records * (2 * fields + 2) + _FRAME, max_records * fields + _FRAME, detail)


def _most_inputs(schema: RecordSchema) -> int:
    return len(schema.names) + len(schema.timestamps) + len(schema.dtypes)


def _most_texts(schema: RecordSchema) -> int:
    """Most texts or files that inputs may have for a record, each category twice: by itself and by its kind."""
    match schema:
        case ImageSchema():
            return 1
        case TableSchema():
            return 2 * len(schema.categorical) + len(schema.timestamps) + 1


def _of_files(schema: RecordSchema) -> frozenset[str]:
    """Inputs that may hold files."""
    match schema:
        case ImageSchema():
            return frozenset(("image", schema.field.name))
        case TableSchema():
            return frozenset()


def _json_length(header: bytes | None, size: int) -> int:
    if header is None:
        return size
    if not header.isdigit() or len(header) > 18:
        raise BodyMalformed("Inference-Header-Content-Length: the number of bytes of the JSON is expected")
    length = int(header)
    if length == 0:
        raise BodyMalformed("Inference-Header-Content-Length is 0: a body without JSON takes a model of one input")
    if length > size:
        raise BodyMalformed("Inference-Header-Content-Length: the body is shorter than that")
    return length


def _parsed(body: bytes, most: Most) -> Any:
    try:
        return json.parse(body, most)
    except BodyMalformed as error:
        if len(body) > _LARGEST_WITH_NAN or b"NaN" not in body:
            raise
        malformed = error
    with contextlib.suppress(BodyMalformed):
        # No JSON, but what the usual client writes for the NaN of an array that it sends as JSON.
        return json.parse(scan.with_null_for_nan(body), most)
    raise malformed


def _outputs(wanted: object, binary: bool) -> dict[str, bool]:
    if wanted is None or wanted == []:
        return dict.fromkeys(OUTPUTS, binary)
    if not isinstance(wanted, list):
        _refuse("/outputs", "an array is expected, or nothing for all outputs")
    outputs: dict[str, bool] = {}
    for position, output in enumerate(wanted):
        pointer = f"/outputs/{position}"
        if not isinstance(output, dict):
            _refuse(pointer, "an object is expected: name, and parameters if need be")
        name = output.get("name")
        if not isinstance(name, str) or name not in OUTPUTS:
            _refuse(f"{pointer}/name", f"one of {', '.join(OUTPUTS)} is expected")
        if name in outputs:
            _refuse(f"{pointer}/name", "asked for twice")
        parameters = _parameters(output, pointer)
        if parameters.get("classification"):
            _refuse(f"{pointer}/parameters/classification", "there are no classes here; leave it out")
        if "shared_memory_region" in parameters:
            _refuse(f"{pointer}/parameters/shared_memory_region", "there is no shared memory here")
        outputs[name] = _flag(parameters, "binary_data", f"{pointer}/parameters", default=binary)
    return outputs


def _parameters(content: dict[str, Any], pointer: str) -> dict[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        _refuse(f"{pointer}/parameters", "an object is expected")
    return {name: value for name, value in parameters.items() if value is not None}


def _flag(parameters: dict[str, Any], name: str, pointer: str, *, default: bool) -> bool:
    flag = parameters.get(name, default)
    if not isinstance(flag, bool):
        _refuse(f"{pointer}/{name}", "true or false is expected")
    return flag


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise RequestInvalid([Fault(pointer, detail)])
