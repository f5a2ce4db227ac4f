"""Large files of text: cut into sections they have the scores of the file, to the last bit."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reading.formats.ndjson import NdjsonFile
from reading.options import Options
from service.files.dataset import shard, text
from service.files.dataset.driver import ShardsFailed
from service.files.dataset.job import ERRORS, Done, Job, Worker
from service.files.dataset.place import Place
from service.files.dataset.shard import Shard
from service.files.scoring import Scoring
from service.files.selection import Selection
from tests.conftest import NAME
from tests.service.files.dataset.conftest import Score

ROWS = 700
Scored = tuple[pa.Table, list[Any], list[Done]]


@pytest.fixture(scope="module")
def table(payments: pa.Table) -> pa.Table:
    """Payments with a note that holds line breaks, quotes and letters beyond ASCII."""
    notes = [None if row % 3 < 2 else f'says "{row}",\nthen ü' for row in range(ROWS)]
    return payments.slice(0, ROWS).append_column("note", pa.array(notes))


@pytest.fixture(scope="module")
def folder(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows in several forms, in some of which a few do not fit."""
    path = tmp_path_factory.mktemp("texts")
    pyarrow.csv.write_csv(table, path / "plain.csv")
    lines = (path / "plain.csv").read_bytes().split(b"\n")
    second = b"much" + lines[2][lines[2].index(b",") :]
    wrong = [*lines[:2], b"1,2", b"", b"", second, *lines[3:]]
    (path / "wrong.csv").write_bytes(b"\r\n".join(wrong))
    german = ["Bericht", "", ";".join(table.column_names)]
    for row in table.to_pylist():
        cells = [row[name] for name in table.column_names]
        german.append(";".join(_german(cell) for cell in cells))
    (path / "german.csv").write_bytes("\n".join(german).encode("windows-1252"))
    objects = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    # Of one type in the whole file, and of another in most sections.
    objects[ROWS - 5]["transactions_24h"] = 1.0
    (path / "plain.ndjson").write_text(
        "\n".join([*map(json.dumps, objects[:40]), "", "no", *map(json.dumps, objects[40:])])
    )
    return path


def _german(cell: object) -> str:
    if isinstance(cell, float):
        return str(cell).replace(".", ",")
    text = "" if cell is None else str(cell)
    return '"' + text.replace('"', '""') + '"' if set(text) & set('";\n') else text


@pytest.fixture(scope="module")
def workers(models: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Worker]:
    """What scores sections of these files, by what is asked."""
    asked: dict[str, tuple[dict[str, object], Selection]] = {
        "all": ({}, Selection()),
        "explained": ({"explain": True}, Selection(only_flagged=True, latent=True)),
    }
    found = {}
    for name, (wanted, selection) in asked.items():
        out = Place.of(str(tmp_path_factory.mktemp(name)))
        job = Job(models / NAME / "1", Place.of(str(folder)), out, wanted, selection, Options(), True, False)
        found[name] = Worker(job)
    return found


def cut(worker: Worker, file: str, size: int) -> list[Shard]:
    job: Job = vars(worker)["_job"]
    scoring: Scoring = vars(worker)["_scoring"]
    entry = job.source.entry(file)
    assert entry is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "BYTES", size)
        return list(shard.cut(job.source, entry, "plan", scoring.schema, job.options))


def scored(worker: Worker, shards: Sequence[Shard]) -> Scored:
    """Rows, errors and counts of some shards, in order."""
    out = Path(vars(worker)["_job"].out.root)
    done = [worker.do(each) for each in shards]
    tables = [pyarrow.parquet.read_table(out / each.target, partitioning=None) for each in done]
    assert len({each.schema for each in tables}) == 1
    errors: list[Any] = []
    for each in done:
        path = out / ERRORS / f"{each.key}.parquet"
        errors += sorted(pyarrow.parquet.read_table(path).to_pylist(), key=str) if path.exists() else []
    return pa.concat_tables(tables).combine_chunks(), errors, done


WHOLE: dict[tuple[str, str], Scored] = {}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1_500, 16_000),
    file=st.sampled_from(["plain.csv", "wrong.csv", "german.csv", "plain.ndjson"]),
    asked=st.sampled_from(["all", "explained"]),
)
def test_sections_have_the_scores_of_the_file(workers: dict[str, Worker], size: int, file: str, asked: str) -> None:
    worker = workers[asked]
    if (file, asked) not in WHOLE:
        (whole,) = cut(worker, file, 2**30)
        WHOLE[file, asked] = scored(worker, [whole])
    expected, errors, (of_all,) = WHOLE[file, asked]
    shards = cut(worker, file, size)
    assert len(shards) > 1
    assert [each.target for each in shards] == sorted({each.target for each in shards})
    found, told, done = scored(worker, shards)
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert bits(found) == bits(expected)
    assert sorted(told, key=str) == sorted(errors, key=str)
    for name in ("rows", "written", "left_out", "flagged", "errors"):
        assert sum(getattr(each, name) for each in done) == getattr(of_all, name)
    assert {each.said[:1] for each in done} == {of_all.said[:1]}


