"""`surprisal evaluate`: what it measures, on which rows, and what it draws."""

import json
from pathlib import Path

import pyarrow.csv
import pytest

from bundle.folder import store
from tests.conftest import NAME, TRAINED_ON, simulate_numbers
from tests.surprisal.cli.command import surprisal
from training.data import transactions

pytestmark = pytest.mark.slow

LABEL = ("--label", transactions.LABEL, "--normal", transactions.NORMAL)
BASELINES = ["norm of the row", "PCA", "kNN, k = 5", "IsolationForest"]


@pytest.fixture(scope="module")
def payments_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled payments that the model has not seen."""
    path = tmp_path_factory.mktemp("data") / "later.csv"
    pyarrow.csv.write_csv(transactions.simulate(2000, seed=8), path)
    return path


def test_every_score_is_measured_beside_baselines_and_drawn(models: Path, payments_file: Path, tmp_path: Path) -> None:
    curves = tmp_path / "curves.png"
    result = surprisal("evaluate", models / NAME, payments_file, *LABEL, "--json", "--curves", curves)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["model"] == {"name": NAME, "version": "1"}
    names = [score.name for score in store.load(models, NAME, 1).manifest.scores]
    assert list(document["detectors"]) == [*names, *BASELINES]
    for measured in document["detectors"].values():
        for found in measured.values():
            assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    assert document["detectors"]["combined"]["auroc"]["value"] > 0.95
    rows = document["rows"]
    assert abs(rows["normal"] - rows["baselines_fitted_on"]) <= 1
    assert curves.read_bytes().startswith(b"\x89PNG")


def test_a_table_marks_the_bundles_own_score(models: Path, payments_file: Path) -> None:
    result = surprisal("evaluate", models / NAME, payments_file, *LABEL)
    assert result.returncode == 0, result.stderr
    assert "combined *" in result.stdout
    assert "recall at 0.01" in result.stdout
    assert "…" not in result.stdout, "no figure is cut where the table is piped"


def test_of_the_training_file_only_held_out_rows_count(models: Path) -> None:
    result = surprisal("evaluate", models / NAME, models.with_name(TRAINED_ON), *LABEL, "--json")
    rows, parts = json.loads(result.stdout)["rows"], store.load(models, NAME, 1).manifest.training.rows
    assert (rows["normal"], rows["anomalies"]) == (parts["calibration"], parts["anomalies"])
    assert rows["baselines_fitted_on"] == parts["train"]


def test_anomalies_that_were_trained_on_unnoticed_do_not_count(tmp_path: Path) -> None:
    table = simulate_numbers(seed=3)
    pyarrow.csv.write_csv(table, tmp_path / "pay.csv")
    (tmp_path / "fast.toml").write_text("[network]\nhidden = [32]\n[fit]\nepochs = 2\n")
    trained = surprisal(
        "train", tmp_path / "pay.csv", "--config", tmp_path / "fast.toml", "--out", tmp_path, "--exclude", "fraud"
    )
    assert trained.returncode == 0, trained.stderr
    result = surprisal("evaluate", tmp_path / "pay", tmp_path / "pay.csv", *LABEL, "--json")
    assert result.returncode == 0, result.stderr
    labelled = sum(value != transactions.NORMAL for value in table["fraud"].to_pylist())
    held_out = json.loads(result.stdout)["rows"]["anomalies"]
    assert 0 < held_out < labelled
    assert f"{labelled - held_out} labelled anomalies are left out" in result.stderr


def test_columns_that_are_not_there_are_said(models: Path, payments_file: Path, tmp_path: Path) -> None:
    table = pyarrow.csv.read_csv(payments_file)
    pyarrow.csv.write_csv(table.drop_columns(["amount"]), tmp_path / "less.csv")
    result = surprisal("evaluate", models / NAME, tmp_path / "less.csv", *LABEL)
    assert result.returncode == 0, result.stderr
    assert "has no column amount; missing in every row" in result.stderr
    pyarrow.csv.write_csv(table.select([transactions.LABEL]), tmp_path / "none.csv")
    result = surprisal("evaluate", models / NAME, tmp_path / "none.csv", *LABEL)
    assert result.returncode == 1
    assert "none of the model's fields is a column" in result.stderr


def test_curves_that_cannot_be_drawn_are_refused_first(models: Path, payments_file: Path, tmp_path: Path) -> None:
    result = surprisal("evaluate", models / NAME, payments_file, *LABEL, "--curves", tmp_path / "curves.txt")
    assert result.returncode == 2
    assert "ends in .png or .svg" in result.stderr


@pytest.mark.parametrize(
    ("label", "code", "said"),
    [(("--label", "fraude", "--normal", "no"), 2, "there is no column 'fraude'"),
     (("--label", "fraud", "--normal", "never"), 2, "no row has fraud = never")],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_said(
    models: Path, payments_file: Path, label: tuple[str, ...], code: int, said: str
) -> None:
    result = surprisal("evaluate", models / NAME, payments_file, *label)
    assert result.returncode == code
    assert said in result.stderr


def test_rows_without_an_anomaly_measure_nothing(models: Path, tmp_path: Path) -> None:
    normal = transactions.simulate(300, seed=8, fraud_share=0.0)
    pyarrow.csv.write_csv(normal, tmp_path / "normal.csv")
    result = surprisal("evaluate", models / NAME, tmp_path / "normal.csv", *LABEL)
    assert result.returncode == 1
    assert "there are no anomalies to be found" in result.stderr
