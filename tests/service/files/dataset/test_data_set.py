"""A data set: every row once, the same bytes however often it is interrupted, and nothing that is half written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest

from bundle.folder import store
from reading.errors import NotRead
from service.files.dataset import local, plan
from service.files.dataset.driver import Progress, ShardsFailed
from service.files.dataset.job import DONE, ERRORS, Job, OutFailed
from service.files.dataset.machine import Terms
from service.files.dataset.outcome import TRIES
from service.files.dataset.place import Place
from service.files.dataset.plan import PlanDiffers
from service.files.dataset.shard import Shard
from service.files.selection import ColumnsRefused, Selection
from surprisal import score_dataset
from tests.conftest import NAME, children_of, until
from tests.service.files.dataset.conftest import FILES, GROUP, ROWS, Score, digests
from tests.service.files.dataset.deadly import DEADLY, DeadlyPlace
from tests.service.telemetry.test_metrics_file import fill, small_disk
from tests.surprisal.cli.command import surprisal

SHARDS = FILES * 3


def test_every_row_has_the_scores_that_a_file_of_them_has(
    score: Score, models: Path, source: Path, tmp_path: Path
) -> None:
    summary = score()
    assert (summary.shards, summary.scored, summary.rows, summary.written) == (
        SHARDS,
        SHARDS,
        FILES * ROWS,
        FILES * ROWS,
    )
    assert surprisal("score", models / NAME, source, tmp_path / "whole.parquet").returncode == 0
    whole = pyarrow.parquet.read_table(tmp_path / "whole.parquet")
    found = pyarrow.dataset.dataset(tmp_path / "out", partitioning="hive").to_table()
    assert set(found.column_names) == set(whole.column_names) - {"error"}
    order = [(name, "ascending") for name in ("amount", "minutes_since_last", "hour", "average_amount_30d")]
    one, other = (table.sort_by(order) for table in (found, whole))
    np.testing.assert_allclose(one["anomaly_score"], other["anomaly_score"], atol=1e-4)
    assert one["is_anomaly"].equals(other["is_anomaly"])
    manifest = json.loads((tmp_path / "out" / "_surprisal" / "manifest.json").read_text())
    assert {each["target"]: each["sha256"] for each in manifest["shards"]} == digests(tmp_path / "out")
    assert manifest["rows"] == manifest["written"] + manifest["errors"] + manifest["left_out"]
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_results_are_in_the_order_of_the_rows(score: Score, payments: pa.Table, tmp_path: Path) -> None:
    score()
    for number in range(FILES):
        parts = sorted((tmp_path / "out" / f"day={number % 2}").glob(f"part-{number}.*"))
        found = pa.concat_tables([pyarrow.parquet.read_table(part, partitioning=None) for part in parts])
        assert found["amount"].equals(payments.slice(number * ROWS, ROWS)["amount"])
        assert "day" not in found.column_names, "the folder says it"


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_processes_changes_no_byte(score: Score, tmp_path: Path, workers: int) -> None:
    score()
    score("many", workers=workers)
    assert digests(tmp_path / "out") == digests(tmp_path / "many")


def test_a_rerun_scores_only_what_is_missing(score: Score, tmp_path: Path) -> None:
    score()
    out = tmp_path / "out"
    before = digests(out)
    lost, unrecorded, *_ = sorted(before)
    (out / lost).unlink()
    record = next(path for path in (out / DONE).iterdir() if json.loads(path.read_text())["target"] == unrecorded)
    record.write_text("{")
    written = {path: (out / path).stat().st_mtime_ns for path in before if path not in (lost, unrecorded)}
    again = score()
    assert (again.scored, again.rows) == (2, FILES * ROWS)
    assert digests(out) == before
    assert {path: (out / path).stat().st_mtime_ns for path in written} == written, "no shard is done twice"


def test_new_files_extend_the_plan(score: Score, source: Path, tmp_path: Path) -> None:
    score()
    shutil.copy(source / "day=0" / "part-0.parquet", source / "day=1" / "part-9.parquet")
    again = score()
    assert (again.scored, again.rows) == (3, (FILES + 1) * ROWS)


def test_what_differs_is_refused_with_the_difference(score: Score, source: Path, tmp_path: Path) -> None:
    score()
    before = digests(tmp_path / "out")
    for asked, told in (
        ({"selection": Selection(only_flagged=True)}, "only_flagged was False and is True now"),
        ({"wanted": {"samples": 4}}, "samples was 16 and is 4 now"),
        ({"on_error": "skip"}, "on_error was 'fail' and is 'skip' now"),
    ):
        with pytest.raises(PlanDiffers, match=told):
            score(**asked)
    changed, gone = source / "day=0" / "part-0.parquet", source / "day=1" / "part-1.parquet"
    os.utime(changed)
    kept = gone.rename(tmp_path / "kept.parquet")
    with pytest.raises(PlanDiffers, match=r"day=1/part-1\.parquet is gone, day=0/part-0\.parquet has changed"):
        score()
    shutil.move(kept, gone)
    assert digests(tmp_path / "out") == before


def test_another_bundle_is_refused(score: Score, models: Path, tmp_path: Path) -> None:
    score()
    bundle = store.load(models, NAME, 1)
    changed = bundle.manifest.model_copy(update={"false_alarm_rate": 0.02})
    number = store.write(tmp_path / "models", NAME, changed, bundle.files)
    other = tmp_path / "models" / NAME / str(number)
    with pytest.raises(Exception, match=r"digest was .* now"):
        score(bundle=other)


def test_two_runs_that_differ_stop_each_other(score: Score, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Place.publish

    def beside(place: Place, path: str, content: bytes) -> None:
        publish(place, path, content)
        if path.startswith("_surprisal/plan-"):
            said = json.loads(content)
            said["options"]["samples"] = 256
            other = plan.Plan(said["model"], said["options"], said["provider"], said["inputs"])
            publish(place, other.path, json.dumps(said).encode())

    monkeypatch.setattr(Place, "publish", beside)
    with pytest.raises(PlanDiffers, match="samples was 256 and is 16 now"):
        score()
    assert digests(tmp_path / "out") == {}


def test_an_out_within_in_is_refused(score: Score, source: Path) -> None:
    """Its results would be records of the next run."""
    for asked in (
        {"out": str(source / "scored")},
        {"out": f"{source}"},
        {"source": f"{source}/**/*.parquet", "out": str(source / "day=0")},
    ):
        with pytest.raises(NotRead, match="lies in IN"):
            score(**asked)
    assert {path.name for path in source.iterdir()} == {"day=0", "day=1"}
    assert score(source=f"{source}/day=0/*.parquet", out=str(source / "scored")).rows == FILES * ROWS // 2


def test_a_folder_with_files_of_somebody_else_is_left_alone(score: Score, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(Exception, match=r"holds files already, as notes\.txt"):
        score()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_a_damaged_file_fails_alone_and_can_be_mended(score: Score, source: Path, tmp_path: Path) -> None:
    damaged = source / "day=1" / "part-1.parquet"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:2000] + bytes(3000) + whole[5000:])
    with pytest.raises(ShardsFailed, match=r"shards have no results: .*day=1/part-1\.parquet: damaged, row group"):
        score()
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert not (tmp_path / "out" / "_surprisal" / "manifest.json").exists()
    assert len({path.rpartition(".0")[0] for path in digests(tmp_path / "out")}) >= FILES - 1
    for done in [path for path in digests(tmp_path / "out") if "part-1." in path]:
        (tmp_path / "out" / done).unlink()
    damaged.write_bytes(whole)
    assert score().rows == FILES * ROWS


def test_rows_that_do_not_fit_are_put_aside_and_the_counts_add_up(
    score: Score, source: Path, payments: pa.Table, tmp_path: Path
) -> None:
    amounts = [str(amount) for amount in payments.slice(0, ROWS)["amount"].to_pylist()]
    amounts[150], amounts[420] = "many", "none at all"
    wrong = payments.slice(0, ROWS).set_column(payments.column_names.index("amount"), "amount", pa.array(amounts))
    pyarrow.parquet.write_table(wrong, source / "day=0" / "part-0.parquet", row_group_size=GROUP)
    with pytest.raises(ShardsFailed, match=r"row 151, column 'amount'"):
        score("failed")
    summary = score(on_error="skip")
    assert (summary.rows, summary.errors, summary.written) == (FILES * ROWS, 2, FILES * ROWS - 2)
    errors = pyarrow.dataset.dataset(tmp_path / "out" / ERRORS).to_table().sort_by("row").to_pylist()
    assert [(each["file"], each["row"]) for each in errors] == [
        ("day=0/part-0.parquet", 151),
        ("day=0/part-0.parquet", 421),
    ]
    assert all("column 'amount'" in each["reason"] for each in errors)
    flagged = score("flagged", on_error="skip", selection=Selection(only_flagged=True))
    assert flagged.written == flagged.flagged == summary.flagged
    assert flagged.rows == flagged.written + flagged.left_out + flagged.errors


def test_a_file_that_changes_during_the_run_is_told(score: Score, source: Path, tmp_path: Path) -> None:
    def change(done: Progress) -> None:
        if done.done == 1:
            os.utime(source / "day=1" / "part-3.parquet")

    with pytest.raises(ShardsFailed, match=r"part-3\.parquet: has changed since the run began"):
        score(report=change)
    assert not any("part-3." in path for path in digests(tmp_path / "out"))


def test_a_shard_that_ends_its_process_each_time_fails_alone(
    score: Score, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(source / "day=0" / "part-0.parquet", source / DEADLY)
    given = local.run

    def deadly(job: Job, shards: Sequence[Shard], terms: Terms, workers: int, threads: int) -> object:
        place = DeadlyPlace(job.source.filesystem, job.source.root, job.source.shown)
        return given(replace(job, source=place), shards, terms, workers, threads)

    monkeypatch.setattr(local, "run", deadly)
    with pytest.raises(ShardsFailed, match=rf"{DEADLY}: ended {TRIES} processes .*SIGKILL") as failed:
        score(workers=2)
    assert "3 of 15 shards have no results" in str(failed.value)
    assert len(digests(tmp_path / "out")) == SHARDS


COMMAND = (sys.executable, "-m", "surprisal", "score")


def test_killed_and_run_again_it_gives_the_same_bytes(
    score: Score, models: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # a process of its own cuts shards of the usual size
    score("undisturbed")
    out = tmp_path / "out"
    command = [*COMMAND, str(models / NAME), str(source), f"{out}/", "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as killed:
        until(lambda: len(digests(out)) >= 1)
        workers = children_of(killed.pid)
        killed.kill()
    before = time.monotonic()
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() - before < 30, "workers end with the one that began them"
        time.sleep(0.05)
    kept = {path: (out / path).stat().st_mtime_ns for path in digests(out)}
    summary = score()
    assert summary.rows == FILES * ROWS
    assert digests(out) == digests(tmp_path / "undisturbed")
    recorded = {json.loads(path.read_text())["target"] for path in (out / DONE).glob("[!.]*")}
    assert {path: (out / path).stat().st_mtime_ns for path in kept.keys() & recorded}


def test_a_worker_that_is_killed_costs_nothing(score: Score, tmp_path: Path) -> None:
    score("undisturbed")
    killed: list[int] = []

    def kill(done: Progress) -> None:
        if done.done == 2 and not killed:
            killed.extend(children_of(os.getpid())[-2:])
            for worker in killed:
                os.kill(worker, signal.SIGKILL)

    assert score(report=kill, workers=2).rows == FILES * ROWS
    assert digests(tmp_path / "out") == digests(tmp_path / "undisturbed")


def test_a_full_disk_is_said_and_what_is_there_is_whole(score: Score, tmp_path: Path) -> None:
    score("undisturbed")
    with small_disk(tmp_path / "small") as folder:
        filling = fill(folder)
        filling.write_bytes(filling.read_bytes()[: -150 * 1024])
        with pytest.raises(OutFailed, match="No space left"):
            score("small/out")
        assert digests(folder / "out").items() <= digests(tmp_path / "undisturbed").items()
        filling.unlink()
        assert score("small/out").rows == FILES * ROWS
        assert digests(folder / "out") == digests(tmp_path / "undisturbed")


def test_sigterm_leaves_what_a_rerun_takes_up(
    score: Score, models: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    out = tmp_path / "out"
    command = [*COMMAND, str(models / NAME), str(source), f"{out}/", "--workers", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: len(digests(out)) >= 1)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=10)
    if running.returncode:  # or it was faster than the signal
        assert running.returncode == 130
        assert said.splitlines()[-1].endswith("the same command goes on from there")
    assert score().rows == FILES * ROWS


def test_the_command_refuses_what_a_data_set_cannot_have(models: Path, source: Path, tmp_path: Path) -> None:
    for given, told in (
        ((source, f"{tmp_path}/out/", "--top", "5"), "--top: of a data set"),
        (("-", f"{tmp_path}/out/"), "standard input is no data set"),
        ((source / "no-*.parquet", f"{tmp_path}/out/"), "there is no file that ends in"),
        ((source, "ftp://somewhere/out"), "cannot be reached"),
        ((source, f"{tmp_path}/out/", "--score", "best"), "--score: "),
    ):
        done = surprisal("score", models / NAME, *given)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr
    assert not (tmp_path / "out").exists()


def test_secrets_of_a_uri_are_in_no_message(models: Path, source: Path) -> None:
    done = surprisal("score", models / NAME, source, "nowhere://KEY:SECRET@host/out?session_token=TOKEN")
    assert done.returncode == 2
    assert "nowhere://host/out" in done.stderr
    assert not any(word in done.stderr for word in ("KEY", "SECRET", "TOKEN"))


def test_nor_in_what_is_said_of_a_run_or_kept(models: Path, source: Path, tmp_path: Path) -> None:
    out = f"file://{tmp_path}/out?session_token=TOKEN"
    done = surprisal("score", models / NAME, f"file://{source}", out, "--json", "--workers", "1")
    assert done.returncode == 0, done.stderr
    kept = "".join(path.read_text() for path in (tmp_path / "out" / "_surprisal").rglob("*.json"))
    assert "TOKEN" not in done.stdout + done.stderr + kept


def test_in_python_it_is_one_call(models: Path, source: Path, tmp_path: Path) -> None:
    said: list[str] = []
    (source / "notes.txt~").write_text("by hand")
    done = score_dataset(models / NAME, source, tmp_path / "out", only_flagged=True, workers=1, say=said.append)
    assert done.written == done.flagged > 0
    assert said == [f"{source}: passed over, by their endings: 1 .txt~"]
    with pytest.raises(ValueError, match="samples"):
        score_dataset(models / NAME, source, tmp_path / "other", samples=3)


def test_columns_are_kept_and_written_as_they_are_named(score: Score, tmp_path: Path) -> None:
    score("whole")
    for columns, told in (
        (("amount",), "columns of IN are named with --keep"),
        (("error",), "rows without a score are in _surprisal/errors"),
        (("explanation_1_value",), "add --explain"),
    ):
        with pytest.raises(ColumnsRefused, match=told):
            score(selection=Selection(columns=columns))
    with pytest.raises(ColumnsRefused, match=r"part-0\.parquet: --keep: there is no column 'nothing', but .*'day'"):
        score(selection=Selection(keep=("nothing",)))
    assert not (tmp_path / "out").exists(), "nothing is planned"
    score(selection=Selection(keep=("hour", "amount"), columns=("p_value", "is_anomaly")))
    pairs = zip(sorted(digests(tmp_path / "whole")), sorted(digests(tmp_path / "out")), strict=True)
    for whole, part in pairs:
        table = pyarrow.parquet.read_table(tmp_path / "out" / part, partitioning=None)
        assert table.column_names == ["hour", "amount", "p_value", "is_anomaly"]
        every = pyarrow.parquet.read_table(tmp_path / "whole" / whole, partitioning=None)
        assert table.equals(every.select(table.column_names))
    with pytest.raises(PlanDiffers, match=r"columns was \['p_value', 'is_anomaly'\] and is None now; keep was"):
        score()
