"""One input tensor of an inference request: from its JSON description and, maybe, a blob behind the JSON."""

import contextlib
import math
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn, cast

import numpy as np
import numpy.typing as npt

from service.errors import Fault, RequestInvalid, TooManyRecords
from service.openinference.datatype import BOOL, BYTES, DTYPES, NAMES, Group, group

_LENGTH = struct.Struct("<I")
_MOST_SIZES = 4  # of a batch of images
_JSON_TYPES: dict[Group, tuple[frozenset[type], str]] = {
    "text": (frozenset({str, type(None)}), "text or null is expected"),
    "boolean": (frozenset({bool, int, type(None)}), "true, false or null is expected"),
    "integer": (frozenset({int, type(None)}), "whole numbers or null are expected"),
    "float": (frozenset({int, float, type(None)}), "numbers or null are expected"),
}


@dataclass(frozen=True, slots=True)
class InputTensor:
    """A tensor as it was sent; of B records, n values each.

    Args:
        name: A field's, or a kind's.
        datatype: The protocol's name of it.
        rows: B.
        inner: The shape's other sizes; none for shape [B].
        values: (B n,) row-major, n values a record: texts (None is missing), or an array of the datatype, maybe a view
            of the body; files of images as bytes.
        missing: (B n,) bool, where JSON had null; None where it had none.
        pointer: To the tensor, in the request.
    """

    name: str
    datatype: str
    rows: int
    inner: tuple[int, ...]
    values: npt.NDArray[Any] | list[str | None] | list[bytes]
    missing: npt.NDArray[np.bool_] | None
    pointer: str

    @property
    def width(self) -> int:
        """n; 1 for shape [B]."""
        return math.prod(self.inner)

    def refuse(self, member: str, detail: str) -> NoReturn:
        """Raise what says that a member of this tensor does not fit."""
        raise RequestInvalid([Fault(f"{self.pointer}/{member}", detail)])


class TensorReader:
    """Reads the inputs of one request, in order: blobs lie behind the JSON in the order of the inputs.

    Args:
        body: The whole body.
        offset: Where the JSON ends.
        max_records: Most records in a request.
        widest: Most values that an input may have for a record.
        files: Names of inputs whose BYTES are files, and no text.
    """

    def __init__(self, body: bytes, offset: int, max_records: int, widest: int, files: Collection[str] = ()) -> None:
        self._body = body
        self._offset = offset
        self._max_records = max_records
        self._widest = widest
        self._files = files

    def read(self, position: int, content: object) -> InputTensor:
        """Read one input.

        Args:
            position: Its index among the inputs.
            content: What JSON says of it.

        Raises:
            RequestInvalid: A member that does not fit, or a blob whose size does not.
            TooManyRecords: More records than allowed.
        """
        pointer = f"/inputs/{position}"
        if not isinstance(content, dict):
            _refuse(pointer, "an object is expected: name, shape, datatype, and data unless it is binary")
        name, datatype = content.get("name"), content.get("datatype")
        if not isinstance(name, str):
            _refuse(f"{pointer}/name", "text is expected")
        if not isinstance(datatype, str) or datatype not in NAMES:
            _refuse(f"{pointer}/datatype", f"one of {', '.join(NAMES)} is expected")
        rows, inner = _shape(content.get("shape"), f"{pointer}/shape")
        size = _binary_size(content.get("parameters"), f"{pointer}/parameters")
        data = content.get("data")
        if (size is None) == (data is None):
            _refuse(f"{pointer}/data", "either data or the parameter binary_data_size is expected")
        values: npt.NDArray[Any] | list[str | None] | list[bytes]
        missing = None
        count = rows * math.prod(inner)
        if size is None:
            flat = _flat(data, (rows, *inner), f"{pointer}/data")
            self._check_records(rows, pointer)
            values, missing = _from_json(flat, datatype, f"{pointer}/data")
        else:
            blob = self._blob(size, datatype, count, f"{pointer}/parameters/binary_data_size")
            self._check_records(rows, pointer)
            if math.prod(inner) > self._widest:
                _refuse(f"{pointer}/shape", f"at most {self._widest} values a record are expected")
            if datatype == BYTES:
                pieces = _pieces(bytes(blob), count, f"{pointer}/parameters/binary_data_size")
                values = pieces if name in self._files else _texts(pieces, f"{pointer}/parameters/binary_data_size")
            else:
                values = np.frombuffer(blob, DTYPES[datatype])
        if datatype == BOOL and isinstance(values, np.ndarray) and values.max() > 1:
            _refuse(f"{pointer}/data", "0 and 1 are the values of BOOL")
        return InputTensor(name, datatype, rows, inner, values, missing, pointer)

    def end(self) -> None:
        """Check that nothing is left of the body.

        Raises:
            RequestInvalid: There is.
        """
        if self._offset != len(self._body):
            _refuse("/inputs", f"{len(self._body) - self._offset} bytes follow that no input's binary_data_size covers")

    def _blob(self, size: int, datatype: str, count: int, pointer: str) -> memoryview:
        offset = self._offset
        if size > len(self._body) - offset:
            _refuse(pointer, "the body ends before these bytes do; is Inference-Header-Content-Length right?")
        if datatype == BYTES:
            if size < count * _LENGTH.size:
                _refuse(pointer, f"the shape takes {count} texts, each with its length in four bytes before it")
        elif size != count * DTYPES[datatype].itemsize:
            _refuse(pointer, f"the shape takes {count * DTYPES[datatype].itemsize} bytes of {datatype}")
        self._offset += size
        return memoryview(self._body)[offset : offset + size]

    def _check_records(self, rows: int, pointer: str) -> None:
        # Only where there are as many as the shape says is this what is wrong.
        if rows > self._max_records:
            limit = f"a request holds at most {self._max_records}, so send several"
            raise TooManyRecords(f"{pointer}/shape: too many records; {limit}")


