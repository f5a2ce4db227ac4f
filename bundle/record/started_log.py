"""The logarithm of numbers that may be zero or less: log(x + offset), continued by its tangent below 0.

Tukey 1977, "Exploratory Data Analysis", chapter 3 (started logarithms); Stahel 2002, "Statistische Datenanalyse", for
the tangent. It rises everywhere, and has a value and a slope without a jump.
"""

import math
import sys

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LARGEST = sys.float_info.max
SMALLEST_OFFSET, LARGEST_OFFSET = 1e-290, 1e290
"""Bounds of an offset: added to any double, none of these leaves the doubles."""
_LARGEST_LOG = math.log(LARGEST)


def forward(values: Array, offset: float) -> Array:
    """log(x + offset) from 0 on, log(offset) + x / offset below.

    Args:
        values: x, of any shape, in the field's own unit; NaN stays NaN.
        offset: Above 0, in the same unit.

    Returns:
        Of the same shape, finite wherever x is.
    """
    above, below = np.maximum(values, 0.0), np.minimum(values, 0.0)
    # Of an offset below 1 the ratio would leave the doubles.
    tangent: Array = np.maximum(below, -LARGEST * min(offset, 1.0)) / offset
    return np.log(above + offset) + tangent


def inverse(value: float, offset: float) -> float:
    """The x whose `forward` is a value; where no double is as large, the largest one.

    >>> round(inverse(float(forward(np.array(12.5), 0.5)), 0.5), 9)
    12.5
    """
    start = math.log(offset)
    if value < start:
        return max(offset * (value - start), -LARGEST)
    return math.exp(min(value, _LARGEST_LOG)) - offset


def log_slope(values: Array, offset: float) -> Array:
    """The logarithm of the slope of `forward`, which a density of y takes to be one of x.

    Args:
        values: x, as for `forward`.
        offset: Above 0.
    """
    slope: Array = -np.log(np.maximum(values, 0.0) + offset)
    return slope
