"""The logarithm with a tangent below 0: it rises without a jump, stays within the doubles, and can be undone."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.record.started_log import LARGEST, LARGEST_OFFSET, SMALLEST_OFFSET, forward, inverse, log_slope

FINITE = st.floats(allow_nan=False, allow_infinity=False)
OFFSETS = st.floats(SMALLEST_OFFSET, LARGEST_OFFSET)
USUAL_OFFSETS = st.floats(1e-6, 1e6)


def at(value: float, offset: float) -> float:
    return float(forward(np.array(value), offset))


def test_it_is_the_logarithm_from_0_on_and_its_tangent_below() -> None:
    values = np.array([-4.0, -0.5, 0.0, 0.5, 100.0, np.nan])
    expected = [math.log(0.5) - 8, math.log(0.5) - 1, math.log(0.5), 0.0, math.log(100.5), math.nan]
    np.testing.assert_allclose(forward(values, 0.5), expected, rtol=1e-15, atol=1e-15)


@given(FINITE, OFFSETS)
def test_it_is_finite_whatever_the_number(value: float, offset: float) -> None:
    assert math.isfinite(at(value, offset))


@given(FINITE, FINITE, OFFSETS)
def test_it_never_falls(one: float, other: float, offset: float) -> None:
    low, high = sorted((one, other))
    assert at(low, offset) <= at(high, offset)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(1e-2, 1e2))
def test_it_rises_wherever_a_difference_can_be_told(one: float, other: float, offset: float) -> None:
    low, high = sorted((one, other))
    if high - low > 1e-6:
        assert at(low, offset) < at(high, offset)


@given(USUAL_OFFSETS)
def test_neither_its_value_nor_its_slope_jumps_at_0(offset: float) -> None:
    step = 1e-6 * offset
    below, here, above = (at(value, offset) for value in (-step, 0.0, step))
    # NumPy's logarithm and the C library's may differ in the last bit.
    assert here == pytest.approx(math.log(offset), rel=2 * sys.float_info.epsilon, abs=0)
    # Both sides differ by the curvature of the logarithm alone, half a square of the step.
    assert above - here == pytest.approx(here - below, abs=1e-6 * 1e-6 + 8 * sys.float_info.epsilon * abs(here))


@given(st.floats(-1e9, 1e9), USUAL_OFFSETS)
def test_its_slope_is_the_one_that_densities_take(value: float, offset: float) -> None:
    step = 1e-4 * (offset + abs(value))
    measured = (at(value + step, offset) - at(value - step, offset)) / (2 * step)
    assert float(np.exp(log_slope(np.array(value), offset))) == pytest.approx(measured, rel=2e-4)


@given(st.floats(-1e12, 1e12), USUAL_OFFSETS)
def test_its_inverse_leads_back(value: float, offset: float) -> None:
    assert inverse(at(value, offset), offset) == pytest.approx(value, rel=1e-9, abs=1e-9 * offset)


@given(FINITE, OFFSETS)
def test_its_inverse_stays_within_the_doubles_and_never_falls(value: float, offset: float) -> None:
    assert math.isfinite(inverse(value, offset))
    assert inverse(value, offset) <= inverse(value + abs(value) / 4 + 1, offset)


def test_beyond_the_doubles_stands_the_largest() -> None:
    assert inverse(1e6, 0.5) == pytest.approx(LARGEST, rel=1e-12)
    assert inverse(-1e308, 1e290) == -LARGEST
    assert at(-LARGEST, 1e-290) == -LARGEST
