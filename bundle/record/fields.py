"""The fields of a record: their kinds, and what training has learnt of each."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bundle.record import started_log
from bundle.record.categories import number_spelling

Tensors = Mapping[str, npt.NDArray[Any]]
"""Named arrays that share their first dimension B (records); the graph's inputs or outputs."""

UNKNOWN = 0
"""Code of a category outside the vocabulary."""
MISSING = -1
"""Code of a missing boolean or category."""
NumericLikelihood = Literal["gaussian", "student-t", "fixed-gaussian"]
Transform = Literal["none", "log"]
DateOrder = Literal["ymd", "dmy", "mdy"]
"""In which year, month and day are written."""
ImageLikelihood = Literal["discretised-logistic", "bernoulli", "continuous-bernoulli", "gaussian", "fixed-gaussian"]
_FLAGS = {"true", "false", "0", "1"}
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
        order: Of year, month and day in the text that it was trained on, where one order alone fitted all of that; a
            file that fits it is read so. None where it was no text or a guess; bundles of before have none.
    """

    source: str
    part: Literal["hour", "weekday"]
    order: DateOrder | None = None


class _Field(Frozen):
    name: str = Field(min_length=1)
    missing_rate: float = Field(gt=0, lt=1, description="share of training rows without it, smoothed")


class NumericField(_Field):
    """A real number x; the network sees (y - mean) / scale, where y is x itself or its logarithm.

    With `transform` "log", y = log(x + offset) from 0 on and log(offset) + x / offset below
    (`bundle.record.started_log`), and `mean` and `scale` are those of y. `nonnegative`: no training value was below 0,
    so that none is expected there; bundles of releases that did not look say that one might have been.

    `minimum_scale` is the floor of the learned scale (`gaussian`, `student-t`), `fixed_scale` the constant one
    (`fixed-gaussian`, that is squared error), both in standardised units; `degrees_of_freedom` are Student's t's.

    Raises:
        ValidationError: Among others, an offset without a logarithm, or a logarithm without one.
    """

    kind: Literal["numeric"] = "numeric"
    likelihood: NumericLikelihood = "gaussian"
    transform: Transform = "none"
    offset: float | None = Field(default=None, ge=started_log.SMALLEST_OFFSET, le=started_log.LARGEST_OFFSET)
    mean: float
    scale: float = Field(gt=0)
    nonnegative: bool = False
    minimum_scale: float = Field(default=0.05, ge=SMALLEST_SCALE)
    fixed_scale: float = Field(default=1.0, ge=SMALLEST_SCALE)
    degrees_of_freedom: float = Field(default=4.0, gt=2)

    @model_validator(mode="after")
    def _offset_is_that_of_a_logarithm(self) -> "NumericField":
        if (self.transform == "log") != (self.offset is not None):
            raise ValueError('an offset belongs to transform = "log", and to no other')
        return self

    @property
    def formula(self) -> str:
        """y as a text: `x`, or `log(x + 0.5)`."""
        return "x" if self.offset is None else f"log(x + {self.offset:.3g})"

    def standardise(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(y - mean) / scale of values x, of any shape; infinite where no double is as large, and NaN stays NaN."""
        transformed = values if self.offset is None else started_log.forward(values, self.offset)
        with np.errstate(over="ignore"):
            standardised: npt.NDArray[np.float64] = (transformed - self.mean) / self.scale
        return standardised

    def log_slope(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """log |d standardised / dx| of values x, in nats: what a density of the former lacks to one of x; NaN stays."""
        own = np.where(np.isnan(values), np.nan, 0.0)
        if self.offset is not None:
            own = started_log.log_slope(values, self.offset)
        slope: npt.NDArray[np.float64] = own - np.log(self.scale)
        return slope

    def restore(self, standardised: float) -> float:
        """The x of a standardised value, which makes medians of x out of medians; 0 at least where no x was below."""
        value = self.mean + self.scale * standardised
        if self.offset is not None:
            value = started_log.inverse(value, self.offset)
        return max(value, 0.0) if self.nonnegative else value


class BooleanField(_Field):
    """True or false."""

    kind: Literal["boolean"] = "boolean"
    likelihood: Literal["bernoulli"] = "bernoulli"


class CategoricalField(_Field):
    """One text of a vocabulary, or *unknown*; code 0 is unknown, code i + 1 is `vocabulary[i]`.

    `missing_texts` mean a missing value. Bundles written before there were any have none.
    """

    kind: Literal["categorical"] = "categorical"
    likelihood: Literal["categorical"] = "categorical"
    vocabulary: tuple[str, ...] = Field(min_length=1)
    derived: Derived | None = None
    missing_texts: tuple[str, ...] = ()

    @field_validator("vocabulary")
    @classmethod
    def _distinct(cls, vocabulary: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(vocabulary)) != len(vocabulary):
            raise ValueError("a vocabulary lists each category once")
        return vocabulary

    @cached_property
    def codes(self) -> dict[str | None, int]:
        """Code of each known category however programs write it, and of None and `missing_texts` (missing)."""
        known = {text: code for code, text in enumerate(self.vocabulary, start=1)}
        # A column of 0 and 1 is one of false and true to some programs.
        flags = {"true": known.get("true", known.get("1")), "false": known.get("false", known.get("0"))}
        spelled = {
            spelling: code
            for text, code in flags.items()
            for spelling in (text, text.capitalize(), text.upper())
            if code is not None and known.keys() <= _FLAGS
        }
        missing: dict[str | None, int] = {None: MISSING, **dict.fromkeys(self.missing_texts, MISSING)}
        return missing | spelled | known

    @cached_property
    def is_of_numbers(self) -> bool:
        """Whether every category is a number, so that 1.0 and 01 are a 1."""
        return all(number_spelling(text) == text for text in self.vocabulary)

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
    likelihood: ImageLikelihood = "discretised-logistic"
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


TableField = Annotated[NumericField | BooleanField | CategoricalField, Field(discriminator="kind")]
"""A field of a record that is a row of a table; any of them may be missing."""
AnyField = Annotated[NumericField | BooleanField | CategoricalField | ImageField, Field(discriminator="kind")]
"""A field of any record."""
