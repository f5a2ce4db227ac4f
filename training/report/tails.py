"""Axes of numbers: linear, or logarithmic where a long tail would leave a linear one no room for most values."""

import math

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

_FURTHEST = (0.005, 0.995)
_MOST = (0.1, 0.9)
_CROWDED = 0.1
"""A linear axis on which four of five values share less than this of its length shows too little."""
_SMALL = 0.25
"""Quantile of the sizes, zeros aside, below which a logarithmic axis is linear."""
_TICKS = 6
_FEW_DECADES = 2
_TINY, _HUGE = 1e-3, 1e9
_UNITS = ((1e6, "M"), (1e4, "k"))

Values = npt.NDArray[np.float64]


def linear_within(values: Values) -> float | None:
    """Where a logarithmic axis begins, on both sides of 0; None where a linear one shows the values well.

    Args:
        values: (m,) in any unit, m >= 1.

    >>> linear_within(np.arange(100.0)), linear_within(np.array([0.0] * 95 + [2.0] * 4 + [900.0]))
    (None, 2.0)
    """
    first, last = np.quantile(values, _FURTHEST)
    low, high = np.quantile(values, _MOST)
    if first == last or high - low >= _CROWDED * (last - first):
        return None
    sizes = np.abs(values[values != 0])
    small = float(np.quantile(sizes, _SMALL))
    return small if small < _CROWDED * sizes.max() else None


def scale(axes: Axes, low: float, high: float, linear: float | None) -> None:
    """Give both axes the same limits, scale and ticks.

    Args:
        axes: Of a picture that has the same numbers on both.
        low: Where they begin.
        high: Where they end.
        linear: Near 0 up to this size they are linear, beyond logarithmic; None: they are linear throughout.
    """
    if linear is not None:
        # As a logarithm on both sides of 0, without the kink that symlog has (Burbidge, Magee & Robb 1988).
        axes.set_xscale("asinh", linear_width=linear)
        axes.set_yscale("asinh", linear_width=linear)
    axes.set(xlim=(low, high), ylim=(low, high))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5) if linear is None else FixedLocator(ticks(low, high, linear)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def ticks(low: float, high: float, linear: float) -> list[float]:
    """0 and powers of ten, so many as there is room for; where there are few powers, their double and fivefold too.

    >>> ticks(0.0, 5e4, 2.0)
    [0.0, 10.0, 100.0, 1000.0, 10000.0]
    >>> ticks(3.0, 60.0, 1.0)
    [5.0, 10.0, 20.0, 50.0]
    """
    powers = range(math.floor(math.log10(linear)), math.floor(math.log10(max(abs(low), abs(high)))) + 1)

    def sizes_of(steps: tuple[float, ...]) -> list[float]:
        every = [step * 10.0**power for power in powers for step in steps]
        return [size for size in every if size > linear and (low <= size <= high or low <= -size <= high)]

    both_signs = low < -linear and high > linear
    room = _TICKS // 2 if both_signs else _TICKS
    sizes = sizes_of((1.0,))
    if len(sizes) < (_FEW_DECADES if both_signs else _FEW_DECADES + 1):
        sizes = sizes_of((1.0, 2.0, 5.0))
    # From the largest down: the smallest would stand on top of 0.
    kept = sizes[:: -max(1, -(-len(sizes) // room))]
    signed = {0.0, *kept, *(-size for size in kept)}
    return sorted(value for value in signed if low <= value <= high)


def short(value: float) -> str:
    """A tick's number: thousands from 10k on, millions, and no more than is needed.

    >>> short(2500.0), short(25000.0), short(-1e6), short(2e12), short(0.05)
    ('2500', '25k', '−1M', '2e+12', '0.05')
    """
    if _TINY < abs(value) < _HUGE:
        for size, unit in _UNITS:
            if abs(value) >= size:
                thousands = 1e3 if unit == "k" else size
                return f"{value / thousands:g}{unit}".replace("-", "\N{MINUS SIGN}")
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")
