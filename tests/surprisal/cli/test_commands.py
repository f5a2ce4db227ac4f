"""The command line: what it writes, prints and returns."""

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from bundle.folder import store
from bundle.record.schema import TableSchema
from tests.conftest import NAME, simulate_payments
from tests.surprisal.cli.command import process, surprisal
from training.data import transactions


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return transactions.simulate(700, seed=3)


@pytest.fixture(scope="module")
def csv(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "payments.csv"
    pyarrow.csv.write_csv(table, path)
    return path


def test_a_schema_is_printed_edited_and_trained_with(tmp_path: Path) -> None:
    csv, label = tmp_path / "payments.csv", ("--label", "fraud", "--normal", "no")
    write(simulate_payments(seed=3), csv)
    printed = surprisal("train", csv, "--schema-only", *label)
    assert printed.returncode == 0, printed.stderr
    content = tomllib.loads(printed.stdout)
    assert {field["name"]: field["kind"] for field in content["fields"]}["channel"] == "categorical"
    assert {field["name"]: field.get("transform") for field in content["fields"]}["amount"] == "auto"
    (said,) = (line for line in printed.stdout.splitlines() if "its large values lie 3" in line and "log(x + 1" in line)
    assert said.startswith('transform = "auto" # log(x + 1')
    assert not (tmp_path / "models").exists()
    # As wide as what others train, so that its graphs are exported already.
    edited = printed.stdout.replace("hidden = [256, 128]", "hidden = [32]").replace("[fit]", "[fit]\nepochs = 2")
    edited = edited.replace('name = "channel"', 'name = "channel"\nvocabulary = ["atm", "chip", "fax", "telex"]')
    (tmp_path / "config.toml").write_text(edited)
    trained = process("train", csv, "--out", tmp_path / "models", "--config", tmp_path / "config.toml")
    assert trained.returncode == 0, trained.stderr
    assert "amount: log(x + 1" in trained.stderr
    assert "wrote version 1 of payments" in trained.stderr
    assert "AUROC" in trained.stderr
    assert trained.stdout == f"{tmp_path / 'models' / 'payments' / '1'}\n"
    manifest = store.load(tmp_path / "models", "payments", 1).manifest
    network = manifest.training.config["network"]
    assert isinstance(network, Mapping)
    assert network["hidden"] == [32]
    assert isinstance(manifest.record, TableSchema)
    (channel,) = [field for field in manifest.record.categorical if field.name == "channel"]
    assert channel.vocabulary == ("atm", "chip", "fax", "telex")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("train", "nothing.csv"), 2, "no such file"),
        (("train", "{csv}", "--label", "nothing", "--normal", "0"), 2, "no column 'nothing'"),
        (("train", "{csv}", "--normal", "no"), 2, "--label"),
        (
            ("train", "{csv}", "--preset", "best"),
            2,
            "--preset: one of default, kingma-welling, an-cho is expected, not 'best'",
        ),
        (("train", "{csv}", "--contamination", "0.6"), 2, "--contamination: a number below 0.5 is expected, not 0.6"),
        (("train", "{csv}", "--config", "nothing.toml"), 2, "nothing.toml"),
        (("train", "{csv}", "--device", "cuda"), 2, "no GPU"),
        (("train", "{csv}", "--name", "A B"), 2, "no model name"),
        (("train", "{csv}", "--resume", "--out", "{tmp}/m"), 2, "no checkpoint"),
        (("train", "{bad}"), 1, "column 'x', row 3: an infinity"),
        (("score", "models/none", "{csv}", "out.csv"), 2, "no bundle"),
        (("score", "{model}", "nothing.csv", "out.csv"), 2, "no such file"),
        (("score", "{model}", "nothing", "out.csv"), 2, "no such file or folder"),
        (("score", "{model}", "{tmp}", "{tmp}/out.csv"), 1, "row 2, column 'amount': a number is expected"),
        (("score", "{model}", "{csv}", "out.xlsx"), 2, "out.xlsx"),
        (("score", "{model}", "{csv}", "{tmp}/out.csv", "--samples", "3"), 2, "--samples 3"),
        (("score", "{model}", "{bad}", "{tmp}/out.csv"), 2, "none of the model's fields"),
        (("score", "{model}", "{text}", "{tmp}/out.csv"), 1, "amount"),
        (("inspect", "models/none"), 2, "no bundle"),
        (("flirt",), 2, "flirt: there is no such command; there are train, score, serve"),
        (("trian",), 2, "trian: there is no such command; did you mean train?; `surprisal --help` says more"),
        (("train",), 2, "train: the argument data is missing; `surprisal train --help` says more"),
        (("train", "{csv}", "more"), 2, "train: 'more' is one argument too many"),
        (("train", "{csv}", "--lable", "x"), 2, "--lable: there is no such option; did you mean --label?"),
        (("train", "{csv}", "--seed", "x"), 2, "--seed: a whole number is expected, not 'x'"),
        (("train", "{csv}", "--seed"), 2, "--seed: a value is expected after it"),
        (("train", "{csv}", "--seed", "-1"), 2, "--seed: 0 or more is expected, not -1"),
        (
            ("train", "{csv}", "--device", "cude"),
            2,
            "--device: one of auto, cpu, cuda is expected, not 'cude'; did you",
        ),
        (("train", "{csv}", "--out", "{csv}"), 2, "is a file; --out takes the folder that models are written to"),
        (("train", "{csv}", "--config", "{tmp}"), 2, "is a folder; a TOML file is expected"),
        (("train", "{csv}", "--config", "{bad}"), 2, "bad.csv: line 1 is no TOML: 'x'; a setting is NAME = VALUE"),
        (("train", "{csv}", "--config", "{misspelt}"), 2, "fit.epoch: there is no such setting; did you mean epochs?"),
        (("train", "{csv}", "--exclude", "amuont"), 2, "no column 'amuont' to exclude; did you mean amount?"),
        (("train", "{npz}"), 1, "bad.npz: is damaged, or no npz of plain arrays"),
        (("score", "{model}"), 2, "score: the argument IN is missing"),
        (("score", "{root}", "{csv}", "{tmp}/out.csv"), 2, f"is expected; models has {NAME}"),
        (("score", "{model}", "{csv}", "{tmp}/out.csv", "--top", "0"), 2, "--top: 1 or more is expected"),
        (("explore", "a", "b"), 2, "explore: the option --out is missing"),
        (("evaluate", "{model}", "{csv}", "--curves", "no/c.png"), 2, "no/c.png: there is no folder no"),
        (("demo", "--port", "99999"), 2, "--port: 65535 or less is expected, not 99999"),
        (("models", "lst"), 2, "lst: there is no such command; did you mean list?"),
        (("models", "list", "{csv}"), 2, "is a file; a models folder is expected"),
        (("models", "list", "{model}"), 2, "is the folder of one model"),
        (("models", "shadow", "nothing", "--off"), 2, "there is no model at nothing"),
        (("models", "sign", "{model}/1", "--key", "nothing"), 1, "nothing: there is no such file or folder"),
    ],
)
def test_what_goes_wrong_is_one_paragraph_and_an_exit_code(
    arguments: tuple[str, ...], code: int, words: str, csv: Path, models: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.csv").write_text("x\n1\n2\ninf\n" + "4\n" * 400)
    (tmp_path / "text.csv").write_text("amount,country\n1.5,SE\nmuch,SE\n")
    (tmp_path / "misspelt.toml").write_text("[fit]\nepoch = 5\n")
    (tmp_path / "bad.npz").write_bytes(b"PK")
    places = {"csv": csv, "tmp": tmp_path, "model": models / NAME}
    places |= {"misspelt": tmp_path / "misspelt.toml", "npz": tmp_path / "bad.npz", "root": models}
    places |= {"bad": tmp_path / "bad.csv", "text": tmp_path / "text.csv"}
    result = surprisal(*(argument.format(**places) for argument in arguments))
    assert result.returncode == code, result.stderr
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not any(theirs in result.stderr for theirs in ("Input should", "Extra inputs", "Value error", "Errno"))
    assert not (tmp_path / "out.csv").exists()


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return pyarrow.csv.read_csv(path).to_pylist()
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(table: pa.Table, path: Path) -> None:
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


@pytest.mark.parametrize(("source", "target"), [("csv", "ndjson"), ("parquet", "csv"), ("ndjson", "parquet")])
def test_a_file_gets_the_scores_that_the_service_gives(
    table: pa.Table, models: Path, server: str, tmp_path: Path, source: str, target: str
) -> None:
    write(table, tmp_path / f"in.{source}")
    result = surprisal("score", models / NAME, tmp_path / f"in.{source}", tmp_path / f"out.{target}", "--latent")
    assert result.returncode == 0, result.stderr
    assert "700 rows scored" in result.stderr
    rows = read(tmp_path / f"out.{target}")
    for name in ("fraud", "merchant_category", "country"):
        assert [row[name] or None for row in rows] == table[name].to_pylist()
    assert [row["amount"] for row in rows] == pytest.approx(table["amount"].to_pylist())
    records = table.drop_columns(["fraud"]).to_pylist()
    answers = httpx.post(f"{server}/score", json={"records": records}).json()["results"]
    for row, answer in zip(rows, answers, strict=True):
        assert row["elbo"] == pytest.approx(answer["elbo"], rel=1e-4, abs=1e-3)
        assert row["p_value"] == pytest.approx(answer["p_value"], abs=2e-3)
        assert row["is_anomaly"] == answer["is_anomaly"]
        mean = (
            row["latent_mean"]
            if target != "csv"
            else [row[f"latent_mean_{k}"] for k in range(len(answer["latent_mean"]))]
        )
        assert mean == pytest.approx(answer["latent_mean"], abs=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"in.{source}", f"out.{target}"])


