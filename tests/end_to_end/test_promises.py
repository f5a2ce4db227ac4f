"""What a bundle promises about its scores, held against the running service."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy.stats import kstest

from bundle.contents.calibration import Calibration
from bundle.folder import contents, store
from bundle.record import started_log
from bundle.record.fields import NumericField
from bundle.record.records import encode_columns
from bundle.record.schema import TableSchema
from service.engine.verdicts import judge
from service.models.opening import open_scorer
from service.settings import Settings
from tests.conftest import NAME, running
from training import pipeline
from training.data import transactions

Records = list[dict[str, Any]]


def ask(url: str, records: Records, samples: int = 16) -> Records:
    response = httpx.post(f"{url}/score", json={"records": records, "samples": samples}, timeout=30)
    assert response.status_code == 200, response.text
    results: Records = response.json()["results"]
    return results


def close(one: dict[str, Any], other: dict[str, Any], fields: int) -> bool:
    """Within 1e-5 nats a field or 1e-5 relative, whichever is larger."""
    names = ("log_reconstruction_probability", "elbo", "iwae", "expected_log_likelihood", "anomaly_score")
    return all(math.isclose(one[name], other[name], rel_tol=1e-5, abs_tol=1e-5 * fields) for name in names)


def at(field: NumericField, deviations: float) -> float:
    """The number so many deviations out, of a logarithm as far as doubles go."""
    place = field.mean + field.scale * deviations
    return place if field.offset is None else started_log.inverse(place, field.offset)


def test_a_records_score_is_the_same_alone_in_a_batch_in_another_order_and_after_a_restart(
    server: str, models: Path, payments: Records
) -> None:
    fields = len(payments[0])
    together = ask(server, payments)
    order = np.random.default_rng(0).permutation(len(payments))
    shuffled = ask(server, [payments[index] for index in order])
    assert all(close(shuffled[position], together[index], fields) for position, index in enumerate(order))
    for index in range(0, len(payments), 50):
        assert close(ask(server, [payments[index]])[0], together[index], fields)
    with running(models) as (_, url):
        assert ask(url, payments) == together, "to the bit"


@pytest.mark.parametrize("samples", [1, 16, 256])
def test_fresh_normal_records_score_like_the_calibration_records(
    trained: pipeline.Trained, models: Path, samples: int
) -> None:
    bundle = store.load(models, NAME, 1)
    table = transactions.simulate(5000, seed=11, fraud_share=0.0)
    columns = {name: np.asarray(table[name]) for name in bundle.manifest.record.names}
    tensors = encode_columns(bundle.manifest.record, columns, 5000)
    outputs = open_scorer(bundle, Settings(device="cpu")).run(tensors, samples)
    calibration: Calibration = contents.calibration(bundle)
    assert kstest(-outputs["elbo"], calibration.scores("elbo", samples)).pvalue > 0.001
    verdicts = judge(bundle.manifest, calibration, outputs, samples)
    assert 0.002 < verdicts.is_anomaly.mean() < 0.025


@pytest.mark.parametrize("deviations", [10, 1e2, 1e4, 1e300])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_far_out_is_always_an_anomaly(
    server: str, trained: pipeline.Trained, payments: Records, deviations: float, sign: int
) -> None:
    assert isinstance(trained.manifest.record, TableSchema)
    for field in trained.manifest.record.numeric:
        far = at(field, sign * deviations)
        results = ask(server, [payment | {field.name: far} for payment in payments[:200]])
        assert all(np.isfinite(result["anomaly_score"]) for result in results)
        assert all(result["is_anomaly"] for result in results), field.name


def test_pushing_a_number_further_out_never_makes_a_record_less_strange(
    server: str, trained: pipeline.Trained, payments: Records
) -> None:
    assert isinstance(trained.manifest.record, TableSchema)
    for field in trained.manifest.record.numeric:
        ladder = [at(field, 10.0**power) for power in (1, 1.5, 2, 3, 4, 6, 9, 12, 15, 100, 300)]
        scores = [r["anomaly_score"] for r in ask(server, [payments[0] | {field.name: step} for step in ladder])]
        assert all(later >= earlier for earlier, later in pairwise(scores)), field.name


def test_frauds_are_found(server: str) -> None:
    table = transactions.simulate(1000, seed=12, fraud_share=1.0).drop_columns([transactions.LABEL])
    flagged = [result["is_anomaly"] for result in ask(server, table.to_pylist())]
    assert np.mean(flagged) > 0.5
