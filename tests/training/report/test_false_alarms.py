"""The bands are those of the beta-binomial distribution, and what leaves them is seen."""

import numpy as np
import pytest
from scipy.stats import betabinom

from training.report.false_alarms import check, count_interval


@pytest.mark.parametrize(
    ("records", "ranks", "references"), [(17, 3, 9), (1000, 10, 999), (1, 1, 1), (400, 399, 400), (5000, 51, 5000)]
)
def test_intervals_are_those_of_scipy(records: int, ranks: int, references: int) -> None:
    expected = betabinom(records, ranks, references + 1 - ranks).ppf([0.025, 0.975])
    assert count_interval(records, ranks, references) == tuple(expected)


def test_a_rank_that_none_or_all_have_is_certain() -> None:
    assert count_interval(10, 0, 4) == (0, 0)
    assert count_interval(10, 5, 4) == (10, 10)


def test_shares_and_rates_are_counted() -> None:
    references = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    found = check(references, np.array([0.5, 2.5, 2.5, 9.0], np.float32))
    # p-values 5/5, 3/5, 3/5, 1/5
    np.testing.assert_allclose(found.shares, [0, 0.25, 0, 0, 0, 0.5, 0, 0, 0, 0.25])
    np.testing.assert_allclose(found.usual, [0, 0.2, 0, 0.2, 0, 0.2, 0, 0.2, 0, 0.2])
    np.testing.assert_allclose(found.asked, [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(found.found, [0.25, 0.25, 0.75, 0.75])


def test_records_of_one_kind_stay_within_the_bands_and_stranger_ones_leave_them() -> None:
    random = np.random.default_rng(1)
    inside = []
    for _ in range(200):
        one, other = random.normal(size=(2, 300)).astype(np.float32)
        each = check(one, other)
        inside.append((each.low <= each.found) & (each.found <= each.high))
    assert 0.94 < np.mean(inside) < 0.995  # counts are whole, so that the bands hold a little more than 95 %
    shifted = check(one, other + 1.0)
    assert (shifted.found > shifted.high).mean() > 0.8
    assert shifted.shares[0] > shifted.usual_high[0]
