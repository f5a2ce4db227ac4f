"""What is usual in each field: the share of the training rows in each of its bins, which drift is measured against."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from bundle.record.fields import (
    MISSING,
    UNKNOWN,
    AnyField,
    BooleanField,
    CategoricalField,
    Frozen,
    ImageField,
    NumericField,
    Tensors,
)
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema

MISSING_BIN = "(missing)"
UNKNOWN_BIN = "(unknown)"
OTHER_BIN = "(other)"
"""Known categories that are too rare for a bin of their own."""
NUMERIC_BINS = 10
MOST_CATEGORIES = 20
"""Categories with a bin of their own: each bin is a time series for whoever watches."""
_BOOLEAN_BINS = ("false", "true", MISSING_BIN)
_ROWS = 4096  # compared with all bounds at a time

Counts = npt.NDArray[np.int64]


class FieldReference(Frozen):
    """The bins of one field.

    Args:
        field: Its name.
        bins: Their names. Of a number its upper bound, `+Inf` the last; of an image that of its mean level; of a
            boolean `false` and `true`; of a category its text (after a backslash where that begins with one or with a
            bracket), that it is one of the rare ones, or unknown; and last, of any field but an image, that it is
            missing.
        ratios: Share of the training rows in each.
    """

    field: str
    bins: tuple[str, ...] = Field(min_length=2)
    ratios: tuple[float, ...]

    @model_validator(mode="after")
    def _bins_are_distinct(self) -> "FieldReference":
        if len(set(self.bins)) != len(self.bins) or len(self.bins) != len(self.ratios):
            raise ValueError(f"the bins of {self.field!r} are not distinct, or not as many as their ratios")
        return self


class FieldBins:
    """Counts records by field and bin.

    Args:
        record: The fields.
        references: Of all of them, in order.

    Raises:
        ValueError: References of other fields, or bins that are not of their field's kind.
    """

    def __init__(self, record: RecordSchema, references: Sequence[FieldReference]) -> None:
        if tuple(each.field for each in references) != record.names:
            raise ValueError("the references are not those of the fields, in order")
        for field, each in zip(record.fields, references, strict=True):
            _check(field, each.bins)
        self.labels: list[tuple[str, str]] = [(each.field, name) for each in references for name in each.bins]
        """Field and bin of each count."""
        firsts = np.cumsum([0, *(len(each.bins) for each in references[:-1])]).tolist()
        by_name = {each.field: (each, first) for each, first in zip(references, firsts, strict=True)}
        match record:
            case TableSchema():
                table = _TableBins(record, by_name)
                self._places: dict[str, Callable[[npt.NDArray[Any]], Counts]] = {
                    "numeric": table.numeric,
                    "boolean": table.boolean,
                    "categorical": table.categorical,
                }
            case ImageSchema():
                bounds = [float(name) for name in references[0].bins[:-1]]
                self._places = {"image": lambda pixels: np.searchsorted(bounds, _mean_levels(pixels))}

    def count(self, tensors: Tensors) -> Counts:
        """How many of some records fall into each bin of each field.

        Args:
            tensors: The graph's record inputs, B records.

        Returns:
            (T,) int64, in the order of `labels`; every field's counts sum to B.
        """
        counts = np.zeros(len(self.labels), np.int64)
        rows = len(next(iter(tensors.values())))
        for start in range(0, rows, _ROWS):
            for kind, tensor in tensors.items():
                places = self._places[kind](tensor[start : start + _ROWS])
                counts += np.bincount(places.ravel(), minlength=len(counts))
        return counts


class _TableBins:
    """The place of each value of a table among all bins.

    Args:
        record: The fields.
        by_name: Each field's bins, and the place of the first of them.
    """

    def __init__(self, record: TableSchema, by_name: Mapping[str, tuple[FieldReference, int]]) -> None:
        numeric = [by_name[field.name] for field in record.numeric]
        # Two bins are bounded by nothing: the last one of numbers, and the missing ones.
        widest = max((len(each.bins) for each, _ in numeric), default=2) - 2
        self._bounds = np.full((len(numeric), widest), np.inf)
        for bounds, (each, _) in zip(self._bounds, numeric, strict=True):
            bounds[: len(each.bins) - 2] = [float(name) for name in each.bins[:-2]]
        self._numeric = np.array([first for _, first in numeric], np.int64)
        self._numeric_missing = np.array([first + len(each.bins) - 1 for each, first in numeric], np.int64)
        self._boolean = np.array([by_name[field.name][1] for field in record.boolean], np.int64)
        largest = max((field.size for field in record.categorical), default=0)
        self._categories = np.zeros((len(record.categorical), largest + 1), np.int64)
        for places, field in zip(self._categories, record.categorical, strict=True):
            each, first = by_name[field.name]
            places[: field.size + 1] = [first + place for place in _places(field, each.bins)]

    def numeric(self, values: npt.NDArray[np.float64]) -> Counts:
        """Of numbers (B, F)."""
        above = np.zeros(values.shape, np.int8)
        for bound in self._bounds.T:  # all of them at once would take four times as long
            above += values > bound
        return np.where(np.isnan(values), self._numeric_missing, self._numeric + above)

    def boolean(self, codes: npt.NDArray[np.int8]) -> Counts:
        """Of booleans (B, G)."""
        return self._boolean + np.where(codes == MISSING, 2, codes)

    def categorical(self, codes: npt.NDArray[np.int64]) -> Counts:
        """Of categories (B, C)."""
        return self._categories[np.arange(len(self._categories)), codes - MISSING]


def references(record: RecordSchema, tensors: Tensors) -> tuple[FieldReference, ...]:
    """The bins of each field, and the shares of some records in them.

    Args:
        record: The fields.
        tensors: The training rows as the graph's record inputs.

    Returns:
        In the order of the fields. A number's bins hold a tenth of the rows each, as far as its values allow.
    """
    columns = {field.name: tensors[field.kind][:, record.columns[field.name]] for field in record.fields}
    bins: list[tuple[str, ...]] = []
    for field in record.fields:
        match field:
            case NumericField():
                bins.append(_numeric_bins(columns[field.name]))
            case BooleanField():
                bins.append(_BOOLEAN_BINS)
            case CategoricalField():
                bins.append(_category_bins(field, columns[field.name]))
            case ImageField():
                bins.append((*_bounds(_mean_levels(tensors["image"])), "+Inf"))
    empty = [
        FieldReference(field=name, bins=each, ratios=(0.0,) * len(each))
        for name, each in zip(record.names, bins, strict=True)
    ]
    ratios = (FieldBins(record, empty).count(tensors) / len(next(iter(tensors.values())))).tolist()
    return tuple(
        each.model_copy(update={"ratios": tuple(ratios.pop(0) for _ in each.bins)})  # in the order of `labels`
        for each in empty
    )


def _check(field: AnyField, bins: tuple[str, ...]) -> None:
    match field:
        case NumericField():
            bounds = [float(name) for name in bins[:-2]]
            good = bins[-2:] == ("+Inf", MISSING_BIN) and bounds == sorted(bounds)
        case BooleanField():
            good = bins == _BOOLEAN_BINS
        case CategoricalField():
            good = bins[-2:] == (UNKNOWN_BIN, MISSING_BIN) and len(bins) > 2
        case ImageField():
            bounds = [float(name) for name in bins[:-1]]
            good = bins[-1] == "+Inf" and bounds == sorted(bounds)
    if not good:
        raise ValueError(
            f"the bins of {field.name!r} are not those of {'an' if field.kind == 'image' else 'a'} {field.kind} field"
        )


def _numeric_bins(values: npt.NDArray[np.float64]) -> tuple[str, ...]:
    return (*_bounds(values[~np.isnan(values)]), "+Inf", MISSING_BIN)


def _bounds(values: npt.NDArray[np.float64]) -> tuple[str, ...]:
    shares = np.arange(1, NUMERIC_BINS) / NUMERIC_BINS
    # Bounds are values that occur, so that those of whole numbers are whole.
    bounds = np.unique(np.quantile(values, shares, method="inverted_cdf")) if values.size else values
    return tuple(map(repr, bounds.tolist()))


def _mean_levels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    means: npt.NDArray[np.float64] = pixels.reshape(len(pixels), -1).mean(axis=1)
    return means


def _category_bins(field: CategoricalField, codes: npt.NDArray[np.int64]) -> tuple[str, ...]:
    counts = np.bincount(codes[codes > UNKNOWN], minlength=field.size)[1:]
    frequent = sorted(np.argsort(-counts, kind="stable")[:MOST_CATEGORIES].tolist())
    named = [_bin_name(field.vocabulary[index]) for index in frequent]
    other = [OTHER_BIN] if len(named) < len(field.vocabulary) else []
    return (*named, *other, UNKNOWN_BIN, MISSING_BIN)


def _bin_name(category: str) -> str:
    return f"\\{category}" if category.startswith(("(", "\\")) else category


def _places(field: CategoricalField, bins: Sequence[str]) -> list[int]:
    """The bin of each code of a category, from -1 (missing) on."""
    place = {name: index for index, name in enumerate(bins)}
    known = [place.get(_bin_name(text), place.get(OTHER_BIN, 0)) for text in field.vocabulary]
    return [place[MISSING_BIN], place[UNKNOWN_BIN], *known]
