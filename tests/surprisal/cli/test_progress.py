"""What long commands tell while they run: lines in a log, a bar on a terminal, JSON to programs, nothing if quiet."""

import io
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from bundle.folder import store
from surprisal.cli import progress
from tests.conftest import NAME, simulate_numbers
from tests.surprisal.cli.command import Ended, surprisal
from training.data import transactions
from training.fitting.fit import Fit

ROWS = 20_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of several blocks."""
    path = tmp_path_factory.mktemp("progress") / "payments.parquet"
    table = transactions.simulate(ROWS, seed=3).drop_columns(["hour"])
    pyarrow.parquet.write_table(table, path)
    return path


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line, however soon it comes."""
    monkeypatch.setattr(progress, "SECONDS", 0.0)


def score(models: Path, source: Path, folder: Path, *options: str) -> Ended:
    done = surprisal("score", models / NAME, source, folder / "out.parquet", "--samples", 1, *options)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.usefixtures("at_once")
def test_a_log_gets_lines(models: Path, source: Path, tmp_path: Path) -> None:
    done = score(models, source, tmp_path)
    said, *lines, wrote = done.stderr.splitlines()
    assert said == f"{source} has no column hour; missing in every row"
    assert [line.partition(" rows, ")[0] for line in lines] == ["8,192", "16,384", "20,000"]
    assert all(re.fullmatch(r"[\d,]+ rows, \d+%, [\d,]+ rows/s", line) for line in lines)
    assert lines[-1].startswith("20,000 rows, 100%, ")
    assert wrote.startswith("20,000 rows scored, ")
    assert wrote.endswith(f"wrote {tmp_path / 'out.parquet'}")
    assert done.stdout == ""


def test_a_log_of_a_short_run_gets_none(models: Path, source: Path, tmp_path: Path) -> None:
    assert len(score(models, source, tmp_path).stderr.splitlines()) == 2


@pytest.mark.usefixtures("at_once")
def test_a_program_gets_lines_of_json(models: Path, source: Path, tmp_path: Path) -> None:
    done = score(models, source, tmp_path, "--json", "--quiet", "--only-flagged", "--false-alarm-rate", "0.02")
    assert done.stderr == ""
    *steps, summary = map(json.loads, done.stdout.splitlines())
    assert [step["rows"] for step in steps] == [8192, 16384, 20000]
    assert {step["event"] for step in steps} == {"progress"}
    assert steps[-1]["share_read"] == pytest.approx(1.0)
    assert steps[0].keys() == {"event", "rows", "flagged", "share_read", "rows_per_second", "seconds"}
    written = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert summary.pop("seconds") > 0
    assert summary == {
        "event": "summary",
        "model": {"name": NAME, "version": "1"},
        "rows": ROWS,
        "flagged": written.num_rows,
        "share_flagged": written.num_rows / ROWS,
        "rows_written": written.num_rows,
        "samples": 1,
        "score": "combined",
        "false_alarm_rate": 0.02,
        "rows_without_score": 0,
        "lines_passed_over": 0,
        "unknown": {},
        "absent_fields": ["hour"],
        "empty_fields": [],
        "files": {"in": str(source), "out": str(tmp_path / "out.parquet")},
    }
    assert 0 < written.num_rows < ROWS


