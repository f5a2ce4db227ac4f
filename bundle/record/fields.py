"""The fields of a record: their kinds, and the schema that fixes their order."""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from operator import itemgetter
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Tensors = Mapping[str, npt.NDArray[Any]]
"""Named arrays that share their first dimension B (records); the graph's inputs or outputs."""

UNKNOWN = 0
"""Code of a category outside the vocabulary."""
MISSING = -1
"""Code of a missing boolean or category."""
SMALLEST_SCALE = 1e-3
"""Least standard deviation of a likelihood, in standardised units: below it, far values would overflow float32."""


class Frozen(BaseModel):
    """Base of everything that is read from a bundle: immutable, and strict about unknown members."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Derived(Frozen):
    """A field that a client may leave to us: a part of a timestamp in the same record.

    Args:
        source: Name of the timestamp in the record.
        part: `hour` (0 to 23) or `weekday` (`monday` to `sunday`), both in UTC.
    """

    source: str
    part: Literal["hour", "weekday"]


class _Field(Frozen):
    name: str = Field(min_length=1)
    missing_rate: float = Field(gt=0, lt=1, description="share of training rows without it, smoothed")


class NumericField(_Field):
    """A real number; the network sees (value - mean) / scale.

    `minimum_scale` is the floor of the learned scale (`gaussian`, `student-t`), `fixed_scale` the constant one
    (`fixed-gaussian`, that is squared error), both in standardised units; `degrees_of_freedom` are Student's t's.
    """

    kind: Literal["numeric"] = "numeric"
    likelihood: Literal["gaussian", "student-t", "fixed-gaussian"] = "gaussian"
    mean: float
    scale: float = Field(gt=0)
    minimum_scale: float = Field(default=0.05, ge=SMALLEST_SCALE)
    fixed_scale: float = Field(default=1.0, ge=SMALLEST_SCALE)
    degrees_of_freedom: float = Field(default=4.0, gt=2)


class BooleanField(_Field):
    """True or false."""

    kind: Literal["boolean"] = "boolean"
    likelihood: Literal["bernoulli"] = "bernoulli"


class CategoricalField(_Field):
    """One text of a vocabulary, or *unknown*; code 0 is unknown, code i + 1 is `vocabulary[i]`."""

    kind: Literal["categorical"] = "categorical"
    likelihood: Literal["categorical"] = "categorical"
    vocabulary: tuple[str, ...] = Field(min_length=1)
    derived: Derived | None = None

    @field_validator("vocabulary")
    @classmethod
    def _distinct(cls, vocabulary: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(vocabulary)) != len(vocabulary):
            raise ValueError("a vocabulary lists each category once")
        return vocabulary

    @cached_property
    def codes(self) -> dict[str | None, int]:
        """Code of each known category, and of None (missing)."""
        return {None: MISSING, **{text: code for code, text in enumerate(self.vocabulary, start=1)}}

    @property
    def size(self) -> int:
        """Number of codes, unknown included."""
        return len(self.vocabulary) + 1


class ImageField(Frozen):
    """An image of 8 bits a channel, all of one size; it is never missing.

    `minimum_scale` is the floor of the learned scale (`discretised-logistic`, `gaussian`), `fixed_scale` the constant
    one (`fixed-gaussian`, that is squared error), both in levels of the 256. `binary`: every level of the training
    images is 0 or 255.
    """

    kind: Literal["image"] = "image"
    name: str = Field(min_length=1)
    height: int = Field(ge=2)
    width: int = Field(ge=2)
    channels: Literal[1, 3]
    likelihood: Literal["discretised-logistic", "bernoulli", "continuous-bernoulli", "gaussian", "fixed-gaussian"] = (
        "discretised-logistic"
    )
    minimum_scale: float = Field(default=0.5, ge=1e-3)
    fixed_scale: float = Field(default=25.5, ge=1e-3)
    binary: bool = False

    @property
    def dimensions(self) -> int:
        """H * W * C."""
        return self.height * self.width * self.channels

    @property
    def is_probability(self) -> bool:
        """Whether its likelihood is a probability of the levels, so that bits per dimension are true."""
        return self.likelihood == "discretised-logistic" or (self.likelihood == "bernoulli" and self.binary)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.height, self.width, self.channels


TableField = NumericField | BooleanField | CategoricalField
"""A field of a record that is a row of a table; any of them may be missing."""
AnyField = Annotated[TableField | ImageField, Field(discriminator="kind")]
_FieldType = TypeVar("_FieldType", NumericField, BooleanField, CategoricalField, ImageField)


class RecordSchema(Frozen):
    """The fields of a record, in the order of an array record.

    Raises:
        ValidationError: No field, or two of one name.
    """

    fields: tuple[AnyField, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "RecordSchema":
        names = [field.name for field in self.fields]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two fields are named {name!r}")
        if taken := set(names) & set(self.timestamps):
            raise ValueError(f"{sorted(taken)[0]!r} is both a field and the timestamp that others derive from")
        if self.image and len(names) > 1:
            raise ValueError(f"{self.image[0].name!r} is an image, which is a record by itself: no field beside it")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Field names, in order."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def by_kind(self) -> tuple[TableField, ...]:
        """The fields of a table in the order of the graphs' tensors: numeric, boolean, categorical."""
        return (*self.numeric, *self.boolean, *self.categorical)

    @cached_property
    def values_of(self) -> Callable[[Mapping[str, object]], tuple[object, ...]]:
        """Takes the values of all fields out of a mapping, in order; KeyError where one is left out."""
        if len(self.names) == 1:
            (name,) = self.names
            return lambda record: (record[name],)
        return itemgetter(*self.names)

    @cached_property
    def name_set(self) -> frozenset[str]:
        """Field names, for look-up."""
        return frozenset(self.names)

    def takes(self, name: str) -> bool:
        """Whether a record may hold this name: a field's, or that of a timestamp which fields derive from."""
        return name in self.name_set or name in self.timestamps

    def absent(self, columns: Collection[str]) -> list[str]:
        """The fields that such columns neither hold nor let us derive, in order."""
        derived = {field.name for source, fields in self.timestamps.items() if source in columns for field in fields}
        return [name for name in self.names if name not in columns and name not in derived]

    @cached_property
    def timestamps(self) -> dict[str, tuple[CategoricalField, ...]]:
        """Timestamps that a record may hold in place of the fields derived from them."""
        sources: dict[str, tuple[CategoricalField, ...]] = {}
        for field in self.categorical:
            if field.derived is not None:
                sources[field.derived.source] = (*sources.get(field.derived.source, ()), field)
        return sources

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
    def image(self) -> tuple[ImageField, ...]:
        """The image, of the tensor `image` (B, H, W, C) uint8; at most one."""
        return self._of(ImageField)

    def _of(self, kind: type[_FieldType]) -> tuple[_FieldType, ...]:
        return tuple(field for field in self.fields if isinstance(field, kind))

    @cached_property
    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """The graph's record inputs and their dtypes; a kind that no field has is no input."""
        kinds = {"numeric": np.float64, "boolean": np.int8, "categorical": np.int64, "image": np.uint8}
        return {kind: np.dtype(dtype) for kind, dtype in kinds.items() if getattr(self, kind)}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The same inputs' shapes, without B."""
        return {kind: self.image[0].shape if kind == "image" else (len(getattr(self, kind)),) for kind in self.dtypes}