def bits(table: pa.Table) -> list[Any]:
    """Cells, of which floats by their bits: no number equals itself then, too."""

    def of_one(cell: Any) -> Any:
        if isinstance(cell, list):
            return [of_one(each) for each in cell]
        return np.float64(cell).tobytes() if isinstance(cell, float) else cell

    return [[of_one(cell) for cell in column.to_pylist()] for column in table.columns]


def test_the_rows_that_do_not_fit_have_their_numbers(workers: dict[str, Worker]) -> None:
    shards = cut(workers["all"], "wrong.csv", 3_000)
    _, errors, done = scored(workers["all"], shards)
    assert len(shards) > 10
    reasons = {each["row"]: each["reason"] for each in errors}
    assert "column 'amount'" in reasons[3]
    assert reasons[None].startswith("row 2 has 2 cells")
    assert sum(each.rows for each in done) == ROWS + 1


def test_a_data_set_of_text_is_scored_by_sections(
    score: Score, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score("whole", source=str(folder / "german.csv"))
    monkeypatch.setattr(shard, "BYTES", 10_000)
    summary = score(source=str(folder / "german.csv"), workers=2)
    assert summary.shards > 3
    assert (summary.rows, summary.flagged, summary.unknown) == (whole.rows, whole.flagged, whole.unknown)
    assert summary.rows == ROWS
    ((said, count),) = [each for each in summary.said.items() if "semicolon" in each[0]]
    assert (count, "windows-1252" in said, "2 lines before" in said) == (summary.shards, True, True)
    with pytest.raises(ShardsFailed, match=r"row 2 has 2 cells"):
        score("failed", source=str(folder / "wrong.csv"))


def test_numbers_and_dates_that_tell_late_are_found_for_all_sections(
    workers: dict[str, Worker], folder: Path, table: pa.Table
) -> None:
    """The first half of the file holds no mark by which a decimal comma could be told."""
    half = table.slice(0, 200).drop_columns(["note"])
    for name in ("amount", "average_amount_30d", "distance_km", "minutes_since_last"):
        whole = [None if cell is None else float(int(cell)) for cell in half[name].to_pylist()]
        half = half.set_column(half.column_names.index(name), name, pa.array(whole))
    rows = [[_german(row[name]).removesuffix(",0") for name in half.column_names] for row in half.to_pylist()]
    later = [[_german(row[name]) for name in half.column_names] for row in table.slice(200, 200).to_pylist()]
    path = folder / "late.csv"
    path.write_text("\n".join(",".join(f'"{cell}"' for cell in row) for row in [half.column_names, *rows, *later]))
    shards = cut(workers["all"], "late.csv", 3_000)
    assert len(shards) > 6
    forms = {each.text.forms.numbers["amount"].decimal for each in shards if each.text is not None}
    assert forms == {","}
    found, errors, _ = scored(workers["all"], shards)
    assert not errors
    assert found["amount"].to_pylist()[200:] == table["amount"].to_pylist()[200:400]


def test_a_file_is_looked_at_at_most_at_some_places(
    workers: dict[str, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    given = NdjsonFile.blocks

    def counted(file: NdjsonFile) -> Iterator[Any]:
        opened.append(1)
        return given(file)

    monkeypatch.setattr(NdjsonFile, "blocks", counted)
    assert len(cut(workers["all"], "plain.ndjson", 1_000)) > 100
    assert len(opened) <= 2 * text._LOOKED_AT


def test_packed_and_small_files_are_whole(workers: dict[str, Worker], folder: Path) -> None:
    (folder / "packed.csv").write_bytes(gzip.compress((folder / "plain.csv").read_bytes()))
    (folder / "packed.csv.gz").write_bytes(gzip.compress((folder / "plain.csv").read_bytes()))
    for file, size in (("packed.csv", 100), ("packed.csv.gz", 100), ("plain.csv", 2**26)):
        (whole,) = cut(workers["all"], file, size)
        assert whole.text is None
    assert len(cut(workers["all"], "plain.csv", 20_000)) == 3
