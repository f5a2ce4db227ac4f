"""Sums that merge: however numbers are cut, they are those of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.moments import Moments

NUMBERS = st.lists(st.floats(-1e6, 1e6), max_size=60)


def of_parts(values: np.ndarray, cuts: list[int]) -> Moments:
    total = Moments()
    for part in np.split(values, sorted(min(cut, values.size) for cut in cuts)):
        total += Moments.of(part)
    return total


@given(NUMBERS, st.lists(st.integers(0, 60), max_size=6), st.sampled_from([0.0, 1e9]))
def test_sums_of_parts_are_those_of_the_whole(numbers: list[float], cuts: list[int], away: float) -> None:
    values = np.array(numbers) + away
    found = of_parts(values, cuts)
    assert found.count == values.size
    if not values.size:
        assert (found.mean, found.deviation) == (0.0, 0.0)
        return
    assert (found.smallest, found.largest) == (values.min(), values.max())
    assert found.mean == pytest.approx(values.mean(), rel=1e-12, abs=1e-9)
    # float64 has seven decimals at 1e9.
    assert found.deviation == pytest.approx(values.std(), rel=1e-9, abs=1e-6 if away else 1e-9)


@given(NUMBERS, NUMBERS)
def test_either_part_may_come_first(one: list[float], other: list[float]) -> None:
    first, second = Moments.of(np.array(one)), Moments.of(np.array(other))
    there, back = first + second, second + first
    assert there.mean == pytest.approx(back.mean, rel=1e-12, abs=1e-9)
    assert there.squares == pytest.approx(back.squares, rel=1e-9, abs=1e-6)
    assert (there.count, there.smallest, there.largest) == (back.count, back.smallest, back.largest)


def test_a_small_spread_far_from_zero_keeps_its_digits() -> None:
    values = 1e9 + np.random.default_rng(0).normal(size=100_000)
    found = of_parts(values, list(range(0, 100_000, 777)))
    assert found.deviation == pytest.approx((values - 1e9).std(), rel=1e-9)
    assert found.mean == pytest.approx(1e9 + (values - 1e9).mean(), rel=1e-15)


def test_numbers_without_a_sum_in_float64_have_no_finite_mean() -> None:
    total = Moments.of(np.array([1.7e308, 1.7e308])) + Moments.of(np.array([1.0]))
    assert not np.isfinite([total.mean, total.deviation]).all()
