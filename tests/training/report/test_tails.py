"""Which numbers get logarithmic axes, and what stands on them."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from training.report import tails

random = np.random.default_rng(0)
LINEAR = {
    "a bell": random.normal(50, 3, 500),
    "evenly spread": random.random(500),
    "some heavy tail": random.standard_t(4, 500),
    "one value": np.full(500, 7.0),
    "nothing or a hundred": np.where(random.random(500) < 0.95, 0.0, 100.0),
    "one record": np.array([3.0]),
}
LOGARITHMIC = {
    "amounts": np.exp(3 * random.normal(size=500)),
    "mostly nothing": np.where(random.random(500) < 0.9, 0.0, np.exp(3 * random.normal(size=500))),
    "both signs": random.standard_cauchy(500) ** 3,
    "losses": -np.exp(3 * random.normal(size=500)),
}


@pytest.mark.parametrize("case", LINEAR)
def test_what_a_linear_axis_shows_has_one(case: str) -> None:
    assert tails.linear_within(LINEAR[case]) is None


@pytest.mark.parametrize("case", LOGARITHMIC)
def test_a_long_tail_gets_a_logarithmic_axis_with_ticks_that_spread(case: str) -> None:
    values = LOGARITHMIC[case]
    linear = tails.linear_within(values)
    assert linear is not None
    low, high = float(values.min()), float(values.max())
    axes = Figure().add_subplot()
    tails.scale(axes, low, high, linear)
    places = [axes.transData.transform((tick, tick))[0] for tick in tails.ticks(low, high, linear)]
    width = axes.bbox.width
    assert 2 <= len(places) <= 2 * tails._TICKS
    assert (np.diff(places) > 0.05 * width).all()
    middle = axes.transData.transform(np.column_stack(2 * [np.quantile(values, (0.02, 0.98))]))[:, 0]
    assert np.ptp(middle) > 0.3 * width


@pytest.mark.parametrize("linear", [1e-290, 1e290])
def test_the_outermost_offsets_have_ticks_too(linear: float) -> None:
    assert tails.ticks(-1e300, 1e300, linear)
