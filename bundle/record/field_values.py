"""From the values of a field to the codes and numbers of a tensor."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.record.categories import category_text, number_spelling
from bundle.record.fields import MISSING, UNKNOWN, BooleanField, CategoricalField, NumericField, TableField
from bundle.record.images import Report

Column = Sequence[object] | npt.NDArray[Any]
Tensor = npt.NDArray[Any]

_NUMBERS = int | float | Decimal | np.integer | np.floating
_BOOLEAN_CODES: dict[object, int] = {None: MISSING, False: 0, True: 1}  # 0, 1, 0.0 and 1.0 are equal keys


def encode_field(field: TableField, column: Column, report: Report) -> Tensor:
    """Turn the values of a field into those of its tensor's column.

    Args:
        field: The field.
        column: n values: an array, or a sequence of values as a JSON client would send them.
        report: Told of values that do not fit; they are missing in what is returned.

    Returns:
        (n,) float64, int8 or int64.
    """
    match field:
        case NumericField():
            return _numbers(column, report)
        case BooleanField():
            return _booleans(column, report)
        case CategoricalField():
            return _categories(field, column, report)


def _numbers(column: Column, report: Report) -> npt.NDArray[np.float64]:
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiu":
        numbers = column.astype(np.float64)
    elif set(map(type, column)) <= {float, int, type(None)}:
        try:
            numbers = np.array(column, np.float64)
        except OverflowError:
            numbers = _numbers_one_by_one(column, report)
    else:
        numbers = _numbers_one_by_one(column, report)
    for row in np.flatnonzero(np.isinf(numbers)):
        report(int(row), "a finite number is expected")
    return numbers


def _numbers_one_by_one(column: Column, report: Report) -> npt.NDArray[np.float64]:
    numbers = np.full(len(column), np.nan)
    for row, value in enumerate(column):
        if value is None:
            continue
        if isinstance(value, bool | np.bool_ | np.timedelta64) or not isinstance(value, _NUMBERS):
            report(row, "a number is expected")
            continue
        try:
            numbers[row] = float(value)
        except OverflowError:
            numbers[row] = np.inf
        except ValueError:  # a signalling NaN
            report(row, "a number is expected")
    return numbers


def _booleans(column: Column, report: Report) -> npt.NDArray[np.int8]:
    if isinstance(column, np.ndarray):
        if column.dtype.kind == "b":
            return column.astype(np.int8)
        column = _objects(column)
    codes = np.full(len(column), MISSING, np.int8)
    for row, value in enumerate(column):
        code = _BOOLEAN_CODES.get(value) if isinstance(value, bool | int | float | None) else None
        if code is not None:
            codes[row] = code
        elif not (isinstance(value, float) and math.isnan(value)):
            report(row, "true or false is expected")
    return codes


def _objects(column: npt.NDArray[Any]) -> list[object]:
    # numpy gives durations and times as plain integers where Python's types cannot hold them
    return list(column) if column.dtype.kind in "mM" else column.tolist()


def _categories(field: CategoricalField, column: Column, report: Report) -> npt.NDArray[np.int64]:
    values: Sequence[object] = _objects(column) if isinstance(column, np.ndarray) else column
    if set(map(type, values)) <= {str, type(None)}:
        known = field.codes
        codes = np.fromiter((known.get(text, UNKNOWN) for text in values), np.int64, len(values))  # type: ignore[call-overload]
        return _spelled(field, values, codes) if field.is_of_numbers else codes
    codes = np.full(len(values), MISSING, np.int64)
    for row, value in enumerate(values):
        try:
            codes[row] = field.codes.get(category_text(value), UNKNOWN)
        except ValueError:  # more digits than Python spells
            codes[row] = UNKNOWN
        except TypeError:
            report(row, "text or a number is expected")
    return _spelled(field, values, codes) if field.is_of_numbers else codes


def _spelled(field: CategoricalField, values: Sequence[object], codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The codes of texts that are numbers, however a program wrote them: 1.0 in one file is 1 in another."""
    for row in np.flatnonzero(codes == UNKNOWN).tolist():
        value = values[row]
        if isinstance(value, str) and (text := number_spelling(value)) is not None:
            codes[row] = field.codes.get(text, UNKNOWN)
    return codes
