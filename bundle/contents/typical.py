"""A record as records usually are: of each field by itself its median or its most frequent value."""

import math
from collections.abc import Sequence

import numpy as np

from bundle.contents.reference import OTHER_BIN, UNKNOWN_BIN, FieldReference
from bundle.record import images
from bundle.record.fields import AnyField, BooleanField, CategoricalField, ImageField, NumericField
from bundle.record.schema import RecordSchema

_GREY = 128


def record(schema: RecordSchema, references: Sequence[FieldReference]) -> dict[str, object]:
    """An example of a record, no row of the data.

    Args:
        schema: The fields.
        references: What is usual in each, in order.

    Returns:
        By field: a number that occurs, a flag, a category, or of an image a grey PNG file in base64.
    """
    return {field.name: _value(field, each) for field, each in zip(schema.fields, references, strict=True)}


def usual(field: NumericField, reference: FieldReference) -> str:
    """The usual values of a number in words: its median, and where four of five training rows lie.

    Args:
        field: The number.
        reference: Its bins, which tenths of the training rows bound.
    """
    median, bounds = _median(field, reference), [float(name) for name in reference.bins[:-2]]
    if not bounds or bounds[0] == bounds[-1]:
        return f"usually {median:.6g}"
    return f"median {median:.6g}; from {bounds[0]:.6g} to {bounds[-1]:.6g} in 80 % of the training rows"


def _value(field: AnyField, reference: FieldReference) -> object:
    match field:
        case NumericField():
            return _median(field, reference)
        case BooleanField():
            return reference.ratios[1] > reference.ratios[0]
        case CategoricalField():
            return _mode(field, reference)
        case ImageField():
            return images.in_base64(np.full(field.shape, _GREY, np.uint8))


def _median(field: NumericField, reference: FieldReference) -> float | int:
    """The bound of a bin, which is a value that occurs, below which half of the values lie."""
    bounds, ratios = reference.bins[:-2], reference.ratios[:-1]
    place = int(np.searchsorted(np.cumsum(ratios), sum(ratios) / 2))
    value = float(bounds[min(place, len(bounds) - 1)]) if bounds else float(f"{field.restore(0.0):.4g}")
    return int(value) if value.is_integer() and math.fabs(value) < 2**53 else value


def _mode(field: CategoricalField, reference: FieldReference) -> str:
    """The most frequent category."""
    named = [(ratio, name) for name, ratio in zip(reference.bins[:-2], reference.ratios, strict=False)]
    known = [(ratio, name) for ratio, name in named if name not in (OTHER_BIN, UNKNOWN_BIN)]
    name = max(known, key=lambda each: each[0])[1] if known else field.vocabulary[0]
    return name.removeprefix("\\")
