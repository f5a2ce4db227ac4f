"""Explanations: excess, share and order by what the explainer gives, and what is expected in the record's own units."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bundle.contents.explanation import ROUNDS, Explanations, decoded_numbers, is_wide, usual
from bundle.contents.manifest import Manifest
from bundle.contents.usual_surprisal import UsualSurprisal
from bundle.record.fields import NumericField
from bundle.record.records import encode_records
from bundle.record.schema import TableSchema

USUAL = UsualSurprisal(fields=(1.0, 2.0, 0.5), kl=3.0, conditional=(1.5, 2.5, 0.75), deviations=(2.0,))
RECORDS = [["red", 14.0, True], ["blue", 2.0, None], [None, None, False]]
# By kind, as the graph has them: amount, paid, colour.
OUTPUTS = {
    "field_surprisal": np.array([[6.0, 0.5, 1.0], [1.0, 0.1, 5.0], [2.0, 0.5, 1.0]], np.float32),
    "kl": np.array([4.0, 2.0, 3.0], np.float32),
    "conditional_surprisal": np.array([[9.5, 0.75, 0.5], [2.5, 0.0, 6.5], [2.5, 0.75, 1.5]], np.float32),
    "expected_numeric": np.array([[0.5], [-3.0], [0.0]], np.float32),
    "expected_deviation": np.array([[0.125], [1.0], [0.5]], np.float32),
    "expected_boolean": np.array([[0.25], [0.75], [0.5]], np.float32),
    "expected_categorical": np.array(
        [[0.0, 0.5, 0.25, 0.125, 0.125, 0.0], [0.5, 0.5, 0, 0, 0, 0], [0.25, 0, 0.75, 0, 0, 0]], np.float32
    ),
}


@pytest.fixture(scope="module")
def explanations(manifest: Manifest) -> Explanations:
    known = manifest.model_copy(update={"usual_surprisal": USUAL})
    return Explanations(known, encode_records(manifest.record, RECORDS), OUTPUTS)


@pytest.fixture(scope="module")
def said(explanations: Explanations) -> list[dict[str, Any]]:
    return explanations.objects()


def fields(explanation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {field["field"]: field for field in explanation["fields"]}


def test_fields_come_in_the_order_of_their_surprisal_given_the_others(said: list[dict[str, Any]]) -> None:
    order = [[field["field"] for field in explanation["fields"]] for explanation in said]
    assert order == [["amount", "paid", "colour"], ["colour", "amount", "paid"], ["colour", "amount", "paid"]]
    for explanation in said:
        excesses = [field["conditional_excess"] for field in explanation["fields"]]
        assert excesses == sorted(excesses, reverse=True)


def test_excess_and_share_are_those_of_the_definition(said: list[dict[str, Any]]) -> None:
    first = fields(said[0])
    assert {name: field["surprisal"] for name, field in first.items()} == {"colour": 1.0, "amount": 6.0, "paid": 0.5}
    assert {name: field["excess"] for name, field in first.items()} == {"colour": 0.0, "amount": 4.0, "paid": 0.0}
    assert said[0]["kl"] == {"surprisal": 4.0, "excess": 1.0, "share": 0.2}
    assert first["amount"]["share"] == 0.8
    assert said[0]["explains"] == "elbo"


def test_shares_add_up_to_one_or_there_are_none(explanations: Explanations, said: list[dict[str, Any]]) -> None:
    np.testing.assert_allclose(explanations.share[:2].sum(axis=1), 1.0)
    assert all(math.isnan(field["share"]) for field in said[2]["fields"])
    assert math.isnan(said[2]["kl"]["share"])


def test_numbers_are_expected_in_the_records_own_units(said: list[dict[str, Any]]) -> None:
    amounts = [fields(explanation)["amount"] for explanation in said]
    assert [amount["expected"] for amount in amounts] == [11.0, 4.0, 10.0]
    assert [amount["value"] for amount in amounts[:2]] == [14.0, 2.0]
    assert math.isnan(amounts[2]["value"])
    assert amounts[0]["interval"] == [10.5, 11.5]
    assert [amount["direction"] for amount in amounts] == ["high", "low", "missing"]


AMOUNT = NumericField(name="amount", missing_rate=0.1, transform="log", offset=0.5, mean=2.0, scale=0.8)


def explained(manifest: Manifest, amount: NumericField, records: Sequence[object]) -> list[dict[str, Any]]:
    """What is said of the amount, were it such a field."""
    others = {field.name: field for field in manifest.record.fields}
    record = TableSchema(
        fields=tuple(others[name] if name != "amount" else amount for name in ("colour", "amount", "paid"))
    )
    known = manifest.model_copy(update={"usual_surprisal": USUAL, "record": record})
    said = Explanations(known, encode_records(record, records), OUTPUTS).objects()
    return [fields(explanation)["amount"] for explanation in said]


def test_of_a_logarithm_the_median_and_the_interval_are_expected_in_the_fields_own_unit(manifest: Manifest) -> None:
    amounts = explained(manifest, AMOUNT, RECORDS)
    # By hand: exp(2 + 0.8 z) - 0.5 with z = 0.5 ± 2 * 0.125; at z = -3 the tangent, 0.5 (2 + 0.8 z - log 0.5).
    assert amounts[0]["expected"] == pytest.approx(math.exp(2.4) - 0.5)
    assert amounts[0]["interval"] == pytest.approx([math.exp(2.2) - 0.5, math.exp(2.6) - 0.5])
    assert [amount["direction"] for amount in amounts] == ["high", "high", "missing"]
    assert amounts[2]["expected"] == pytest.approx(math.exp(2.0) - 0.5)
    assert amounts[1]["interval"][0] == pytest.approx(0.5 * (2.0 - 0.8 * 5.0 - math.log(0.5)))
    low, high = amounts[0]["interval"]
    assert high - amounts[0]["expected"] > amounts[0]["expected"] - low


@pytest.mark.parametrize(
    "amount", [AMOUNT, NumericField(name="amount", missing_rate=0.1, mean=3.0, scale=2.0)], ids=["log", "none"]
)
def test_no_amount_below_0_is_expected_where_none_was_in_training(manifest: Manifest, amount: NumericField) -> None:
    records = [["red", 14.0, True], ["blue", 0.0, None], [None, -1.0, False]]
    was = explained(manifest, amount, records)
    now = explained(manifest, amount.model_copy(update={"nonnegative": True}), records)
    assert was[1]["interval"][0] < 0
    for before, after in zip(was, now, strict=True):
        assert after["expected"] == max(before["expected"], 0.0)
        assert after["interval"] == [max(end, 0.0) for end in before["interval"]]
    assert now[2]["direction"] == "low"


def test_nine_tenths_of_the_logarithms_lie_in_their_interval(manifest: Manifest) -> None:
    random = np.random.default_rng(0)
    given = random.standard_normal(999)
    columns = [field for field in manifest.record.fields if field.name != "amount"]
    record = TableSchema(fields=(AMOUNT, *columns))
    records = [[float(np.exp(2.0 + 0.8 * value) - 0.5), "red", True] for value in given]
    outputs = {name: np.repeat(values[:1], 999, axis=0) for name, values in OUTPUTS.items()}
    outputs |= {"expected_numeric": np.zeros((999, 1), np.float32)}
    outputs["expected_deviation"] = np.ones((999, 1), np.float32)
    (deviations,) = usual(record, encode_records(record, records), outputs).deviations
    assert np.mean(np.abs(given) <= deviations + 1e-9) == pytest.approx(0.9, abs=1e-3)


def test_categories_and_booleans_are_expected_with_probabilities(said: list[dict[str, Any]]) -> None:
    colours = [fields(explanation)["colour"] for explanation in said]
    assert [colour["expected"] for colour in colours] == ["red", None, "7"]
    assert colours[0]["likely"] == [
        {"value": "red", "probability": 0.5},
        {"value": "7", "probability": 0.25},
        {"value": "true", "probability": 0.125},
    ]
    assert [colour["direction"] for colour in colours] == [None, None, "missing"]
    assert [colour["value"] for colour in colours] == ["red", None, None], "what is unknown has no name"
    paid = [fields(explanation)["paid"] for explanation in said]
    assert [flag["expected"] for flag in paid] == [False, True, True]
    assert paid[0]["likely"] == [{"value": False, "probability": 0.75}, {"value": True, "probability": 0.25}]
    assert [flag["direction"] for flag in paid] == ["unusual category", "missing", "unusual category"]
    assert [flag["value"] for flag in paid] == [True, None, False]


def test_what_is_usual_are_medians_in_the_schemas_order(manifest: Manifest) -> None:
    found = usual(manifest.record, encode_records(manifest.record, RECORDS), OUTPUTS)
    assert found.kl == 3.0
    assert found.fields == (1.0, 2.0, 0.5)
    assert found.conditional == (1.5, 2.5, 0.75)


def test_nine_tenths_of_normal_values_lie_in_their_interval(manifest: Manifest) -> None:
    random = np.random.default_rng(0)
    given, spread = random.standard_normal(999), random.uniform(0.1, 0.3, 999)
    records = [["red", 10.0 + 2.0 * value, True] for value in given * spread * 3]
    outputs = {name: np.repeat(values[:1], 999, axis=0) for name, values in OUTPUTS.items()}
    outputs |= {"expected_numeric": np.zeros((999, 1), np.float32)}
    outputs["expected_deviation"] = spread[:, np.newaxis].astype(np.float32)
    (deviations,) = usual(manifest.record, encode_records(manifest.record, records), outputs).deviations
    assert np.mean(np.abs(given) * 3 <= deviations + 1e-9) == pytest.approx(0.9, abs=1e-3)
    gaps = encode_records(manifest.record, [["red", None, True]] * 999)
    assert usual(manifest.record, gaps, outputs).deviations == (1.645,)


def test_a_bundle_without_an_explainer_explains_nothing(manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="no explainer"):
        Explanations(manifest, encode_records(manifest.record, RECORDS), OUTPUTS)


def test_the_cost_grows_with_the_draws_until_a_table_is_wide(manifest: Manifest) -> None:
    parameters = 2 + 1 + 6
    assert decoded_numbers(manifest.record, 16) == 3 * parameters * (16 + 2 * ROUNDS)
    assert not is_wide(manifest.record)
    many = tuple(NumericField(name=f"x{i}", missing_rate=0.1, mean=0.0, scale=1.0) for i in range(200))
    wide = TableSchema(fields=many)
    assert is_wide(wide)
    assert decoded_numbers(wide, 16) == decoded_numbers(wide, 1) == 200 * 400 * (1 + 2 * ROUNDS)