def _shape(shape: object, pointer: str) -> tuple[int, tuple[int, ...]]:
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= _MOST_SIZES
        or any(type(size) is not int for size in shape)
    ):
        _refuse(pointer, "[B] or [B, n] is expected: B records, n values each; of images [B, H, W, C]")
    if min(shape) < 1:
        _refuse(pointer, "sizes of at least 1 are expected")
    return shape[0], tuple(shape[1:])


def _binary_size(parameters: object, pointer: str) -> int | None:
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        _refuse(pointer, "an object is expected")
    if "shared_memory_region" in parameters:
        _refuse(f"{pointer}/shared_memory_region", "there is no shared memory here; send the data itself")
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        _refuse(f"{pointer}/binary_data_size", "a whole number of bytes is expected")
    return size


def _flat(data: object, shape: tuple[int, ...], pointer: str) -> Sequence[object]:
    """The values row by row; JSON may hold them flat, or nested as the shape says."""
    if not isinstance(data, list):
        _refuse(pointer, "an array is expected")
    if len(data) == shape[0] and data and isinstance(data[0], list):
        for size in shape[1:] or (1,):
            if not all(isinstance(row, list) and len(row) == size for row in data):
                _refuse(pointer, f"rows of {size} values are expected, as the shape says")
            data = list(chain.from_iterable(data))
        return data
    if len(data) != math.prod(shape):
        _refuse(pointer, f"{math.prod(shape)} values are expected, as the shape says")
    return data


def _from_json(
    flat: Sequence[object], datatype: str, pointer: str
) -> tuple[npt.NDArray[Any] | list[str | None], npt.NDArray[np.bool_] | None]:
    kind = group(datatype)
    allowed, expected = _JSON_TYPES[kind]
    types = set(map(type, flat))
    if not types <= allowed:
        position = next(i for i, value in enumerate(flat) if type(value) not in allowed)
        _refuse(f"{pointer}/{position}", expected)
    if kind == "text":
        return cast(list[str | None], list(flat)), None
    values: list[Any] = list(flat)
    missing = None
    if type(None) in types:
        missing = np.fromiter((value is None for value in values), bool, len(values))
        values = [0 if value is None else value for value in values]
    try:
        if kind != "float":
            return np.array(values, DTYPES[datatype]), missing
        with np.errstate(over="ignore"):  # what is beyond the datatype becomes infinite, and is refused as such
            numbers = np.array(values, np.float64).astype(DTYPES[datatype])
    except OverflowError:
        _refuse(pointer, f"a value is beyond {datatype}")
    if missing is not None:
        numbers[missing] = np.nan
    return numbers, None


def _pieces(blob: bytes, count: int, pointer: str) -> list[bytes]:
    """Strings of a blob: each four bytes of length, little-endian, then so many bytes."""
    pieces: list[bytes] = []
    start, size_at = 0, _LENGTH.unpack_from
    with contextlib.suppress(struct.error):  # too few bytes for a length
        for _ in range(count):
            end = start + 4 + size_at(blob, start)[0]
            pieces.append(blob[start + 4 : end])
            start = end
    if len(pieces) != count or start != len(blob):
        _refuse(pointer, f"the shape takes {count} texts, each with its length in four bytes before it")
    return pieces


def _texts(pieces: list[bytes], pointer: str) -> list[str | None]:
    try:
        return [piece.decode() for piece in pieces]
    except UnicodeDecodeError:
        _refuse(pointer, "UTF-8 is expected")


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise RequestInvalid([Fault(pointer, detail)])
