"""A number's standardised value, the slope of it, and the way back, with a logarithm and without."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import integrate, stats

from bundle.record.fields import NumericField

PLAIN = NumericField(name="x", missing_rate=0.1, mean=10.0, scale=4.0)
LOGGED = NumericField(name="x", missing_rate=0.1, transform="log", offset=0.5, mean=2.0, scale=0.8, nonnegative=True)
FIELDS = {"none": PLAIN, "log": LOGGED}


def test_an_offset_belongs_to_a_logarithm() -> None:
    for wrong in ({"transform": "log"}, {"offset": 1.0}, {"transform": "log", "offset": 0.0}, {"transform": "root"}):
        with pytest.raises(ValidationError, match=r"offset|transform"):
            NumericField.model_validate(PLAIN.model_dump() | wrong)


def test_a_field_of_an_earlier_release_is_read_as_it_was_meant() -> None:
    read = NumericField.model_validate({"name": "x", "missing_rate": 0.1, "mean": 10.0, "scale": 4.0})
    assert read == PLAIN
    assert (read.transform, read.offset, read.nonnegative) == ("none", None, False)
    assert read.restore(-5.0) == -10.0


def test_numbers_are_standardised_as_the_formula_says() -> None:
    values = np.array([-1.0, 0.0, 2.0, 100.0, np.nan])
    assert (PLAIN.formula, LOGGED.formula) == ("x", "log(x + 0.5)")
    np.testing.assert_array_equal(PLAIN.standardise(values), (values - 10.0) / 4.0)
    logs = [math.log(0.5) - 2.0, math.log(0.5), math.log(2.5), math.log(100.5), math.nan]
    np.testing.assert_allclose(LOGGED.standardise(values), (np.array(logs) - 2.0) / 0.8, rtol=1e-14)


@pytest.mark.parametrize("transform", FIELDS)
def test_with_the_slope_a_density_of_the_standardised_value_is_one_of_the_number(transform: str) -> None:
    field = FIELDS[transform]

    def density(value: float) -> float:
        here = np.array(value)
        return float(np.exp(stats.norm.logpdf(field.standardise(here)) + field.log_slope(here)))

    total = sum(
        integrate.quad(density, low, high, limit=200, epsabs=1e-9)[0]
        for low, high in ((-40.0, 0.0), (0.0, 10.0), (10.0, 100.0), (100.0, 2000.0))
    )
    assert total == pytest.approx(1.0, abs=1e-6)
    slopes = field.log_slope(np.array([np.nan, 1.0]))
    assert np.isnan(slopes).tolist() == [True, False]


@given(st.floats(-20, 20), st.sampled_from(sorted(FIELDS)))
def test_the_way_back_leads_to_the_number_or_to_0(place: float, transform: str) -> None:
    field = FIELDS[transform]
    value = field.restore(place)
    if transform == "log" and value == 0.0:
        assert place <= float(LOGGED.standardise(np.array(0.0))) + 1e-9
    else:
        assert float(field.standardise(np.array(value))) == pytest.approx(place, rel=1e-9, abs=1e-9)


def test_nothing_below_0_is_expected_where_no_training_value_was() -> None:
    assert PLAIN.restore(-3.0) == -2.0
    assert PLAIN.model_copy(update={"nonnegative": True}).restore(-3.0) == 0.0
    assert LOGGED.restore(-50.0) == 0.0
    assert LOGGED.model_copy(update={"nonnegative": False}).restore(-50.0) < 0.0
    assert LOGGED.restore(0.0) == pytest.approx(math.exp(2.0) - 0.5), "the median"


def test_what_is_expected_stays_within_the_doubles() -> None:
    assert math.isfinite(LOGGED.restore(1e6))
    assert LOGGED.restore(1e6) > 1e307
