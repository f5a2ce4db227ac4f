"""Which columns get a logarithm, with which offset, and what is said of it."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.record.fields import NumericField
from tests.conftest import as_data
from training import config
from training.config import FieldConfig
from training.data import schema, transform
from training.data.read import Data
from training.data.transform import Tails
from training.errors import ConfigInvalid, DataInvalid

ROWS = 2000
TRAIN, VALIDATION = np.arange(ROWS)[: ROWS * 9 // 10], np.arange(ROWS)[ROWS * 9 // 10 :]
RANDOM = np.random.default_rng(0)
NORMAL, UNIFORM = RANDOM.normal(size=ROWS), RANDOM.random(ROWS)
SKEWED = {
    "amount": np.exp(3 + 0.6 * NORMAL),
    "bytes": np.round(np.exp(9 + 2 * NORMAL)),
    "seconds": -30 * np.log(UNIFORM),
    "visits": np.floor(-4 * np.log(UNIFORM)),
    "often_0": np.where(UNIFORM < 0.4, 0.0, np.exp(2 + NORMAL)),
}
NOT_SKEWED = {
    "symmetric": 10 + 2 * NORMAL,
    "uniform": UNIFORM,
    "lower_tail": 200 - np.exp(3 + 0.6 * NORMAL),
    "two_values": (UNIFORM < 0.5).astype(float),
    "constant": np.ones(ROWS),
    "nearly_always_0": np.where(UNIFORM < 0.02, np.exp(NORMAL), 0.0),
}
LEFT_ALONE = {
    "a_refund": np.where(np.arange(ROWS) == 5, -1, 1) * np.exp(3 + NORMAL),
    "standardised_before": (np.exp(NORMAL) - math.exp(0.5)) / 2.16,
    "mostly_0": np.where(UNIFORM < 0.6, 0.0, np.exp(2 + NORMAL)),
    "epoch": 1.7e9 - 3e6 * np.log(UNIFORM),
    "grades": np.minimum(np.floor(np.exp(1 + 0.6 * NORMAL)), 9.0),
}
"""Columns with a long upper tail and another reason against a logarithm."""


def table(**columns: Any) -> Data:
    return as_data(pa.table(columns))


def chosen(values: npt.NDArray[np.float64], **options: Any) -> NumericField:
    """What a column becomes."""
    data, fields = table(x=values), [FieldConfig(name="x", kind="numeric", **options)]
    record = schema.fit(data, TRAIN, transform.choose(data, TRAIN, VALIDATION, fields), config.build({}))
    (field,) = record.fields
    assert isinstance(field, NumericField)
    return field


@pytest.mark.parametrize("name", SKEWED)
def test_a_column_with_a_long_upper_tail_gets_a_logarithm(name: str) -> None:
    field = chosen(SKEWED[name])
    assert field.transform == "log"
    assert field.nonnegative
    standardised = field.standardise(SKEWED[name][TRAIN])
    assert float(standardised.mean()) == pytest.approx(0.0, abs=1e-9)
    assert float(standardised.std()) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("name", [*NOT_SKEWED, *LEFT_ALONE])
def test_any_other_is_left_as_it_is(name: str) -> None:
    values = (NOT_SKEWED | LEFT_ALONE)[name]
    field = chosen(values)
    assert (field.transform, field.offset) == ("none", None)
    assert field.mean == float(values[TRAIN].mean())
    assert field.nonnegative == bool((values[TRAIN] >= 0).all())


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_a_long_tail_alone_is_no_reason(name: str) -> None:
    assert Tails.of(LEFT_ALONE[name][TRAIN]).skewness > transform.LEAST_SKEWNESS


def test_validation_rows_decide_by_the_density_of_the_number_itself() -> None:
    values = SKEWED["amount"].copy()
    plain, logged = (chosen(values, transform=name) for name in ("none", "log"))
    usual = values[VALIDATION]

    def density(field: NumericField) -> float:
        z = field.standardise(usual)
        slope = (1 / (usual + field.offset) if field.offset else 1.0) / field.scale
        return float(np.mean(np.log(slope * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))))

    assert density(logged) - density(plain) > transform.LEAST_GAIN
    # Were the validation rows symmetric about a high value, a Gaussian of the numbers would say more.
    values[VALIDATION] = 30 + 2 * NORMAL[VALIDATION]
    usual = values[VALIDATION]
    assert (density(logged) - density(plain) > transform.LEAST_GAIN) == (chosen(values).transform == "log")


def test_a_gain_that_may_be_chance_is_none() -> None:
    """The same values: of three validation rows nothing is known."""
    data, fields = table(x=SKEWED["seconds"]), [FieldConfig(name="x", kind="numeric")]
    few = np.argsort(SKEWED["seconds"][VALIDATION])[[5, 90, 150]] + VALIDATION[0]
    decided = [transform.choose(data, TRAIN, rows, fields)[0].transform for rows in (VALIDATION, few[:1], few[:0])]
    assert decided == ["log", "none", "none"]


def test_no_row_counts_but_those_of_training_and_validation() -> None:
    values = SKEWED["amount"].copy()
    before = chosen(values)
    data = table(x=np.concatenate([values, np.full(500, -1e9)]))
    fields = transform.choose(data, TRAIN, VALIDATION, [FieldConfig(name="x", kind="numeric")])
    assert schema.fit(data, TRAIN, fields, config.build({})).fields == (before,)


@pytest.mark.parametrize("wanted", ["none", "log"])
def test_what_is_configured_is_not_looked_into(wanted: str) -> None:
    for values in (SKEWED["amount"], NOT_SKEWED["symmetric"]):
        assert chosen(values, transform=wanted).transform == wanted


def test_a_logarithm_of_what_is_never_above_0_is_refused() -> None:
    with pytest.raises(DataInvalid, match=r"'x' has no training value above 0.*transform = \"none\""):
        chosen(-np.exp(NORMAL), transform="log")
    assert chosen(-np.exp(NORMAL)).transform == "none"


def test_a_transform_belongs_to_numbers() -> None:
    with pytest.raises(ConfigInvalid, match="a transform belongs to numeric fields"):
        config.build({"fields": [{"name": "c", "kind": "categorical", "transform": "log"}]})


@pytest.mark.parametrize("unit", [1e-100, 1e-3, 1e6, 1e100])
def test_neither_the_choice_nor_the_strangeness_depends_on_the_unit(unit: float) -> None:
    for values in (*SKEWED.values(), NOT_SKEWED["symmetric"]):
        one, other = chosen(values), chosen(values * unit)
        assert one.transform == other.transform
        np.testing.assert_allclose(other.standardise(values * unit), one.standardise(values), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", SKEWED)
def test_the_offset_is_no_smaller_than_what_occurs_and_no_larger_than_usual_values(name: str) -> None:
    above = SKEWED[name][TRAIN]
    above = above[above > 0]
    found = transform.offset(SKEWED[name][TRAIN])
    assert np.quantile(above, 0.0005) <= found <= np.median(above) * (1 + 1e-9)


def test_a_few_values_near_0_do_not_make_the_offset() -> None:
    noise = SKEWED["amount"].copy()
    noise[:40] = 1e-12
    assert transform.offset(noise) > 0.1


@pytest.mark.parametrize("name", SKEWED)
def test_below_the_smallest_training_value_it_only_gets_stranger(name: str) -> None:
    values = SKEWED[name]
    field, smallest = chosen(values), float(values[TRAIN].min())
    below = np.array([smallest, smallest - 1e-3, 0.0, -1e-3, -1.0, -1e6, -1e300, -1.7e308])
    below = np.sort(below[below <= smallest])[::-1]
    places = field.standardise(below)
    assert (places[1:] <= places[:-1]).all()
    assert places[0] < 0
    assert np.isfinite(field.standardise(np.array([0.0, -1e300, 1.7e308]))).all()


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1e300), min_size=20, max_size=60).filter(lambda values: max(values) > 0))
def test_any_numbers_from_0_on_can_have_a_logarithm(values: list[float]) -> None:
    field = transform.fit("x", np.array(values), "log", 0.5)
    places = field.standardise(np.array([*values, 0.0, -1.0, 1e308]))
    assert np.isfinite(places).all()
    assert field.scale > 0


def test_tails_are_told_by_quantiles() -> None:
    assert Tails(1.0, 3.1).words == "its large values lie 3.1 times as far from the median as its small ones"
    assert Tails(1e-3, 4.0).words == "its large values lie 4,000.0 times as far from the median as its small ones"
    assert [Tails(*tails).skewness for tails in ((1, 3), (3, 1), (0, 2), (0, 0), (0, math.inf))] == [0.5, -0.5, 1, 0, 0]
    far = NOT_SKEWED["symmetric"].copy()
    far[:20] = 1e300
    assert abs(Tails.of(far).skewness) < 0.1, "a single value moves nothing"


def test_what_was_chosen_is_said() -> None:
    data = table(amount=np.arange(1.0, 2001.0) ** 2, set=SKEWED["bytes"], plain=NORMAL)
    fields = [FieldConfig(name=name, kind="numeric") for name in ("amount", "plain")]
    fields.append(FieldConfig(name="set", kind="numeric", transform="log"))
    said = transform.describe(data, TRAIN, fields, {"amount", "set"})
    assert list(said) == ["amount", "set"]
    start = transform.offset(np.arange(1.0, 1801.0) ** 2)
    assert said["amount"] == (
        f"log(x + {start:.3g}), because its large values lie 2.6 times as far from the median as its small ones"
    )
    assert said["set"].endswith(", as configured")
