"""The body of `infer`: a JSON object, and the blobs that may follow it."""

import contextlib
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from bundle.fields import Tensors
from bundle.manifest import Manifest
from service.codecs import json
from service.errors import BodyMalformed, Fault, RequestInvalid
from service.openinference.outputs import OUTPUTS
from service.openinference.records import to_tensors
from service.openinference.tensor import TensorReader
from service.question import Question

HEADER_LENGTH = b"inference-header-content-length"

# A string that does not end matches to its end, or a body of quotes alone would be read once for each of them.
_STRING_OR_NAN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|NaN', re.DOTALL)

_LARGEST_WITH_NAN = 2**20
"""Bytes of a JSON with bare NaN that are read: looking for it takes ten times as long as parsing does."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a client asks for.

    Args:
        id: The client's own name for the request, sent back; None where it gave none.
        tensors: The records as the graph's inputs.
        question: What is asked of them.
        timeout: Seconds that the client allows; None where it leaves that to the service.
        outputs: The outputs that are wanted, in order, each with whether as binary data.
    """

    id: str | None
    tensors: Tensors
    question: Question
    timeout: float | None
    outputs: dict[str, bool]

    @property
    def records(self) -> int:
        """B."""
        return len(next(iter(self.tensors.values())))

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def decode(body: bytes, header_length: bytes | None, manifest: Manifest, max_records: int) -> InferRequest:
    """Read a body of `infer`.

    Args:
        body: Inflated.
        header_length: The header `Inference-Header-Content-Length`; without it, all of the body is JSON.
        manifest: Of the model that is asked.
        max_records: Most records in a request.

    Raises:
        BodyMalformed: The JSON is none, or is not as long as the header says.
        RequestInvalid: A member, a tensor or a record that does not fit, by JSON pointer.
        TooManyRecords: More records than allowed.
    """
    length = _json_length(header_length, len(body))
    content = _parsed(body if length == len(body) else body[:length])
    if not isinstance(content, dict):
        _refuse("", 'an object is expected: {"inputs": [...]}')
    identifier = content.get("id")
    if identifier is not None and not isinstance(identifier, str):
        _refuse("/id", "text is expected")
    parameters = _parameters(content, "")
    question, faults = Question.usual(manifest).changed(parameters, manifest, ("parameters",))
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
    files = {"image", manifest.record.image[0].name} if manifest.record.image else ()
    reader = TensorReader(body, length, max_records, files)
    tensors = [reader.read(position, each) for position, each in enumerate(inputs)]
    reader.end()
    seconds = timeout / 1e6 if timeout else None
    return InferRequest(identifier, to_tensors(manifest.record, tensors), question, seconds, outputs)


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


def _parsed(body: bytes) -> Any:
    try:
        return json.parse(body)
    except BodyMalformed:
        if len(body) > _LARGEST_WITH_NAN or b"NaN" not in body:
            raise
        with contextlib.suppress(BodyMalformed):
            # No JSON, but what the usual client writes for the NaN of an array that it sends as JSON.
            return json.parse(_STRING_OR_NAN.sub(_null_for_nan, body))
        raise


def _null_for_nan(found: re.Match[bytes]) -> bytes:
    token = found.group()
    return b"null" if token == b"NaN" else token


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
