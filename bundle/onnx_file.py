"""Finds tensors that an ONNX file keeps outside itself, by walking its protobuf wire format.

The serving side has no `onnx` package, and ONNX Runtime would read such a file from wherever the model says.
Field numbers are those of onnx.proto3 (ONNX IR version 3 and later).
"""

from collections.abc import Iterator

from bundle.errors import ExternalData

_MESSAGES: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def refuse_external_data(file: str, content: bytes) -> None:
    """Check that every tensor of an ONNX model stands in the file itself.

    Args:
        file: The file's name, for the error.
        content: Its bytes.

    Raises:
        ExternalData: A tensor's data lies elsewhere, or the bytes are no protobuf message.
    """
    try:
        external = _has_external_data("Model", memoryview(content))
    except (IndexError, ValueError, RecursionError) as error:
        raise ExternalData(file, "is not an ONNX model; restore the bundle or export it again") from error
    if external:
        raise ExternalData(file, "keeps tensors in another file; export it again with its data inside")


def _has_external_data(message: str, content: memoryview) -> bool:
    for number, value in _fields(content):
        if message == "Tensor":
            if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value == 1):
                return True
        elif (
            number in _MESSAGES[message]
            and isinstance(value, memoryview)
            and _has_external_data(_MESSAGES[message][number], value)
        ):
            return True
    return False


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, position = _varint(content, position)
            yield number, value
            continue
        if wire_type == _BYTES:
            size, position = _varint(content, position)
        elif wire_type in (_FIXED32, _FIXED64):
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire_type}")
        if position + size > len(content):
            raise ValueError("truncated")
        yield number, content[position : position + size]
        position += size


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a varint has at most ten bytes")
