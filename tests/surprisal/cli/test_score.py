"""`surprisal score`: what OUT holds, in every format."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from bundle.contents import answer_names
from bundle.folder import store
from tests.conftest import IMAGES, NAME, simulate_images, until
from tests.surprisal.cli.command import Ended, process, surprisal
from training.data import transactions

FORMS = ("csv", "parquet", "ndjson")
ROWS = 700
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return transactions.simulate(ROWS, seed=3)


@pytest.fixture(scope="module")
def source(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("score") / "payments.parquet"
    pyarrow.parquet.write_table(table, path)
    return path


@pytest.fixture(scope="module")
def whole(models: Path, source: Path) -> Rows:
    """Every row, explained."""
    return read(scored(models, source, source.with_name("whole.ndjson"), "--explain", "--latent"))


def scored(models: Path, source: Path, target: Path, *options: object) -> Path:
    done = surprisal("score", models / NAME, source, target, *options)
    assert done.returncode == 0, done.stderr
    return target


def read(path: Path) -> Rows:
    match path.suffix:
        case ".csv":
            return pyarrow.csv.read_csv(path).to_pylist()
        case ".parquet":
            return pyarrow.parquet.read_table(path).to_pylist()
        case _:
            return [json.loads(line) for line in path.read_text().splitlines()]


def names(path: Path) -> list[str]:
    match path.suffix:
        case ".csv":
            return next(csv.reader([path.read_text().partition("\n")[0]]))
        case ".parquet":
            return list(pyarrow.parquet.read_schema(path).names)
        case _:
            return list(read(path)[0])


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize("options", [(), ("--latent",), ("--explain", "--latent", "--top", 9), ("--only-flagged",)])
def test_a_file_has_the_columns_that_it_is_said_to_get(
    models: Path, source: Path, tmp_path: Path, suffix: str, options: tuple[object, ...]
) -> None:
    manifest = store.load(models, NAME, 1).manifest
    asked = {"latent": "--latent" in options, "explain": "--explain" in options, "flat": suffix == "csv"}
    numbered = "--top" in options or "--only-flagged" in options
    added = answer_names.of_scores(manifest.record, manifest.latent_size, **asked)
    found = names(scored(models, source, tmp_path / f"out.{suffix}", *options))
    carried = names(source)
    assert found == [*(["row"] if numbered else []), *carried, *added]
    assert set(found) - set(carried) <= answer_names.every(manifest.record, manifest.latent_size)


@pytest.mark.parametrize(
    ("keep", "carried"),
    [("country,fraud", ["country", "fraud"]), ("amount", ["amount"]), ("", [])],
)
def test_columns_that_are_asked_for_are_carried(
    models: Path, source: Path, table: pa.Table, tmp_path: Path, keep: str, carried: list[str]
) -> None:
    out = scored(models, source, tmp_path / "out.parquet", "--keep", keep)
    assert names(out) == [*carried, *answer_names.VERDICTS, answer_names.ERROR]
    assert pyarrow.parquet.read_table(out).select(carried).equals(table.select(carried))


@pytest.mark.parametrize("suffix", FORMS)
def test_columns_of_scores_that_are_asked_for_are_written_in_that_order(
    models: Path, source: Path, tmp_path: Path, suffix: str
) -> None:
    asked = ["p_value", "explanation_2_field", "is_anomaly"]
    out, whole = tmp_path / f"out.{suffix}", tmp_path / f"whole.{suffix}"
    scored(models, source, out, "--explain", "--top", 9, "--keep", "hour", "--columns", ",".join(asked))
    assert names(out) == ["row", "hour", *asked]
    scored(models, source, whole, "--explain", "--top", 9)
    assert read(out) == [{name: row[name] for name in names(out)} for row in read(whole)]


def test_a_column_of_in_may_have_the_name_of_one_that_is_not_written(
    models: Path, table: pa.Table, tmp_path: Path
) -> None:
    pyarrow.parquet.write_table(table.append_column("elbo", table["hour"]), tmp_path / "in.parquet")
    out = scored(models, tmp_path / "in.parquet", tmp_path / "out.parquet", "--columns", "p_value")
    assert pyarrow.parquet.read_table(out)["elbo"].equals(table["hour"])
    assert names(out)[-1] == "p_value"


def test_a_name_that_holds_a_comma_is_quoted(models: Path, table: pa.Table, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(table.append_column("a, b", table["hour"]), tmp_path / "in.parquet")
    out = scored(models, tmp_path / "in.parquet", tmp_path / "out.csv", "--keep", 'hour,"a, b"')
    assert names(out)[:2] == ["hour", "a, b"]
    assert all(row["hour"] == row["a, b"] for row in read(out))


@pytest.mark.parametrize("suffix", FORMS)
def test_what_stands_in_the_file_stays_what_it_is(
    models: Path, source: Path, table: pa.Table, tmp_path: Path, suffix: str
) -> None:
    out = scored(models, source, tmp_path / f"out.{suffix}")
    match suffix:
        case "parquet":
            assert pyarrow.parquet.read_table(out).select(table.column_names).equals(table)
        case "ndjson":
            for name in table.column_names:
                expected, found = table[name].to_pylist(), [row[name] for row in read(out)]
                assert found == expected
                assert list(map(type, found)) == list(map(type, expected)), name
        case _:
            with out.open(newline="") as file:
                cells = list(csv.DictReader(file))
            for name in ("hour", "transactions_24h", "fraud", "country"):
                assert [row[name] for row in cells] == [
                    "" if value is None else str(value) for value in table[name].to_pylist()
                ]
            assert {row["card_present"] for row in cells} <= {"true", "false", ""}


@pytest.mark.parametrize("suffix", FORMS)
def test_flagged_rows_alone_say_where_they_stood(
    models: Path, source: Path, whole: Rows, tmp_path: Path, suffix: str
) -> None:
    flagged = [number for number, row in enumerate(whole, start=1) if row["is_anomaly"]]
    assert 0 < len(flagged) < ROWS
    found = read(scored(models, source, tmp_path / f"out.{suffix}", "--only-flagged", "--explain"))
    assert [row["row"] for row in found] == flagged
    for row in found:
        before = whole[row["row"] - 1]
        assert row["is_anomaly"] is True
        assert row["amount"] == before["amount"]
        assert row["elbo"] == pytest.approx(before["elbo"], rel=1e-6)
        assert row["explanation_1_field"] == before["explanation_1_field"]
        assert row["explanation_1_conditional_excess"] == pytest.approx(
            before["explanation_1_conditional_excess"], rel=1e-4, abs=1e-4
        )


@pytest.mark.parametrize("suffix", FORMS)
def test_the_strangest_rows_come_first(models: Path, source: Path, whole: Rows, tmp_path: Path, suffix: str) -> None:
    order = sorted(range(ROWS), key=lambda at: (whole[at]["p_value"], -whole[at]["anomaly_score"], at))
    found = read(scored(models, source, tmp_path / f"out.{suffix}", "--top", 12))
    assert [row["row"] - 1 for row in found] == order[:12]
    assert [row["amount"] for row in found] == [whole[at]["amount"] for at in order[:12]]


def test_more_rows_than_there_are_and_none_at_all(models: Path, source: Path, table: pa.Table, tmp_path: Path) -> None:
    assert len(read(scored(models, source, tmp_path / "all.parquet", "--top", 5000))) == ROWS
    pyarrow.parquet.write_table(table.slice(0, 0), tmp_path / "none.parquet")
    for options in (("--top", 3), ("--only-flagged",), ("--explain",)):
        out = scored(models, tmp_path / "none.parquet", tmp_path / "out.csv", *options)
        assert "elbo" in names(out)
        assert read(out) == []


def test_an_explanation_says_what_the_service_says(server: str, table: pa.Table, whole: Rows) -> None:
    records = table.drop_columns([transactions.LABEL]).slice(0, 40).to_pylist()
    answers = httpx.post(f"{server}/score", json={"records": records, "explain": True}).json()["results"]
    for row, record, answer in zip(whole, records, answers, strict=False):
        for rank, said in enumerate(answer["explanation"]["fields"][:3], start=1):
            found = {name: row[f"explanation_{rank}_{name}"] for name in ("field", "value", "expected", "direction")}
            assert (found["field"], found["direction"]) == (said["field"], said["direction"])
            assert said["value"] == record[said["field"]]
            for name in ("surprisal", "excess", "conditional_excess"):
                assert row[f"explanation_{rank}_{name}"] == pytest.approx(said[name], rel=1e-3, abs=1e-3)
            interval = [row[f"explanation_{rank}_interval_{end}"] for end in ("low", "high")]
            if "interval" in said:
                assert interval == pytest.approx(said["interval"], rel=1e-3, abs=1e-3)
                assert float(found["expected"]) == pytest.approx(said["expected"], rel=1e-3, abs=1e-3)
                assert found["value"] is None if said["value"] is None else float(found["value"]) == said["value"]
            else:
                assert interval == [None, None]
                assert found["expected"] == text(said["expected"])
                assert found["value"] == text(said["value"])


def text(value: Any) -> Any:
    return {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value


@pytest.mark.parametrize("suffix", FORMS)
def test_fields_stand_in_the_order_of_their_conditional_excess(
    models: Path, source: Path, whole: Rows, tmp_path: Path, suffix: str
) -> None:
    found = read(scored(models, source, tmp_path / f"out.{suffix}", "--explain"))
    for row, before in zip(found, whole, strict=True):
        excess = [row[f"explanation_{rank}_conditional_excess"] for rank in (1, 2, 3)]
        assert excess == sorted(excess, reverse=True)
        assert len({row[f"explanation_{rank}_field"] for rank in (1, 2, 3)}) == 3
        for rank in (1, 2, 3):
            name = f"explanation_{rank}_value"
            assert (text(row[name]) or "") == (before[name] or "") or float(row[name]) == float(before[name])


def test_a_category_that_the_model_does_not_know_is_named_as_it_stands(
    models: Path, table: pa.Table, tmp_path: Path
) -> None:
    rows = table.slice(0, 30)
    unknown = pa.array(["Atlantis"] * 15 + [None] * 15)
    rows = rows.set_column(rows.column_names.index("country"), "country", unknown)
    pyarrow.parquet.write_table(rows, tmp_path / "in.parquet")
    out = scored(models, tmp_path / "in.parquet", tmp_path / "out.parquet", "--explain", "--keep", "")
    told = [
        (at < 15, row[f"explanation_{rank}_value"], row[f"explanation_{rank}_direction"])
        for at, row in enumerate(read(out))
        for rank in (1, 2, 3)
        if row[f"explanation_{rank}_field"] == "country"
    ]
    assert (True, "Atlantis", "unusual category") in told
    assert set(told) <= {(True, "Atlantis", "unusual category"), (False, None, "missing")}


def test_images_of_an_array_are_numbered_once(image_models: Path, tmp_path: Path) -> None:
    images = np.concatenate([simulate_images(30, seed=41), simulate_images(5, seed=41, strange=True)])
    np.savez(tmp_path / "scans.npz", X=images)
    for options, row in (((), [0]), (("--keep", ""), [0]), (("--keep", "row"), [0])):
        out = tmp_path / "out.csv"
        done = surprisal(
            "score", image_models / IMAGES, tmp_path / "scans.npz", out, "--only-flagged", "--explain", *options
        )
        assert done.returncode == 0, done.stderr
        assert [place for place, name in enumerate(names(out)) if name == "row"] == row
        assert {31, 32, 33, 34, 35} <= {each["row"] for each in read(out)}
        assert "explanation_1_surprisal_map" in names(out)


def refused(done: Ended, out: Path, code: int) -> str:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
    assert not list(out.parent.glob(".*.writing")) if out.parent.is_dir() else True
    return " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--keep", "country,nothing"), "no column 'nothing', but 'amount'"),
        (("--keep", "country,country"), "'country' is asked for twice"),
        (("--keep", '"country'), '--keep "country: '),
        (("--keep", "elbo"), "columns of scores are named with --columns"),
        (("--columns", "elbo,country"), "no column of scores 'country', but 'reconstruction_probability', "),
        (("--columns", "country"), "columns of IN are named with --keep"),
        (("--columns", "elbo,elbo"), "'elbo' is asked for twice"),
        (("--columns", ""), "no column of scores is named"),
        (("--columns", "explanation_1_field"), "does not write 'explanation_1_field': add --explain"),
        (("--columns", "latent_mean_0"), "does not write 'latent_mean_0': add --latent"),
        (("--columns", "latent_mean", "--latent"), "CSV holds no lists; name latent_mean_0"),
        (("--columns", "row"), "it stands in OUT by itself with --only-flagged or --top"),
        (("--top", "0"), "--top"),
        (("--top", "few"), "--top"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_written(
    models: Path, source: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    out = tmp_path / "out.csv"
    assert words in refused(surprisal("score", models / NAME, source, out, *options), out, 2)


@pytest.mark.parametrize(("taken", "options"), [("elbo", ()), ("row", ("--top", 3)), ("latent_mean_0", ("--latent",))])
def test_a_column_of_scores_is_never_doubled(
    models: Path, table: pa.Table, tmp_path: Path, taken: str, options: tuple[object, ...]
) -> None:
    source, out = tmp_path / "in.parquet", tmp_path / "out.csv"
    pyarrow.parquet.write_table(table.append_column(taken, pa.array(np.zeros(ROWS))), source)
    said = refused(surprisal("score", models / NAME, source, out, *options), out, 2)
    assert f"in.parquet: a column is called {taken!r}" in said
    assert "rename it, or leave it out with --keep" in said
    if options:  # What is not written is in nobody's way.
        assert read(scored(models, source, out))[0][taken] == 0
        out.unlink()
    assert len(read(scored(models, source, out, *options, "--keep", "country")))


def test_in_is_never_overwritten(models: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(source.read_bytes())
    (tmp_path / "also.parquet").symlink_to("in.parquet")
    for target in ("in.parquet", "also.parquet"):
        done = surprisal("score", models / NAME, tmp_path / "in.parquet", tmp_path / target, "--top", 3)
        assert done.returncode == 2
        assert "is IN as well" in done.stderr
    assert (tmp_path / "in.parquet").read_bytes() == source.read_bytes()


def test_the_file_at_fault_is_named(models: Path, source: Path, tmp_path: Path) -> None:
    wrong, out = tmp_path / "wrong.csv", tmp_path / "out.csv"
    wrong.write_text("amount,country\n1.5,SE\nmuch,NO\n")
    said = refused(surprisal("score", models / NAME, wrong, out), out, 1)
    assert f"{wrong}: row 2, column 'amount'" in said
    assert str(out) not in said
    damaged, content = tmp_path / "damaged.parquet", bytearray(source.read_bytes())
    content[4:40] = bytes(byte ^ 255 for byte in content[4:40])
    damaged.write_bytes(content)
    said = refused(surprisal("score", models / NAME, damaged, out), out, 1)
    assert f"{damaged}: " in said
    assert str(out) not in said
    (tmp_path / ".out.csv.writing").symlink_to("/dev/full")
    said = refused(surprisal("score", models / NAME, source, out), out, 1)
    assert f"{out}: the disk is full" in said
    assert str(source) not in said
    nowhere = tmp_path / "nowhere" / "out.csv"
    assert "there is no folder" in refused(surprisal("score", models / NAME, source, nowhere), nowhere, 2)
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "is a folder" in surprisal("score", models / NAME, source, folder).stderr


def test_rows_go_to_standard_output(models: Path, source: Path, whole: Rows) -> None:
    done = process("score", models / NAME, source, "-", "--keep", "country", "--top", 3)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["country"] for row in found] == [whole[row["row"] - 1]["country"] for row in found]
    assert "wrote 3 of them to standard output" in done.stderr
    refusal = surprisal("score", models / NAME, source, "-", "--json")
    assert refusal.returncode == 2
    assert "--json" in refusal.stderr


def test_ctrl_c_says_where_it_stopped(models: Path, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(transactions.simulate(200_000, seed=4), tmp_path / "in.parquet")
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "surprisal", "score", models / NAME, tmp_path / "in.parquet", out]
    with subprocess.Popen([*map(str, command), "--samples", "256"], stderr=subprocess.PIPE, text=True) as running:
        writing = tmp_path / ".out.csv.writing"
        until(lambda: writing.exists() and writing.stat().st_size > 0)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in said
    assert said.startswith("surprisal: stopped after ")
    assert f"rows; nothing was written to {out}" in said
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]
