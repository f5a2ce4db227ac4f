"""From a request's tensors, by field or by kind, to the tensors that the graph takes."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from bundle.record import images, timestamps
from bundle.record.categories import category_text
from bundle.record.fields import MISSING, UNKNOWN, CategoricalField, ImageField, Tensors
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.errors import Fault, RequestInvalid
from service.openinference.datatype import group
from service.openinference.tensor import InputTensor

_NOTHING = {"numeric": np.nan, "boolean": MISSING, "categorical": MISSING}

_UNKNOWN = "the model has no such input; GET /v2/models/NAME lists those that it has"
_TWICE = "given twice: by this input and by one before it"
_Code = TypeVar("_Code", np.int8, np.int64)


def to_tensors(schema: RecordSchema, inputs: Sequence[InputTensor]) -> Tensors:
    """Put the tensors of B records together.

    Args:
        schema: The model's fields.
        inputs: At least one; by name a field, a timestamp that fields derive from, or a whole kind.

    Returns:
        The graph's inputs, B records; see `bundle.record.records`. A whole kind that has come in the graph's own dtype
        is a view of the request's body.

    Raises:
        RequestInvalid: A name, a shape, a datatype or a value that does not fit, or a record without any value.
    """
    match schema:
        case ImageSchema():
            assembly: _Images | _Table = _Images(schema.field)
        case TableSchema():
            assembly = _Table(schema, inputs[0].rows)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        for tensor in inputs:
            if tensor.rows != inputs[0].rows:
                tensor.refuse("shape", "as many records as the first input has are expected")
            assembly.add(tensor)
        return assembly.tensors()


class _Images:
    """The graph's input of images, while it is put together.

    Args:
        field: The image.
    """

    def __init__(self, field: ImageField) -> None:
        self._field = field
        self._tensors: dict[str, images.Levels] = {}

    def add(self, tensor: InputTensor) -> None:
        """Take a tensor in."""
        if tensor.name not in ("image", self._field.name):
            tensor.refuse("name", _UNKNOWN)
        if self._tensors:
            tensor.refuse("name", _TWICE)
        self._tensors["image"] = self._files(tensor) if group(tensor.datatype) == "text" else self._levels(tensor)

    def tensors(self) -> Tensors:
        """What has been put together."""
        return self._tensors

    def _files(self, tensor: InputTensor) -> images.Levels:
        if tensor.width != 1:
            tensor.refuse("shape", "[B] or [B, 1] is expected: a file each")
        return images.encode(
            self._field, tensor.values, lambda row, detail: tensor.refuse("data", f"value {row}: {detail}")
        )

    def _levels(self, tensor: InputTensor) -> images.Levels:
        field = self._field
        shapes = [field.shape, (field.dimensions,), *([field.shape[:2]] if field.channels == 1 else [])]
        if tensor.inner not in shapes:
            tensor.refuse("shape", f"[B, {', '.join(map(str, field.shape))}] is expected")
        values = tensor.values
        if tensor.missing is not None:
            tensor.refuse("data", "an image is never missing")
        if group(tensor.datatype) != "integer":
            tensor.refuse("datatype", "UINT8 is expected, levels from 0 to 255; or BYTES, PNG or JPEG files")
        assert isinstance(values, np.ndarray)
        if values.min() < 0 or values.max() > 255:
            tensor.refuse("data", "whole numbers from 0 to 255 are expected")
        return values.astype(np.uint8, copy=False).reshape(tensor.rows, *field.shape)


class _Table:
    """The graph's inputs of a table's rows, while they are put together.

    Args:
        schema: The model's fields.
        rows: B.
    """

    def __init__(self, schema: TableSchema, rows: int) -> None:
        self._schema = schema
        self._rows = rows
        self._tensors: dict[str, npt.NDArray[Any]] = {}
        self._given: set[str] = set()  # fields
        self._numeric: list[InputTensor] = []
        self._fields = {field.name: field for field in schema.fields}

    def add(self, tensor: InputTensor) -> None:
        """Take a tensor in."""
        if tensor.name in self._fields:
            self._add_field(tensor)
        elif tensor.name in self._schema.timestamps:
            self._add_timestamp(tensor)
        elif tensor.name in self._schema.dtypes:
            self._add_kind(tensor)
        else:
            tensor.refuse("name", _UNKNOWN)

    def tensors(self) -> Tensors:
        """What has been put together; kinds without any tensor are missing throughout."""
        if self._numeric and np.isinf(self._tensors["numeric"]).any():
            for each in self._numeric:
                _refuse_infinite(each)
        present = np.zeros(self._rows, bool)
        for kind in self._schema.dtypes:
            tensor = self._of_kind(kind)
            present |= (~np.isnan(tensor) if kind == "numeric" else tensor != MISSING).any(axis=1)
        if not present.all():
            row = int(np.flatnonzero(~present)[0])
            raise RequestInvalid([Fault("/inputs", f"record {row}: no field is present")])
        return self._tensors

    def _add_field(self, tensor: InputTensor) -> None:
        field = self._fields[tensor.name]
        kind, position = field.kind, self._schema.columns[field.name]
        self._claim(tensor, [field.name], 1)
        values = _categories([field], tensor) if isinstance(field, CategoricalField) else self._plain(kind, tensor)
        self._of_kind(kind)[:, position] = values

    def _add_timestamp(self, tensor: InputTensor) -> None:
        fields = self._schema.timestamps[tensor.name]
        self._claim(tensor, [field.name for field in fields], 1)
        if group(tensor.datatype) != "text":
            tensor.refuse("datatype", "BYTES is expected: timestamps in ISO 8601")
        for field in fields:
            assert field.derived is not None
            position, codes = self._schema.columns[field.name], self._of_kind("categorical")
            for row, text in enumerate(tensor.values):
                try:
                    codes[row, position] = field.codes.get(timestamps.part(field.derived, text or None), UNKNOWN)
                except ValueError:
                    tensor.refuse("data", f"value {row}: a timestamp in ISO 8601 is expected")

    def _add_kind(self, tensor: InputTensor) -> None:
        kind = tensor.name
        fields = self._schema.by_input[kind]
        self._claim(tensor, [field.name for field in fields], len(fields))
        if kind != "categorical":
            values = self._plain(kind, tensor)
        elif group(tensor.datatype) == "integer":
            values = _codes(self._schema.categorical, tensor)
        elif group(tensor.datatype) == "text":
            values = _categories(self._schema.categorical, tensor)
        else:
            tensor.refuse("datatype", "BYTES (text) or integers (codes) are expected")
        matrix = values.reshape(self._rows, len(fields))
        # A blob begins wherever the JSON before it ends; the runtime reads its inputs in place.
        self._tensors[kind] = matrix if matrix.flags.aligned else matrix.copy()

    def _plain(self, kind: str, tensor: InputTensor) -> npt.NDArray[Any]:
        """The values of numeric or boolean fields as the graph has them, (B n,)."""
        if kind == "boolean":
            return _booleans(tensor)
        self._numeric.append(tensor)
        return _numbers(tensor)

    def _claim(self, tensor: InputTensor, fields: Sequence[str], width: int) -> None:
        if tensor.width != width or len(tensor.inner) > 1:
            wide = f"[B, {width}] is expected: a column for each of the kind's fields, in order"
            tensor.refuse("shape", wide if width > 1 else "[B] or [B, 1] is expected")
        if not self._given.isdisjoint(fields):
            tensor.refuse("name", _TWICE)
        self._given.update(fields)

    def _of_kind(self, kind: str) -> npt.NDArray[Any]:
        if kind not in self._tensors:
            shape = (self._rows, len(self._schema.by_input[kind]))
            self._tensors[kind] = np.full(shape, _NOTHING[kind], self._schema.dtypes[kind])
        return self._tensors[kind]


def _numbers(tensor: InputTensor) -> npt.NDArray[np.float64]:
    values = tensor.values
    if not isinstance(values, np.ndarray) or group(tensor.datatype) == "boolean":
        tensor.refuse("datatype", "FP64, FP32 or an integer is expected")
    numbers: npt.NDArray[np.float64] = values.astype(np.float64, copy=False)
    if tensor.missing is not None and group(tensor.datatype) == "integer":
        numbers[tensor.missing] = np.nan
    return numbers


def _booleans(tensor: InputTensor) -> npt.NDArray[np.int8]:
    values = tensor.values
    if not isinstance(values, np.ndarray) or group(tensor.datatype) == "float":
        tensor.refuse("datatype", "BOOL or an integer is expected")
    if group(tensor.datatype) == "integer" and (values.min() < MISSING or values.max() > 1):
        tensor.refuse("data", "0 (false), 1 (true) or -1 (missing) is expected")
    return _with_gaps(values.astype(np.int8, copy=False), tensor)


def _codes(fields: Sequence[CategoricalField], tensor: InputTensor) -> npt.NDArray[np.int64]:
    values = tensor.values
    assert isinstance(values, np.ndarray)
    matrix = values.reshape(tensor.rows, len(fields))
    greatest = [field.size - 1 for field in fields]
    if matrix.min() < MISSING or (matrix.max(axis=0) > greatest).any():
        tensor.refuse("data", "codes are expected: -1 missing, 0 unknown, i + 1 for the vocabulary's i, from 0")
    return _with_gaps(values.astype(np.int64, copy=False), tensor)


def _with_gaps(codes: npt.NDArray[_Code], tensor: InputTensor) -> npt.NDArray[_Code]:
    if tensor.missing is not None:
        codes[tensor.missing] = MISSING
    return codes


def _categories(fields: Sequence[CategoricalField], tensor: InputTensor) -> npt.NDArray[np.int64]:
    """The codes of texts (B n,) for n fields, or of the numbers of one field."""
    values = tensor.values
    if isinstance(values, np.ndarray):
        (field,) = fields
        return _spelled(field, tensor)
    codes = np.empty(len(values), np.int64)
    for position, field in enumerate(fields):
        known = field.codes
        if "" not in known:
            known = {"": MISSING, **known}
        column = cast(Sequence[str | None], values[position :: len(fields)])  # those of images alone are bytes
        found = map(known.get, column, repeat(UNKNOWN))
        codes[position :: len(fields)] = np.fromiter(found, np.int64, len(column))
    return codes


def _spelled(field: CategoricalField, tensor: InputTensor) -> npt.NDArray[np.int64]:
    values = tensor.values
    assert isinstance(values, np.ndarray)
    _refuse_infinite(tensor)
    if group(tensor.datatype) == "boolean":
        values = values.astype(bool)
    distinct, where = np.unique(values, return_inverse=True)
    known = np.array([field.codes.get(category_text(value), UNKNOWN) for value in distinct], np.int64)
    codes = known[where]
    if tensor.missing is not None:
        codes[tensor.missing] = MISSING
    return codes


def _refuse_infinite(tensor: InputTensor) -> None:
    values = tensor.values
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        return
    infinite = np.isinf(values)
    if infinite.any():
        tensor.refuse("data", f"value {int(np.flatnonzero(infinite)[0])}: a finite number is expected")
