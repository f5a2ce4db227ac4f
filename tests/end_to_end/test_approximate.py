"""Few records, and records that may hold anomalies: they train and answer, and the bundle says what is approximate."""

from pathlib import Path

import numpy as np
import pytest

from bundle import store
from bundle.calibration import Calibration
from cli.inspect import inspect
from service.settings import Settings
from tests.conftest import as_data, in_process
from training import config, evaluation, pipeline, transactions
from training.errors import DataInvalid

TINY = {"network": {"hidden": (8,)}, "fit": {"epochs": 3}}


async def test_a_hundred_rows_train_load_and_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = transactions.simulate(100, seed=5, fraud_share=0.0).drop_columns([transactions.LABEL])
    said: list[str] = []
    settings = config.build(TINY | {"scoring": {"false_alarm_rate": 1 / 101}})
    trained = pipeline.train(as_data(table), tmp_path, "few", settings, device="cpu", say=said.append)
    assert any("too few to put 100 aside" in line for line in said)
    assert trained.manifest.training.rows == {"train": 90, "validation": 10, "calibration": 100, "anomalies": 0}
    assert [path.name for path in trained.folder.parent.iterdir()] == ["1"]
    record = table.slice(0, 1).to_pylist()[0]
    async with in_process(Settings(models=tmp_path)) as (client, _):
        answer = await client.post("/score", json={"records": [record, record | {"amount": 1e6}]})
        usual, strange = (each["p_value"] for each in answer.json()["results"])
        assert 1 / 101 <= strange <= usual
        assert strange == pytest.approx(1 / 101)
        refused = await client.post("/score", json={"records": [record], "false_alarm_rate": 0.009})
        assert refused.status_code == 422
        assert "takes 111 calibration records; this bundle has 100" in refused.json()["errors"][0]["detail"]
        described = (await client.get("/models/few")).json()
    (reason,) = described["calibration"]["approximate"]
    assert reason.startswith("cross-fitted: 100 normal rows were scored by 10 models")
    inspect(tmp_path / "few")
    assert "p-values are approximate: cross-fitted" in " ".join(capsys.readouterr().out.split())


def test_contaminated_rows_train_and_what_was_left_out_is_said(tmp_path: Path) -> None:
    table = transactions.simulate(700, seed=6, fraud_share=0.1).drop_columns([transactions.LABEL])
    said: list[str] = []
    settings = config.build(TINY | {"data": {"contamination": 0.1}})
    trained = pipeline.train(as_data(table), tmp_path, "unsure", settings, device="cpu", say=said.append)
    assert any("left out as the likeliest anomalies" in line for line in said)
    rows = trained.manifest.training.rows
    assert rows == {"train": 392, "validation": 56, "calibration": 126, "anomalies": 0}
    (reason,) = trained.manifest.calibration.approximate
    assert reason.startswith("contamination 0.1: 14 of 140 held-out rows were left out")
    loaded = store.load(tmp_path, "unsure", 1)
    calibration = Calibration.from_bytes(loaded.files["calibration.npz"])
    assert all(
        calibration.scores(score.name, samples).size == 126
        for score in loaded.manifest.scores
        for samples in loaded.manifest.sample_counts
    )


def test_rows_put_aside_are_not_approximate(trained: pipeline.Trained) -> None:
    assert trained.manifest.calibration.approximate == ()


def test_a_cross_fitted_bundle_has_seen_every_normal_row_of_its_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "few.npz", X=random.normal(size=(120, 3)), y=np.arange(120) % 12 == 0)
    from training import data

    file = data.read(tmp_path / "few.npz")
    settings = config.build(TINY | {"data": {"label": "y", "normal": "false"}})
    trained = pipeline.train(file, tmp_path / "models", "few", settings, device="cpu")
    bundle = store.load(tmp_path / "models", "few", trained.version)
    with pytest.raises(DataInvalid, match="cross-fitted"):
        evaluation.evaluate(bundle, tmp_path / "few.npz", "y", "false")
