"""Real inputs from file to `/score`, and detection above scikit-learn's IsolationForest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from benchmarks.tabular import Task, compare
from bundle.record.schema import TableSchema
from service.settings import Settings
from tests.conftest import FAST, in_process
from training import config, pipeline
from training.data.read import read

PUBLIC = Path(__file__).parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PUBLIC.is_dir(), reason=f"the public data sets are not at {PUBLIC}"),
]

ROWS = 8000
Records = list[dict[str, Any]]


def train(path: Path, out: Path, label: str, normal: str, exclude: list[str], *, epochs: int = 4) -> pipeline.Trained:
    """A model of the first rows of a file that is read as a whole: their values are those of the others."""
    whole = read(path)
    data = replace(whole, table=whole.table.slice(0, ROWS))
    settings = FAST | {"fit": {"epochs": epochs}, "data": {"label": label, "normal": normal, "exclude": exclude}}
    return pipeline.train(data, out, "model", config.build(settings), device="cpu")


def records(path: Path, trained: pipeline.Trained, rows: int = 2000) -> Records:
    table = pyarrow.parquet.read_table(path, columns=list(trained.manifest.record.names))
    return table.slice(0, rows).to_pylist()


async def score(models: Path, body: Records) -> Records:
    async with in_process(Settings(models=models)) as (client, _):
        response = await client.post("/score", json={"records": body, "samples": 4})
        assert response.status_code == 200, response.text
        results: Records = response.json()["results"]
        assert len(results) == len(body)
        assert all(np.isfinite(result["anomaly_score"]) for result in results)
        return results


async def test_card_fraud(tmp_path: Path) -> None:
    path = PUBLIC / "creditcard_subset.parquet"
    trained = train(path, tmp_path, "Class", "0", ["Time", "source"])
    assert isinstance(trained.manifest.record, TableSchema)
    assert len(trained.manifest.record.numeric) == 29
    assert trained.manifest.training.metrics["elbo_auroc"] > 0.9
    await score(tmp_path, records(path, trained))


async def test_network_flows_with_categories_unseen_in_training(tmp_path: Path) -> None:
    # After four epochs each of a field's categories is still about as likely as one that nobody knows.
    flows = PUBLIC / "nslkdd_train20.parquet"
    trained = train(flows, tmp_path, "label", "0", ["attack", "difficulty"], epochs=50)
    body = records(PUBLIC / "nslkdd_test.parquet", trained, rows=9000)
    assert isinstance(trained.manifest.record, TableSchema)
    vocabularies = {field.name: set(field.vocabulary) for field in trained.manifest.record.categorical}
    unseen = [r for r in body if any(r[name] not in known for name, known in vocabularies.items())]
    assert unseen
    await score(tmp_path, unseen)
    labels = pyarrow.parquet.read_table(PUBLIC / "nslkdd_test.parquet", columns=["label"])["label"].to_pylist()
    normal = [record for record, label in zip(body, labels, strict=False) if label == 0][:500]
    unknown = [record | {"service": "no such service"} for record in normal]
    before, after = await score(tmp_path, normal), await score(tmp_path, unknown)
    less_likely = [two["elbo"] < one["elbo"] for one, two in zip(before, after, strict=True)]
    assert np.mean(less_likely) > 0.95
    # A service so rare that no neighbour has it is as far from all of them as one that nobody knows.
    stranger = [two["anomaly_score"] > one["anomaly_score"] for one, two in zip(before, after, strict=True)]
    assert np.mean(stranger) > 0.85
    await score(tmp_path, body)


async def test_people_with_missing_values(tmp_path: Path) -> None:
    path = PUBLIC / "adult_train.parquet"
    trained = train(path, tmp_path, "income", "<=50K", ["label"])
    body = records(path, trained)
    assert any(value is None for record in body for value in record.values())
    await score(tmp_path, body)


def test_the_default_score_detects_more_than_an_isolation_forest() -> None:
    """On letters of the alphabet; benchmarks/tabular.py says the same of frauds and network flows, in minutes."""
    letters = Task("adbench/20_letter.npz", None, "y", ())
    found = compare(PUBLIC, letters, seed=0)
    for score in ("combined", "elbo"):
        assert found[score]["auroc"] > found["forest"]["auroc"]
        assert found[score]["average_precision"] > found["forest"]["average_precision"]
