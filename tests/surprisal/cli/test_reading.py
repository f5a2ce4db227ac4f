"""What a person says of a file, and what the commands say of it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.cases import tables
from tests.conftest import NAME
from tests.surprisal.cli.command import surprisal
from training.data import transactions

ROWS = 300


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return transactions.simulate(ROWS, seed=3)


@pytest.fixture(scope="module")
def expected(models: Path, table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The anomaly scores of the rows, from a file that says its types."""
    folder = tmp_path_factory.mktemp("plain")
    return scores(models, tables.save(folder / "in.parquet", table), folder)


def scores(models: Path, source: Path | str, folder: Path, *options: object) -> list[float]:
    done = surprisal("score", models / NAME, source, folder / "out.parquet", *options)
    assert done.returncode == 0, done.stderr
    found: list[float] = pyarrow.parquet.read_table(folder / "out.parquet")["anomaly_score"].to_pylist()
    return found


@pytest.fixture
def european(table: pa.Table, tmp_path: Path) -> Path:
    """As a spreadsheet of Germany writes it."""
    path = tmp_path / "in.csv"
    content = tables.delimited(table, delimiter=";", decimal=",", before=["Zahlungen"])
    path.write_text(content, encoding="windows-1252")
    return path


def test_how_a_file_is_read_is_said(models: Path, european: Path, expected: list[float], tmp_path: Path) -> None:
    done = surprisal("score", models / NAME, european, tmp_path / "out.parquet")
    assert f"{european} read as: semicolon, 1 line before the names passed over" in done.stderr
    assert "amount" in done.stderr
    assert "read with decimal comma" in done.stderr
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["anomaly_score"].to_pylist() == expected


def test_a_person_decides(models: Path, european: Path, expected: list[float], tmp_path: Path) -> None:
    given = ("delimiter=;", "decimal=,", "encoding=windows-1252", "header=2", "missing_values=NA,none")
    options = [part for each in given for part in ("--read", each)]
    assert scores(models, european, tmp_path, *options) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("delimiter", "NAME=VALUE is expected"),
        ("delimiter=;;", "one character, or tab is expected"),
        ("decimal=x", "a point or a comma is expected"),
        ("header=two", "a number of lines is expected"),
        ("encoding=", "a value is expected"),
        ("colour=red", "there is no such setting"),
    ],
)
def test_what_means_nothing_is_refused(models: Path, european: Path, tmp_path: Path, given: str, words: str) -> None:
    for command in (
        ("score", models / NAME, european, tmp_path / "out.csv"),
        ("train", european, "--out", tmp_path),
        ("evaluate", models / NAME, european, "--label", "fraud", "--normal", "no"),
    ):
        done = surprisal(*command, "--read", given)
        assert done.returncode == 2
        assert words in done.stderr


def test_an_encoding_that_is_none_is_refused(models: Path, european: Path, tmp_path: Path) -> None:
    done = surprisal("score", models / NAME, european, tmp_path / "out.csv", "--read", "encoding=klingon")
    assert done.returncode == 1
    assert "encoding = 'klingon' is unknown" in done.stderr


def test_training_and_evaluation_say_it_as_well(models: Path, european: Path, tmp_path: Path) -> None:
    done = surprisal("train", european, "--out", tmp_path, "--schema-only", "--label", "fraud", "--normal", "no")
    assert done.returncode == 0, done.stderr
    assert "in.csv read as: semicolon, 1 line before the names passed over" in done.stderr
    assert 'name = "amount"\nkind = "numeric"' in done.stdout
    assert "read with decimal comma" in done.stdout
    done = surprisal("evaluate", models / NAME, european, "--label", "fraud", "--normal", "no")
    assert done.returncode == 0, done.stderr
    assert "in.csv read as: semicolon" in done.stderr


def test_rows_that_do_not_fit_are_skipped_where_that_is_asked(
    models: Path, table: pa.Table, expected: list[float], tmp_path: Path
) -> None:
    lines = tables.delimited(table).splitlines()
    wrong = 17
    cells = lines[wrong + 1].split(",")
    cells[table.column_names.index("amount")] = "much"
    lines[wrong + 1] = ",".join(cells)
    (tmp_path / "in.csv").write_text("\n".join([*lines, "Total"]))
    refused = surprisal("score", models / NAME, tmp_path / "in.csv", tmp_path / "out.csv")
    assert refused.returncode == 1
    assert not (tmp_path / "out.csv").exists()
    done = surprisal(
        "score", models / NAME, tmp_path / "in.csv", tmp_path / "out.parquet", "--on-error", "skip", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert "1 rows have no score" in done.stderr
    assert f"row {ROWS + 1} has 1 cell" in done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["rows"], summary["rows_without_score"], summary["lines_passed_over"]) == (ROWS, 1, 1)
    out = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert out["error"][wrong].as_py() == "column 'amount': a number is expected"
    assert out["anomaly_score"].to_pylist() == [None if row == wrong else each for row, each in enumerate(expected)]


def test_a_file_that_lacks_a_field_is_refused_where_that_is_asked(
    models: Path, table: pa.Table, tmp_path: Path
) -> None:
    path = tables.save(tmp_path / "in.csv", table.drop_columns("amount"))
    done = surprisal("score", models / NAME, path, tmp_path / "out.csv", "--strict")
    assert done.returncode == 2
    assert f"{path}: has no column amount" in done.stderr
    folder = tmp_path / "parts"
    folder.mkdir()
    tables.save(folder / "0.csv", table)
    tables.save(folder / "1.csv", table.drop_columns("amount"))
    done = surprisal("score", models / NAME, folder, tmp_path / "out.csv")
    assert "amount is in 1 of them alone" in done.stderr
    done = surprisal("score", models / NAME, folder, tmp_path / "out.csv", "--strict")
    assert done.returncode == 2
    assert "amount (in some of its files)" in done.stderr


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_standard_input_is_read(
    models: Path, table: pa.Table, expected: list[float], tmp_path: Path, ending: str
) -> None:
    path = tables.save(tmp_path / f"in.{ending}", table)
    command = [sys.executable, "-m", "surprisal", "score", models / NAME, "-", tmp_path / "out.parquet"]
    with path.open("rb") as file:
        done = subprocess.run(list(map(str, command)), stdin=file, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["anomaly_score"].to_pylist() == expected


def test_a_workbook_is_refused_with_a_recipe(models: Path, tmp_path: Path) -> None:
    (tmp_path / "in.xlsx").write_bytes(b"PK\x03\x04")
    for command in (
        ("score", models / NAME, tmp_path / "in.xlsx", tmp_path / "out.csv"),
        ("train", tmp_path / "in.xlsx"),
    ):
        done = surprisal(*command)
        assert done.returncode == 2
        assert "workbooks are not read; save the sheet as CSV" in done.stderr


def test_texts_that_training_never_saw_are_counted(models: Path, table: pa.Table, tmp_path: Path) -> None:
    countries = np.asarray(table["country"]).copy()
    countries[:7] = "Atlantis"
    path = tables.save(tmp_path / "in.csv", tables.with_column(table, "country", countries))
    done = surprisal("score", models / NAME, path, tmp_path / "out.csv")
    assert "hardly ever saw them: country in 7 rows" in done.stderr
