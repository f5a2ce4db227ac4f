"""A data set that others change while it is scored, and files of it that cannot be scored: nothing is lost unsaid."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from service.files.dataset import local
from service.files.dataset.driver import Overtaken, Progress, ShardsFailed
from service.files.dataset.job import Job, Worker
from service.files.dataset.local import WorkersFailed
from service.files.dataset.machine import Terms
from service.files.dataset.outcome import TRIES
from service.files.dataset.place import Entry, Place
from service.files.selection import ColumnsRefused, Selection
from surprisal import score_dataset
from tests.conftest import NAME, until
from tests.service.files.dataset.conftest import FILES, ROWS, Score, digests
from tests.surprisal.cli.command import surprisal


@pytest.mark.parametrize(
    ("folder", "selection"),
    [
        ("p_value=3", Selection(keep=())),
        ("row=7", Selection(keep=("amount",), only_flagged=True)),
        ("row=7", Selection(only_flagged=True)),
    ],
)
def test_a_folder_called_like_a_column_of_scores_is_refused(
    score: Score, source: Path, tmp_path: Path, folder: str, selection: Selection
) -> None:
    (source / folder).mkdir()
    shutil.copy(source / "day=0" / "part-0.parquet", source / folder)
    with pytest.raises(ColumnsRefused, match=f"a folder is called {folder.partition('=')[0]}=…"):
        score(selection=selection)
    assert not (tmp_path / "out").exists()
    if folder.startswith("p"):
        score(selection=replace(selection, columns=("anomaly_score",)))


def test_no_score_is_dropped_with_the_columns_of_folders(
    models: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cuts shards by himself, as a cluster does, is not held by what a run refuses before."""
    from reading.options import Options
    from service.files.dataset import shard

    (source / "p_value=3").mkdir()
    shutil.copy(source / "day=0" / "part-0.parquet", source / "p_value=3")
    place = Place.of(str(source))
    job = Job(models / NAME / "1", place, Place.of(f"{tmp_path}/out"), {}, Selection(keep=()), Options(), False, False)
    worker = Worker(job)
    entry = place.entry("p_value=3/part-0.parquet")
    assert entry is not None
    first = next(shard.cut(place, entry, "plan", vars(worker)["_scoring"].schema, job.options))
    table = pyarrow.parquet.read_table(tmp_path / "out" / worker.do(first).target, partitioning=None)
    assert "p_value" in table.column_names


def test_a_run_that_a_later_one_overtakes_declares_nothing(score: Score, source: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "out" / "_surprisal" / "manifest.json"
    kept: list[bytes] = []

    def overtake(done: Progress) -> None:
        if done.done == 1 and not kept:
            shutil.copy(source / "day=0" / "part-0.parquet", source / "day=1" / "part-9.parquet")
            kept.append(b"")
            assert score().rows == (FILES + 1) * ROWS
            kept.append(manifest.read_bytes())

    with pytest.raises(Overtaken, match=r"a later run scores more files into it, as day=1/part-9\.parquet"):
        score(report=overtake)
    assert manifest.read_bytes() == kept[-1]
    assert score().rows == (FILES + 1) * ROWS


def test_two_reruns_at_once_both_remove_what_declares_completion(
    score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score()
    entry = Place.entry

    def beside(place: Place, path: str = "") -> Entry | None:
        found = entry(place, path)
        if path == "_SUCCESS":
            (tmp_path / "out" / path).unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Place, "entry", beside)
    assert score().rows == FILES * ROWS


def test_a_file_without_a_footer_fails_alone(score: Score, source: Path, tmp_path: Path) -> None:
    damaged = source / "day=0" / "part-0.parquet"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    with pytest.raises(ShardsFailed, match=r"1 of 10 shards have no results: .*part-0\.parquet: damaged, its footer"):
        score()
    assert len(digests(tmp_path / "out")) == (FILES - 1) * 3


def test_what_a_run_killed_at_its_first_write_left_is_no_files_of_somebody_else(score: Score, tmp_path: Path) -> None:
    left = tmp_path / "out" / "_surprisal" / ".writing-abc"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert score().rows == FILES * ROWS


def test_no_row_stays_in_a_temporary_folder(
    score: Score, payments: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    long = tmp_path / "long"
    long.mkdir()
    pyarrow.parquet.write_table(payments.slice(0, 50), long / "a.parquet")
    rows = pa.concat_tables([payments] * 10).combine_chunks()
    pyarrow.parquet.write_table(rows, long / "b.parquet", row_group_size=len(rows))

    def stop(done: Progress) -> None:
        if done.done:
            until(lambda: any(temporary.rglob("surprisal-shard-*")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(source=str(long), wanted={"samples": 256}, report=stop, workers=2)
    assert [*temporary.rglob("*")] == []


def test_a_bundle_that_was_replaced_since_the_plan_is_refused(
    score: Score, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = local.run

    def replaced(job: Job, shards: object, terms: Terms, *how: int) -> Iterator[object]:
        return given(job, shards, replace(terms, digest="another"), *how)  # type: ignore[arg-type]

    monkeypatch.setattr(local, "run", replaced)
    with pytest.raises(WorkersFailed, match="its digest was another when the run was planned"):
        score()
    assert digests(tmp_path / "out") == {}


def test_a_script_without_a_guard_is_told_so(models: Path, source: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    given = f"{str(models / NAME)!r}, {str(source)!r}, {str(tmp_path / 'out')!r}, workers=1"
    script.write_text(f"import surprisal\nsurprisal.score_dataset({given})\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert f"{TRIES} processes have ended as they began" in said
    assert '`if __name__ == "__main__":`' in said
    assert "part-0" not in said


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"workers": -1}, "workers -1"),
        ({"workers": 0}, "workers 0"),
        ({"engine": "dask"}, "engine 'dask'"),
        ({"on_error": "ignore"}, "on_error 'ignore'"),
    ],
)
def test_values_that_an_argument_has_not_are_refused(
    models: Path, source: Path, tmp_path: Path, given: dict[str, object], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        score_dataset(models / NAME, source, tmp_path / "out", **given)  # type: ignore[arg-type]


def test_an_out_that_is_no_folder_is_refused(
    models: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for out, told in (
        ("-", "not to standard output"),
        ("scored.csv", "name it scored.csv/"),
        (f"file://{tmp_path}/scored.parquet", f"name it file://{tmp_path}/scored.parquet/"),
    ):
        done = surprisal("score", models / NAME, f"file://{source}", out)
        assert done.returncode == 2
        assert told in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