def test_quiet_is_quiet_and_errors_are_said(models: Path, source: Path, tmp_path: Path) -> None:
    done = score(models, source, tmp_path, "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    wrong = surprisal("score", models / NAME, source, tmp_path / "out.csv", "--quiet", "--keep", "nothing")
    assert wrong.returncode == 2
    assert "'nothing'" in wrong.stderr


def test_no_silence_is_long(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.2)
    with progress.Progress() as told:
        time.sleep(0.3)
        told.say("exporting")
        told.show("epoch 1 of 2", "KL 3", 1, 2)
        time.sleep(0.5)
    time.sleep(0.3)
    first, exporting, held, *still = capsys.readouterr().err.splitlines()
    assert (first, exporting) == ("still at work, 0 s since the beginning", "exporting")
    assert held == "epoch 1 of 2, KL 3", "what was held back comes first"
    assert set(still) == {"still at work after epoch 1 of 2, 1 s since the beginning"} or not still
    with progress.Progress() as told:
        told.show("epoch 2 of 2", "KL 3", 2, 2)
        told.catch_up()
        told.say("calibrating")
        time.sleep(0.5)
    *_, calibrating, still_then = capsys.readouterr().err.splitlines()[:3]
    assert (calibrating, still_then) == ("calibrating", "still at work, 0 s since the beginning")
    with progress.Progress().without_bar():
        time.sleep(0.3)
    assert capsys.readouterr().err.startswith("still at work, 0 s since the beginning\n")
    with progress.Progress(quiet=True):
        time.sleep(0.3)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("at_once")
def test_a_training_tells_a_program_how_far_it_is_and_what_came_of_it(numbers: tuple[object, ...]) -> None:
    done = surprisal(*numbers, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    *steps, summary = map(json.loads, done.stdout.splitlines())
    assert [step["epoch"] for step in steps] == list(range(1, 10))
    assert {step["event"] for step in steps} == {"progress"}
    folder = Path(summary["folder"])
    manifest = store.load(folder.parents[1], "numbers", 1).manifest
    assert (summary["event"], summary["model"]) == ("summary", {"name": "numbers", "version": "1"})
    assert (summary["digest"], summary["metrics"]) == (manifest.digest, manifest.training.metrics)
    assert summary["rows"] == manifest.training.rows
    assert Path(summary["report"]).is_file()
    assert all(re.fullmatch("[a-z_]+", key) for key in (*summary, *steps[0]))


def test_a_schema_is_no_json(numbers: tuple[object, ...]) -> None:
    done = surprisal(*numbers, "--json", "--schema-only")
    assert (done.returncode, done.stdout) == (2, "")


class Terminal(io.StringIO):
    """What a terminal is to those who write to it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("term", "drawn"), [("xterm", True), ("dumb", False)])
def test_a_terminal_gets_a_bar_if_it_can_show_one(monkeypatch: pytest.MonkeyPatch, term: str, drawn: bool) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.Progress().without_bar():
        pass
    assert terminal.getvalue() == ""
    with progress.Progress() as told:
        told.show("7 rows", "50%", 0.5, 1.0)
        told.say("a sentence")
    said = terminal.getvalue()
    assert ("━" in said, "\x1b[" in said) == (drawn, drawn)
    assert "7 rows" in said
    assert "a sentence" in said


def test_no_bar_is_drawn_beside_lines_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.Progress(drawn=False) as told:
        told.show("7 rows", "50%", 0.5, 1.0)
    assert terminal.getvalue() == ""


def interrupted(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """Let Ctrl-C be pressed in an epoch."""
    real = Fit._one_epoch

    def one(fit: Fit, warmth: float) -> Any:
        if fit.epoch == epoch:
            signal.raise_signal(signal.SIGINT)
        return real(fit, warmth)

    monkeypatch.setattr(Fit, "_one_epoch", one)


@pytest.fixture
def numbers(tmp_path: Path) -> tuple[object, ...]:
    """A call that trains on little."""
    table: pa.Table = simulate_numbers(seed=1)
    pyarrow.parquet.write_table(table, tmp_path / "numbers.parquet")
    (tmp_path / "config.toml").write_text("[network]\nhidden = [32]\n[fit]\nepochs = 9\n")
    label = ("--label", transactions.LABEL, "--normal", transactions.NORMAL)
    return ("train", tmp_path / "numbers.parquet", "--out", tmp_path, "--config", tmp_path / "config.toml", *label)


@pytest.mark.usefixtures("at_once")
def test_a_training_that_is_stopped_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[object, ...]
) -> None:
    with monkeypatch.context() as patch:
        interrupted(patch, epoch=3)
        done = surprisal(*numbers)
    assert done.returncode == 130, done.stderr
    *_, before, last, stopped = done.stderr.splitlines()
    assert before.startswith("epoch 1 of 9, reconstruction ")
    ends = "(, the best so far|, the KL's weight still rises)?"
    assert re.fullmatch(rf"epoch 2 of 9, reconstruction .*, KL .*, validation ELBO -?\d+\.\d+ nats{ends}", last)
    assert stopped.startswith("surprisal: stopped after epoch 2 of 9; the checkpoint is kept: ")
    with monkeypatch.context() as patch:
        interrupted(patch, epoch=4)
        again = surprisal(*numbers, "--resume")
    assert again.returncode == 130
    epochs = [line.partition(",")[0] for line in again.stderr.splitlines() if line.startswith("epoch")]
    # The checkpoint of the second epoch came too soon after that of the first.
    assert epochs in (["epoch 3 of 9"], ["epoch 2 of 9", "epoch 3 of 9"])


def test_a_training_that_is_stopped_at_once_has_kept_nothing(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[object, ...]
) -> None:
    with monkeypatch.context() as patch:
        interrupted(patch, epoch=1)
        done = surprisal(*numbers, "--quiet")
    assert done.returncode == 130
    (stopped,) = done.stderr.splitlines()
    assert stopped.startswith("surprisal: stopped before the first epoch was over; nothing is kept")
