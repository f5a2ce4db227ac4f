"""Checks that an ONNX file says one thing to every reader, and that nothing which it holds lies outside of it.

The serving side has no `onnx` package, so this walks the protobuf wire format itself. A reader that is laxer or
stricter than ONNX Runtime's would see another model than the one that is run. So nothing is accepted that two readers
could read differently: only known fields, of their own wire type, in the shortest encoding, a single one once.
"""

from typing import Final, NamedTuple

from bundle.errors import ExternalData, OnnxNotCanonical
from bundle.folder.onnx_fields import ENUMS, MESSAGES, ONE_OF

DOMAINS: Final = (b"", b"ai.onnx")
"""Of operators: both mean ONNX's own. Those of others may read files, as ONNX Runtime's EPContext does."""
DEEPEST = 96
"""Messages inside messages; protobuf itself reads no more than 100."""
MOST_PARTS = 2_000_000
"""Fields and packed numbers in a file, so that a walk takes seconds; a graph of a thousand nodes has some 20 000."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIRE = {"int64": _VARINT, "uint64": _VARINT, "int32": _VARINT, "float": _FIXED32, "double": _FIXED64}
_INT64 = range(2**64)
_INT32 = (range(2**31), range(2**64 - 2**31, 2**64))
_ORT_MARK = slice(4, 8)
_ORT = b"ORTM"


class _Field(NamedTuple):
    """What may stand behind a tag.

    Args:
        name: As onnx.proto has it.
        wire: Its wire type.
        within: The message that it is, or "".
        once: A bit that no two fields of a message may share; 0 where the field is repeated.
        ranges: Of numbers: which ones there are, read as unsigned.
        packed: The wire type of the numbers in it, or None.
    """

    name: str
    wire: int
    within: str
    once: int
    ranges: tuple[range, ...]
    packed: int | None


def _fields(message: str) -> dict[int, _Field]:
    """The fields of a message by their tags."""
    fields = {}
    for number, text in MESSAGES[message].items():
        *repeated, kind, name = text.split()
        group = ONE_OF.get(message, frozenset())
        once = 0 if repeated else 1 << (min(group) if number in group else number)
        ranges = _INT32 if kind == "int32" else (ENUMS.get(kind, _INT64),)
        wire = _VARINT if kind in ENUMS else _WIRE.get(kind, _BYTES)
        within = kind if kind in MESSAGES else ""
        fields[number << 3 | wire] = _Field(name, wire, within, once, ranges, None)
        if repeated and wire != _BYTES:
            fields[number << 3 | _BYTES] = _Field(name, _BYTES, "", once, ranges, wire)
    return fields


_FIELDS = {message: _fields(message) for message in MESSAGES}
_WIDTHS = {_FIXED32: 4, _FIXED64: 8}


class _NotCanonical(ValueError):
    """Bytes that another reader might read differently; says why."""


def refuse_external_data(file: str, content: bytes) -> None:
    """Check, before any other reader sees an ONNX model, that it says one thing and reaches nothing outside itself.

    Args:
        file: The file's name, for the error.
        content: Its bytes. What is run later has to be these.

    Raises:
        OnnxNotCanonical: It is no ONNX model, or is written in a way that readers may understand differently.
        ExternalData: A tensor's data lies elsewhere, or an operator is none of ONNX's own.
    """
    try:
        reason = _walk(content)
    except _NotCanonical as error:
        raise OnnxNotCanonical(
            file, f"is not an ONNX model in canonical form: {error}; restore the bundle or export it again"
        ) from error
    if reason is not None:
        raise ExternalData(file, reason)


def _walk(content: bytes) -> str | None:
    """Go through every field of every message, without recursion; returns what reaches outside, if anything does."""
    if content[_ORT_MARK] == _ORT:
        raise _NotCanonical("ONNX Runtime would take it for a model in its own format")
    reaches: str | None = None
    position, end, parts = 0, len(content), 0
    message, fields, seen = "Model", _FIELDS["Model"], 0
    above: list[tuple[str, int, int]] = []
    while True:
        if position == end:
            if not above:
                return reaches
            message, end, seen = above.pop()
            fields = _FIELDS[message]
            continue
        parts += 1
        if parts > MOST_PARTS:
            raise _NotCanonical(f"it has more than {MOST_PARTS:,} fields")
        tag, position = _varint(content, position, end)
        field = fields.get(tag)
        if field is None:
            raise _NotCanonical(f"a {message} has no field {tag >> 3} of wire type {tag & 7}")
        if seen & field.once:
            raise _NotCanonical(f"a {message} has more than one {field.name}, or another in its place")
        seen |= field.once
        if field.wire == _VARINT:
            value, position = _number(content, position, end, field)
            if value and field.name == "data_location":
                reaches = reaches or _ELSEWHERE
            continue
        if field.wire == _BYTES:
            size, position = _varint(content, position, end)
        else:
            size = _WIDTHS[field.wire]
        after = position + size
        if after > end:
            raise _NotCanonical(f"a {message}'s {field.name} is cut off")
        if field.packed is not None:
            parts = _packed(content, position, after, field, parts)
        elif field.within:
            if field.name == "external_data":
                reaches = reaches or _ELSEWHERE
            if len(above) == DEEPEST:
                raise _NotCanonical(f"it is nested more than {DEEPEST} levels deep")
            above.append((message, end, seen))
            message, end, seen = field.within, after, 0
            fields = _FIELDS[message]
            continue
        elif field.name in _READ:
            reaches = reaches or _reaches(message, field.name, content[position:after])
        position = after


_ELSEWHERE = "keeps tensors in another file; export it again with its data inside"
_READ = {"domain", "key"}


def _reaches(message: str, name: str, text: bytes) -> str | None:
    """What is wrong with a text that ONNX Runtime acts on."""
    if name == "key":
        if text == b"ort_config":
            return "holds options of ONNX Runtime (ort_config), which may name files; take them out"
    elif message in {"Node", "Function", "OperatorSetId"} and text not in DOMAINS:
        shown = text[:80].decode("ascii", "backslashreplace")
        return f"needs operators of the domain {shown!r}; only ONNX's own are run, since others may read files"
    return None


def _packed(content: bytes, position: int, end: int, field: _Field, parts: int) -> int:
    """Check numbers that stand in one field; returns how many parts there are with them."""
    if field.packed != _VARINT:
        if (end - position) % _WIDTHS[field.packed or _FIXED32]:
            raise _NotCanonical(f"{field.name} ends within a number")
        return parts
    while position < end:
        _, position = _number(content, position, end, field)
        parts += 1
        if parts > MOST_PARTS:
            raise _NotCanonical(f"it has more than {MOST_PARTS:,} numbers that are no raw data")
    return parts


def _number(content: bytes, position: int, end: int, field: _Field) -> tuple[int, int]:
    """A number that the field may hold, and where it ends."""
    value, position = _varint(content, position, end)
    for each in field.ranges:
        if value in each:
            return value, position
    raise _NotCanonical(f"{field.name} is out of its range")


def _varint(content: bytes, position: int, end: int) -> tuple[int, int]:
    """A number of up to 64 bits in its shortest form, and where it ends."""
    if position >= end:
        raise _NotCanonical("it is cut off")
    byte = content[position]
    position += 1
    if byte < 0x80:
        return byte, position
    value, shift = byte & 0x7F, 7
    while position < end:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte:
                raise _NotCanonical("a number is not written in its shortest form")
            if value >> 64:
                raise _NotCanonical("a number has more than 64 bits")
            return value, position
        shift += 7
        if shift > 63:
            raise _NotCanonical("a number has more than ten bytes")
    raise _NotCanonical("it is cut off")