def test_a_column_that_is_not_there_is_said_to_be_missing(table: pa.Table, models: Path, tmp_path: Path) -> None:
    write(table.drop_columns(["distance_km"]), tmp_path / "in.csv")
    result = surprisal("score", models / NAME, tmp_path / "in.csv", tmp_path / "out.csv")
    assert result.returncode == 0
    assert "distance_km" in result.stderr


def test_200_000_rows_are_scored_in_under_600_mib(models: Path, tmp_path: Path) -> None:
    write(transactions.simulate(200_000, seed=4), tmp_path / "in.parquet")
    code = (
        "import resource, subprocess, sys; "
        "status = subprocess.run(sys.argv[1:]).returncode; "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(status)"
    )
    arguments = ["score", models / NAME, tmp_path / "in.parquet", tmp_path / "out.parquet", "--samples", "1"]
    command = [sys.executable, "-c", code, sys.executable, "-m", "surprisal", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 600 * 1024  # kilobytes
    assert pyarrow.parquet.read_metadata(tmp_path / "out.parquet").num_rows == 200_000


def test_inspect_shows_and_verifies(models: Path) -> None:
    shown = surprisal("inspect", models / NAME, COLUMNS="120")
    assert shown.returncode == 0
    for words in ("transactions", "merchant_category", "gaussian", "calibrated on", "scorer.onnx", "elbo_auroc"):
        assert words in shown.stdout
    assert "of log(x + " in " ".join(shown.stdout.split())
    assert "(robust deviations, compressed)" in " ".join(shown.stdout.split())
    manifest = json.loads(surprisal("inspect", models / NAME / "1", "--json").stdout)
    # No row of the file lacks an hour, and it is not said that one does.
    (hour,) = (line for line in shown.stdout.splitlines() if line.split()[1:2] == ["hour"])
    assert hour.split()[-2] == "0.00%"
    assert manifest["anomaly_score"] == "combined"


def test_inspect_refuses_a_damaged_bundle_and_names_the_file(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / NAME / "1", tmp_path / NAME / "1")
    file = tmp_path / NAME / "1" / "decoder.onnx"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    shown = surprisal("inspect", tmp_path / NAME)
    assert shown.returncode == 1
    assert "decoder.onnx" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_preset_is_not_mixed_into_a_file_of_another(csv: Path, tmp_path: Path) -> None:
    printed = surprisal("train", csv, "--schema-only", "--preset", "an-cho")
    assert "# epochs =" in printed.stdout
    (tmp_path / "config.toml").write_text(printed.stdout)
    mixed = surprisal("train", csv, "--config", tmp_path / "config.toml", "--preset", "kingma-welling")
    assert mixed.returncode == 2
    assert "an-cho" in mixed.stderr


def test_a_file_without_rows_gives_one_with_the_scores_columns(models: Path, table: pa.Table, tmp_path: Path) -> None:
    write(table.slice(0, 0), tmp_path / "in.csv")
    for suffix in ("csv", "parquet", "ndjson"):
        result = surprisal("score", models / NAME, tmp_path / "in.csv", tmp_path / f"out.{suffix}")
        assert result.returncode == 0, result.stderr
    assert pyarrow.csv.read_csv(tmp_path / "out.csv").column_names[: table.num_columns + 1] == [
        *table.column_names,
        pyarrow.parquet.read_schema(tmp_path / "out.parquet").names[table.num_columns],
    ]
    assert (tmp_path / "out.ndjson").read_bytes() == b""


def test_help_names_every_command() -> None:
    shown = process("--help")
    assert shown.returncode == 0
    for command in ("train", "score", "serve", "inspect", "demo"):
        assert command in shown.stdout
