"""Real inputs from file to `/score`, and detection above scikit-learn's IsolationForest."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch

from benchmarks.tabular import Task, compare
from bundle.record.schema import TableSchema
from service.settings import Settings
from tests.conftest import FAST, in_process
from training import config, pipeline
from training.data import schema
from training.data.read import read
from training.data.split import split
from training.evaluation.measures import detection
from training.fitting.model import fit

PUBLIC = Path(__file__).parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PUBLIC.is_dir(), reason=f"the public data sets are not at {PUBLIC}"),
]

Records = list[dict[str, Any]]


def train(path: Path, out: Path, label: str, normal: str, exclude: list[str]) -> pipeline.Trained:
    settings = FAST | {"fit": {"epochs": 4}, "data": {"label": label, "normal": normal, "exclude": exclude}}
    return pipeline.train(read(path), out, "model", config.build(settings), device="cpu")


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


async def test_network_flows_with_categories_unseen_in_training(tmp_path: Path) -> None:
    trained = train(PUBLIC / "nslkdd_train20.parquet", tmp_path, "label", "0", ["attack", "difficulty"])
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


@pytest.mark.parametrize(
    ("file", "label", "normal", "exclude"),
    [
        ("creditcard_subset.parquet", "Class", "0", ["Time", "source"]),
        ("adult_train.parquet", "income", "<=50K", ["label"]),
    ],
    ids=["card fraud", "people with missing values"],
)
def test_models_of_other_tables_score_every_row(file: str, label: str, normal: str, exclude: list[str]) -> None:
    """Before their export, which takes longer than all else."""
    wanted = {"label": label, "normal": normal, "exclude": exclude}
    settings = config.build(FAST | {"fit": {"epochs": 4}, "data": wanted})
    data = read(PUBLIC / file)
    parts = split(data, settings.data, settings.scoring.false_alarm_rate, settings.seed)
    record = schema.fit(data, parts.train, pipeline.choose_fields(data, parts, settings, print), settings)
    model = fit(data, record, parts.train, parts.validation, settings, torch.device("cpu"))
    usual, strange = (
        model.anomaly_scores(schema.tensors(record, data, rows[:2000]), 4)
        for rows in (parts.calibration, parts.anomalies)
    )
    for score, values in usual.items():
        assert np.isfinite(values).all(), score
        assert np.isfinite(strange[score]).all(), score
    if label == "Class":
        assert len(record.fields) == 29
        assert detection(usual["elbo"], strange["elbo"])["auroc"] > 0.9
    else:
        assert any(data.table[name].null_count for name in record.names)


def test_the_default_score_detects_more_than_an_isolation_forest() -> None:
    """On letters of the alphabet; benchmarks/tabular.py says the same of frauds and network flows, in minutes."""
    letters = Task("adbench/20_letter.npz", None, "y", ())
    found = compare(PUBLIC, letters, seed=0)
    for score in ("combined", "elbo"):
        assert found[score]["auroc"] > found["forest"]["auroc"]
        assert found[score]["average_precision"] > found["forest"]["average_precision"]
