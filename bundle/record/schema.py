"""The schema of a record, a table's or an image's: its fields, in the order of an array record."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from operator import itemgetter
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import AfterValidator, Field, GetPydanticSchema, model_validator

from bundle.record.fields import (
    AnyField,
    BooleanField,
    CategoricalField,
    DateOrder,
    Frozen,
    ImageField,
    NumericField,
    TableField,
)

_DTYPES = {"numeric": np.float64, "boolean": np.int8, "categorical": np.int64, "image": np.uint8}
_Kind = TypeVar("_Kind", NumericField, BooleanField, CategoricalField)


class _Fields(Frozen):
    """What every record has.

    Raises:
        ValidationError: No field, two of one name, or an image beside another field.
    """

    fields: tuple[AnyField, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _go_together(self) -> "_Fields":
        if len(self.name_set) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"two fields are named {twice!r}")
        if taken := self.name_set & self.timestamps.keys():
            raise ValueError(f"{min(taken)!r} is both a field and the timestamp that others derive from")
        images = [field.name for field in self.fields if isinstance(field, ImageField)]
        if images and len(self.fields) > 1:
            raise ValueError(f"{images[0]!r} is an image, which is a record by itself: no field beside it")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Field names, in order."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def name_set(self) -> frozenset[str]:
        """Field names, for look-up."""
        return frozenset(self.names)

    @cached_property
    def values_of(self) -> Callable[[Mapping[str, object]], tuple[object, ...]]:
        """Takes the values of all fields out of a mapping, in order; KeyError where one is left out."""
        if len(self.names) == 1:
            (name,) = self.names
            return lambda record: (record[name],)
        return itemgetter(*self.names)

    @cached_property
    def timestamps(self) -> dict[str, tuple[CategoricalField, ...]]:
        """Timestamps that a record may hold in place of the fields derived from them; an image has none."""
        sources: dict[str, tuple[CategoricalField, ...]] = {}
        for field in self.fields:
            if isinstance(field, CategoricalField) and field.derived is not None:
                sources[field.derived.source] = (*sources.get(field.derived.source, ()), field)
        return sources

    @property
    def date_orders(self) -> dict[str, DateOrder]:
        """The order of year, month and day that training found in a timestamp, where it could tell."""
        orders = {source: fields[0].derived.order for source, fields in self.timestamps.items() if fields[0].derived}
        return {source: order for source, order in orders.items() if order is not None}

    def takes(self, name: str) -> bool:
        """Whether a record may hold this name: a field's, or that of a timestamp which fields derive from."""
        return name in self.name_set or name in self.timestamps

    def absent(self, columns: Collection[str]) -> list[str]:
        """The fields that such columns neither hold nor let us derive, in order."""
        derived = {field.name for source, fields in self.timestamps.items() if source in columns for field in fields}
        return [name for name in self.names if name not in columns and name not in derived]

    @cached_property
    def columns(self) -> dict[str, int]:
        """Each field's column in the tensor of its kind; 0 of an image, which is a tensor by itself."""
        columns: dict[str, int] = {}
        widths: Counter[str] = Counter()
        for field in self.fields:
            columns[field.name] = widths[field.kind]
            widths[field.kind] += 1
        return columns

    @cached_property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """The graph's record inputs and their dtypes; a kind that no field has is no input."""
        kinds = {field.kind for field in self.fields}
        return {kind: np.dtype(dtype) for kind, dtype in _DTYPES.items() if kind in kinds}


class TableSchema(_Fields):
    """A record that is a row of a table: fields of several kinds, any of which may be missing.

    Raises:
        ValidationError: No field, two of one name, or one of a timestamp's name.
    """

    fields: tuple[TableField, ...] = Field(min_length=1)

    @cached_property
    def numeric(self) -> tuple[NumericField, ...]:
        """Columns of the tensor `numeric` (B, F) float64, NaN = missing."""
        return self._of(NumericField)

    @cached_property
    def boolean(self) -> tuple[BooleanField, ...]:
        """Columns of the tensor `boolean` (B, G) int8, -1 = missing."""
        return self._of(BooleanField)

    @cached_property
    def categorical(self) -> tuple[CategoricalField, ...]:
        """Columns of the tensor `categorical` (B, C) int64, -1 = missing, 0 = unknown."""
        return self._of(CategoricalField)

    @cached_property
    def by_kind(self) -> tuple[TableField, ...]:
        """The fields in the order of the graphs' tensors: numeric, boolean, categorical."""
        return (*self.numeric, *self.boolean, *self.categorical)

    @cached_property
    def by_input(self) -> dict[str, tuple[TableField, ...]]:
        """The fields of each of the graph's record inputs: columns of the tensor, in order."""
        kinds: dict[str, tuple[TableField, ...]] = {
            "numeric": self.numeric,
            "boolean": self.boolean,
            "categorical": self.categorical,
        }
        return {kind: fields for kind, fields in kinds.items() if fields}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the graph's record inputs, without B."""
        return {kind: (len(fields),) for kind, fields in self.by_input.items()}

    @property
    def width(self) -> int:
        """Values of a record."""
        return len(self.fields)

    @property
    def levels(self) -> int:
        """Levels of a record's image: it has none."""
        return 0

    def _of(self, kind: type[_Kind]) -> tuple[_Kind, ...]:
        return tuple(field for field in self.fields if isinstance(field, kind))


class ImageSchema(_Fields):
    """A record that is an image, which is never missing.

    Raises:
        ValidationError: Not one field, or it is no image.
    """

    fields: tuple[ImageField]

    @property
    def field(self) -> ImageField:
        """The image, of the tensor `image` (B, H, W, C) uint8."""
        return self.fields[0]

    @property
    def by_kind(self) -> tuple[ImageField]:
        """The one field, as of a table all of them."""
        return self.fields

    @property
    def by_input(self) -> dict[str, tuple[ImageField]]:
        """The field of the graph's one record input."""
        return {"image": self.fields}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of the graph's record input, without B."""
        return {"image": self.field.shape}

    @property
    def width(self) -> int:
        """Values of a record: H * W * C."""
        return self.field.dimensions

    @property
    def levels(self) -> int:
        """Levels of a record's image: H * W * C."""
        return self.field.dimensions


def _told_apart(record: _Fields) -> TableSchema | ImageSchema:
    if isinstance(record, TableSchema | ImageSchema):
        return record
    match record.fields:
        case (ImageField() as image,):
            return ImageSchema(fields=(image,))
        case fields:
            return TableSchema(fields=tuple(field for field in fields if not isinstance(field, ImageField)))


# Fields of any kind first, so that what is wrong is said of a field, and not of each of two classes.
_Document = Annotated[_Fields, AfterValidator(_told_apart)]
RecordSchema = Annotated[
    TableSchema | ImageSchema, GetPydanticSchema(lambda _, handler: handler.generate_schema(_Document))
]
"""The fields of a record: a document holds them as `{"fields": [...]}`, and their kinds tell which of the two it is."""


def schema_of(fields: Iterable[AnyField]) -> RecordSchema:
    """The schema of a record of such fields.

    Args:
        fields: In the order of an array record.

    Raises:
        ValidationError: No field, two of one name, or an image beside another field.
    """
    return _told_apart(_Fields(fields=tuple(fields)))
