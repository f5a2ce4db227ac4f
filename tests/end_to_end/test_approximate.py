"""Few records, and records that may hold anomalies: they train and answer, and the bundle says what is approximate."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bundle.contents import explanation
from bundle.contents.calibration import Calibration
from bundle.folder import contents, store
from service.settings import Settings
from surprisal.cli.inspect import inspect
from tests.conftest import NUMBERS, as_data, in_process
from training import config, pipeline
from training.data import schema, transactions
from training.data.read import read
from training.errors import DataInvalid
from training.evaluation import labelled
from training.export import runs
from training.report import page

pytestmark = pytest.mark.slow

TINY = {"network": {"hidden": (32,)}, "fit": {"epochs": 3}}


ROWS = 700


async def test_a_hundred_rows_train_load_and_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "payments.parquet"
    few = transactions.simulate(104, seed=5, fraud_share=4 / 104).select([*NUMBERS, transactions.LABEL])
    pyarrow.parquet.write_table(few, path)
    said: list[str] = []
    label = {"label": transactions.LABEL, "normal": transactions.NORMAL}
    settings = config.build(TINY | {"scoring": {"false_alarm_rate": 1 / 101}, "data": label})
    file = read(path)
    trained = pipeline.train(file, tmp_path / "models", "few", settings, device="cpu", say=said.append)
    assert any("100 normal rows are too few to put any aside" in line for line in said)
    assert trained.manifest.training.rows == {"train": 90, "validation": 10, "calibration": 100, "anomalies": 4}
    assert [path.name for path in trained.folder.parent.iterdir()] == ["1"]
    record = file.table.drop_columns([transactions.LABEL]).slice(0, 1).to_pylist()[0]
    async with in_process(Settings(models=tmp_path / "models")) as (client, _):
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
    inspect(tmp_path / "models" / "few")
    assert "p-values are approximate: cross-fitted" in " ".join(capsys.readouterr().out.split())
    # Every normal row of the file was trained on, so none is left to measure with.
    bundle = store.load(tmp_path / "models", "few", 1)
    with pytest.raises(DataInvalid, match="cross-fitted"):
        labelled.evaluate(bundle, path, transactions.LABEL, transactions.NORMAL)


def test_contaminated_rows_train_and_what_was_left_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    size = random.normal(size=ROWS)
    columns = np.stack([size, 2 * size, -size], axis=1) + 0.2 * random.normal(size=(ROWS, 3))
    planted = random.permutation(ROWS) < ROWS // 10
    columns[planted] = 40 + random.normal(size=(ROWS // 10, 3))
    table = pa.table({f"x{place}": column for place, column in enumerate(columns.T)})
    shown = Mock(wraps=page.write)
    monkeypatch.setattr(page, "write", shown)
    said: list[str] = []
    # Trained well enough that normal records outside of what is left to train on are not as strange as anomalies.
    small = {"network": {"hidden": (32,)}, "fit": {"epochs": 20}}
    settings = config.build(small | {"data": {"contamination": 0.1}})
    trained = pipeline.train(as_data(table), tmp_path, "unsure", settings, device="cpu", say=said.append)
    manifest = trained.manifest
    assert any("left out as the likeliest anomalies" in line for line in said)
    (reason,) = manifest.calibration.approximate
    kept, held_out = manifest.calibration.records, ROWS // 5
    assert reason.endswith(f"leaves out {held_out - kept} of them by an estimate")
    assert 0.9 * held_out <= kept < held_out
    parts = {"train": 343, "validation": 49, "calibration": kept, "anomalies": 0}
    assert manifest.training.rows == parts | {"left_out": ROWS - sum(parts.values())}
    loaded = store.load(tmp_path, "unsure", 1)
    calibration = contents.calibration(loaded)
    assert all(
        calibration.scores(score.name, samples).size == kept
        for score in loaded.manifest.scores
        for samples in loaded.manifest.sample_counts
    )
    # What the report shows as normal, and what is usual, is of the same rows: those that were planted are not there.
    shown.assert_called_once()
    report, _ = shown.call_args.args
    assert report.held_out.rows.size == kept
    assert not planted[report.held_out.rows].any()
    assert not planted[report.validation.rows].any()
    tensors = report.held_out.tensors
    assert manifest.usual_surprisal == explanation.usual(manifest.record, tensors, report.explain(tensors))


def test_rows_put_aside_are_not_approximate(trained: pipeline.Trained) -> None:
    """Over many draws of calibration and test rows as many are flagged as split conformal says, to 3 errors."""
    manifest = trained.manifest
    assert manifest.calibration.approximate == ()
    pool = as_data(transactions.simulate(6000, seed=9, fraud_share=0.0))
    scorer = runs.session((trained.folder / "scorer.onnx").read_bytes(), threads=1)
    noise = np.load(trained.folder / "noise.npy", allow_pickle=False)[:1]
    scores = runs.score(scorer, schema.tensors(manifest.record, pool, np.arange(6000)), noise)["combined"]
    random, records = np.random.default_rng(0), 999
    found: dict[float, list[float]] = {0.1: [], 0.01: [], 0.005: []}
    for _ in range(200):
        drawn = random.permutation(scores)
        p_values = Calibration({("combined", 1): drawn[:records]}).p_values("combined", 1, drawn[records:])
        for rate, rates in found.items():
            rates.append(float((p_values <= rate).mean()))
    for rate, rates in found.items():
        exact = np.floor(rate * (records + 1) + 1e-9) / (records + 1)
        assert abs(np.mean(rates) - exact) <= 3 * np.std(rates, ddof=1) / np.sqrt(len(rates))
