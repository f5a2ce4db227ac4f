"""Which numbers are modelled by their logarithm, because it is nearer to a Gaussian than they are.

A field's own values decide, one field at a time and before anything is trained:

1. None of its training values is below 0, which a logarithm takes for where amounts begin, and there are `LEAST_VALUES`
   different ones. Of a column that was standardised before, or is a difference or a balance, 0 is somewhere in the
   middle; few values are grades, of which a density says nothing.
2. Its upper tail is long for its lower one, and the logarithm leaves at most half of that: by quantiles (`Tails`),
   which no single value moves. Where half of the values are the smallest one, no function of them has a lower tail.
3. On validation rows a Gaussian of y = log(x + offset) has a higher mean log-density than one of x: by `LEAST_GAIN` and
   by two standard errors of the difference. Both are densities of x, that of y times the slope of y (Box & Cox 1964,
   "An analysis of transformations", section 3).

Mean, deviation and offset are those of training rows.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.record import started_log
from bundle.record.fields import NumericField, Transform
from training.config import FieldConfig
from training.data.read import Data, Rows
from training.errors import DataInvalid

QUANTILES = (0.05, 0.5, 0.95)
"""Where the lower tail ends, where both begin, and where the upper one ends."""
LEAST_VALUES = 10
LEAST_SKEWNESS = 1 / 3
"""Of the tails, from which on a logarithm is tried: an upper one twice as long as the lower one."""
LEAST_GAIN = 0.1
"""Nats a value that the logarithm gains at least; of a number that hardly varies for its size it gains next to none."""
_ERRORS = 2.0
_LEFT = 0.5
"""Of the skewness, the most that the logarithm leaves."""
_OFFSETS = 16
_STAND_FOR = 512
"""Quantiles that stand for the values where an offset is looked for."""
_LEAST_DEVIATION = 1e-9  # of a logarithm; values that are all alike have none
_ROUNDING = 4
"""Units in the last place by which values differ that float64 does not tell apart: sums end in them."""
_FURTHEST = 1e6  # standardised values are clipped here, so that squares of far ones stay doubles
_TRANSFORMS: tuple[Transform, Transform] = ("none", "log")

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tails:
    """How far the outer quantiles of some values lie from their median.

    Args:
        lower: Of the 5 % quantile.
        upper: Of the 95 % quantile.
    """

    lower: float
    upper: float

    @classmethod
    def of(cls, values: Values) -> "Tails":
        """Of (n,) values, one at least.

        >>> Tails.of(np.arange(101.0) ** 2)
        Tails(lower=2475.0, upper=6525.0)
        """
        low, middle, high = np.quantile(values, QUANTILES).tolist()
        return cls(middle - low, high - middle)

    @property
    def skewness(self) -> float:
        """(upper - lower) / (upper + lower), from -1 to 1; 0 where there are no tails.

        Reference:
            Bowley 1920, "Elements of Statistics" (of quartiles); Hinkley 1975, "On power transformations to symmetry"
            (of any quantiles).
        """
        both = self.lower + self.upper
        return (self.upper - self.lower) / both if 0 < both < math.inf else 0.0

    @property
    def words(self) -> str:
        """What is said of them where they are the reason for a logarithm, so that there is a lower one."""
        return f"its large values lie {self.upper / self.lower:,.1f} times as far from the median as its small ones"


def choose(data: Data, train: Rows, validation: Rows, fields: Iterable[FieldConfig]) -> tuple[FieldConfig, ...]:
    """The fields, with every transform decided.

    Args:
        data: The table.
        train: Rows that the network will be trained on.
        validation: Rows that will stop its training; no others are looked at.
        fields: What the columns are; a column that is not there or holds no numbers is left to `schema.fit`.

    Raises:
        DataInvalid: Values that are too large for a mean and a deviation.
    """

    def decided(field: FieldConfig) -> FieldConfig:
        if field.kind != "numeric" or field.transform != "auto":
            return field
        chosen = _better(field.name, _values(data, field.name, train), _values(data, field.name, validation))
        return field.model_copy(update={"transform": chosen})

    return tuple(map(decided, fields))


def fit(name: str, values: Values, transform: Transform, missing_rate: float, **settings: Any) -> NumericField:
    """A numeric field with the statistics of some values.

    Args:
        name: The field's.
        values: (n,) training values, one at least; none is missing, none infinite.
        transform: Decided.
        missing_rate: Share of the training rows without it.
        settings: Of its likelihood.

    Raises:
        DataInvalid: Values that are too large for a mean and a deviation, or none above 0 for a logarithm.
    """
    if transform == "log" and not (values > 0).any():
        raise DataInvalid(f'column {name!r} has no training value above 0: no logarithm fits; set transform = "none"')
    start = offset(values) if transform == "log" else None
    transformed = values if start is None else started_log.forward(values, start)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(transformed.mean()), float(transformed.std())
    smallest, largest = float(transformed.min()), float(transformed.max())
    return NumericField(
        name=name,
        transform=transform,
        offset=start,
        mean=mean,
        scale=scale(name, mean, deviation, smallest, largest),
        nonnegative=bool((values >= 0).all()),
        missing_rate=missing_rate,
        **settings,
    )


def scale(name: str, mean: float, deviation: float, smallest: float, largest: float) -> float:
    """What a field's numbers are divided by: their deviation, or their size where they do not differ.

    Args:
        name: The field's.
        mean: Of the numbers, once they are transformed.
        deviation: Of these.
        smallest: Of these.
        largest: Of these.

    Raises:
        DataInvalid: They are too large for a mean and a deviation.
    """
    if not np.isfinite([mean, deviation]).all():
        raise DataInvalid(f"column {name!r}: its values are too large for a mean and a deviation in float64")
    rounding = _ROUNDING * float(np.spacing(max(abs(smallest), abs(largest))))
    return deviation if largest - smallest > rounding else max(abs(mean), 1.0)


def offset(values: Values) -> float:
    """The offset of log(x + offset): of those from the smallest value above 0 to their median the likeliest.

    Only values above 0 count, through quantiles that stand for them. Zeros would be the likelier the smaller the
    offset, without end; and a smaller one than any value would put them, and whatever lies below all values, as far out
    as one likes. A value below the smallest one is stranger by itself whatever the offset, because y rises everywhere.

    Args:
        values: (n,), one above 0 at least.

    Reference:
        Box & Cox 1964, "An analysis of transformations", eq. 2 (the shift) and section 3 (its likelihood).
    """
    places = (np.arange(_STAND_FOR) + 0.5) / _STAND_FOR
    above = np.quantile(values[values > 0], places)
    tried: Sequence[float] = np.geomspace(above[0], np.median(above), _OFFSETS).tolist()
    within = [min(max(each, started_log.SMALLEST_OFFSET), started_log.LARGEST_OFFSET) for each in tried]
    return max(within, key=lambda each: _log_likelihood(above, each))


def describe(data: Data, train: Rows, fields: Iterable[FieldConfig], logged: Collection[str]) -> dict[str, str]:
    """The transforms in words, by field: `log(x + 0.5), because its large values lie …`.

    Args:
        data: The table.
        train: Rows that are trained on.
        fields: As the configuration has them, `auto` included.
        logged: Names of those that have a logarithm.
    """
    said = {}
    for field in fields:
        if field.name in logged:
            values = _values(data, field.name, train)
            why = "because " + Tails.of(values).words if field.transform == "auto" else "as configured"
            said[field.name] = f"{fit(field.name, values, 'log', 0.5).formula}, {why}"
    return said


def _better(name: str, train: Values, validation: Values) -> Transform:
    if not (validation.size and train.size) or train.min() < 0 or np.unique(train).size < LEAST_VALUES:
        return "none"
    before = Tails.of(train).skewness
    if before < LEAST_SKEWNESS:
        return "none"
    plain, logged = (fit(name, train, each, 0.5) for each in _TRANSFORMS)
    if abs(Tails.of(logged.standardise(train)).skewness) > _LEFT * before:
        return "none"
    gain = _log_densities(logged, validation) - _log_densities(plain, validation)
    error = float(gain.std()) / math.sqrt(gain.size - 1) if gain.size > 1 else math.inf
    return "log" if float(gain.mean()) > max(LEAST_GAIN, _ERRORS * error) else "none"


def _log_densities(field: NumericField, values: Values) -> Values:
    """Log-densities of (n,) values x by a Gaussian of their standardised value, in nats."""
    squares = np.square(field.standardise(values).clip(-_FURTHEST, _FURTHEST))
    densities: Values = field.log_slope(values) - 0.5 * (squares + math.log(2 * math.pi))
    return densities


def _log_likelihood(values: Values, offset: float) -> float:
    """The same of values by the Gaussian that fits them best, but for a constant."""
    deviation = float(started_log.forward(values, offset).std())
    return float(started_log.log_slope(values, offset).mean()) - math.log(max(deviation, _LEAST_DEVIATION))


def _values(data: Data, name: str, rows: Rows) -> Values:
    """The finite values of a column in some rows; none of a column that is not there or holds no numbers."""
    column = np.asarray(data.table[name])[rows] if name in data.table.column_names else np.empty(0)
    values = column.astype(np.float64) if column.dtype.kind in "fiu" else np.empty(0)
    finite: Values = values[np.isfinite(values)]
    return finite
