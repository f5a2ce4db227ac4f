"""Amounts and durations by their logarithm, in a whole bundle: stranger the further below, never expected there."""

import math
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import surprisal
from bundle.folder import contents, store
from bundle.record.fields import NumericField
from bundle.record.records import encode_records
from bundle.record.schema import TableSchema
from tests.conftest import NAME, TRAINED_ON
from training.export import runs
from training.pipeline import Trained

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(trained: Trained) -> surprisal.Model:
    return surprisal.load(trained.folder)


@pytest.fixture(scope="module")
def numbers(trained: Trained) -> dict[str, NumericField]:
    record = trained.manifest.record
    assert isinstance(record, TableSchema)
    return {field.name: field for field in record.numeric}


def changed(payments: list[dict[str, Any]], amount: float) -> pa.Table:
    return pa.Table.from_pylist([{**payment, "amount": amount} for payment in payments[:40]])


def test_the_bundle_says_what_its_densities_are_of(trained: Trained, numbers: dict[str, NumericField]) -> None:
    assert {name for name, field in numbers.items() if field.transform == "log"} >= {"amount", "minutes_since_last"}
    assert numbers["hour"].transform == "none"
    assert trained.manifest.density_of == {
        "none": "(x - mean) / scale",
        "log": "(log(x + offset) - mean) / scale; below x = 0 (log(offset) + x / offset - mean) / scale",
    }


def test_any_amount_has_scores(model: surprisal.Model, payments: list[dict[str, Any]]) -> None:
    for amount in (0.0, -0.01, -1e6, -1.7e308, 1e12, 1.7e308, 5e-324):
        scored = model.score(changed(payments, amount))
        for name in ("anomaly_score", "elbo", "iwae", "log_reconstruction_probability"):
            assert np.isfinite(scored[name].to_numpy()).all(), (amount, name)


@pytest.mark.parametrize("name", ["amount", "minutes_since_last", "average_amount_30d"])
def test_below_the_smallest_training_value_nothing_is_less_strange(
    trained: Trained, model: surprisal.Model, payments: list[dict[str, Any]], name: str
) -> None:
    table = pa.parquet.read_table(trained.folder.parents[1].with_name(TRAINED_ON))
    smallest = float(np.nanmin(table[name].to_numpy(zero_copy_only=False).astype(float)))
    before = np.full(40, -np.inf)
    for value in (smallest, smallest / 2, 0.0, -1.0, -10.0, -1e3, -1e6, -1e12):
        records = pa.Table.from_pylist([{**payment, name: value} for payment in payments[:40]])
        strangeness = -model.score(records)["expected_log_likelihood"].to_numpy()
        assert (strangeness >= before - 1e-3 * np.abs(before)).all(), value
        before = strangeness


async def test_what_is_expected_is_the_graphs_answer_in_the_fields_own_unit_and_never_negative(
    client: httpx.AsyncClient, models: Path, payments: list[dict[str, Any]], numbers: dict[str, NumericField]
) -> None:
    strange = [{**payments[0], "amount": -5.0}, {**payments[1], "amount": 1e9}, {**payments[2], "distance_km": 1e5}]
    records = [*payments[:60], *strange]
    answer = await client.post("/score", json={"records": records, "explain": True})
    assert answer.status_code == 200, answer.text
    bundle = store.load(models, NAME, 1)
    manifest, usual = bundle.manifest, bundle.manifest.usual_surprisal
    assert usual is not None
    noise = contents.noise(bundle)[: manifest.samples]
    outputs = runs.score(
        runs.session(bundle.files["explainer.onnx"]), encode_records(manifest.record, records), noise, rows_a_run=16
    )
    for row, result in enumerate(answer.json()["results"]):
        said = {field["field"]: field for field in result["explanation"]["fields"]}
        for column, (name, field) in enumerate(numbers.items()):
            middle = float(outputs["expected_numeric"][row, column])
            half = float(outputs["expected_deviation"][row, column]) * usual.deviations[column]
            ends = [field.mean + field.scale * place for place in (middle - half, middle, middle + half)]
            if field.offset is not None:
                start = math.log(field.offset)
                ends = [math.exp(y) - field.offset if y >= start else field.offset * (y - start) for y in ends]
            low, expected, high = (max(end, 0.0) for end in ends)
            assert said[name]["expected"] == pytest.approx(expected, rel=1e-3, abs=1e-3 * field.restore(1.0)), name
            assert said[name]["interval"] == pytest.approx([low, high], rel=1e-3, abs=1e-3 * field.restore(1.0)), name
            assert field.nonnegative
            assert min(said[name]["expected"], *said[name]["interval"]) >= 0.0
