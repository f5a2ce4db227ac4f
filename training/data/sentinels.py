"""Numbers that stand for something else: one far value that recurs, as -9999 where a sensor was silent."""

import numpy as np
import numpy.typing as npt

_LEAST_COUNT = 3
_LEAST_SHARE = 0.002
_FAR = 2.0
"""Times the range of nearly all other values that a sentinel lies beyond the nearest of them."""
_LEAST_ROWS = 50


def of(values: npt.NDArray[np.float64]) -> tuple[float, int, float, float] | None:
    """The value that recurs and lies far from all others.

    Args:
        values: (n,) numbers, NaN where missing.

    Returns:
        The value, how often it occurs, and the least and largest of the others; None where there is none.
    """
    present = values[~np.isnan(values)]
    if len(present) < _LEAST_ROWS:
        return None
    for candidate in dict.fromkeys((float(present.min()), float(present.max()), 0.0)):
        here = present == candidate
        count = int(here.sum())
        others = present[~here]
        if count < max(_LEAST_COUNT, _LEAST_SHARE * len(present)) or len(others) < len(present) / 2:
            continue
        low, high = np.quantile(others, (0.01, 0.99))
        gap = float(np.abs(others - candidate).min())
        if high > low and gap > _FAR * (high - low):
            return candidate, count, float(others.min()), float(others.max())
    return None
