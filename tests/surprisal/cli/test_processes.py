"""`surprisal train` by several processes: the same model, one voice, and what is said where a process dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from bundle.folder import store
from surprisal.cli import processes
from surprisal.cli.failure import Failed
from tests.conftest import children_of, simulate_numbers
from tests.surprisal.cli.command import surprisal

ELBO = 1e-3
"""Nats by which several processes may be off one after 900 steps in float32; two seeds differ by a hundred times."""
SETTINGS = "[network]\nhidden = [32]\n[fit]\nepochs = 60\npatience = 60\n"


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A training of a few seconds, but for its models folder."""
    folder = tmp_path_factory.mktemp("several")
    pyarrow.parquet.write_table(simulate_numbers(seed=1), folder / "numbers.parquet")
    (folder / "numbers.toml").write_text(SETTINGS)
    labels = ["--label", "fraud", "--normal", "no"]
    return ["train", str(folder / "numbers.parquet"), *labels, "--config", str(folder / "numbers.toml"), "--out"]


@pytest.fixture(scope="module")
def expected(call: list[str], tmp_path_factory: pytest.TempPathFactory) -> float:
    """The validation ELBO of one process that nothing interrupts."""
    out = tmp_path_factory.mktemp("one")
    assert surprisal(*call, out).returncode == 0
    return elbo(out)


def elbo(out: Path) -> float:
    return store.load(out, "numbers", 1).manifest.training.metrics["validation_elbo"]


def begin(*command: object) -> subprocess.Popen[str]:
    """A process of its own."""
    arguments = [sys.executable, "-m", *map(str, command)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_under_torchrun_two_processes_write_the_bundle_of_one(call: list[str], expected: float, tmp_path: Path) -> None:
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "surprisal"]
    with begin(*torchrun, *call, tmp_path) as process:
        printed, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    assert printed == f"{tmp_path / 'numbers' / '1'}\n"
    assert said.count("rows to train on") == 1
    assert said.count(" a step") == 1
    assert elbo(tmp_path) == pytest.approx(expected, abs=ELBO)


@pytest.mark.slow
def test_a_killed_process_ends_all_and_another_number_goes_on(call: list[str], expected: float, tmp_path: Path) -> None:
    with begin("surprisal", *call, tmp_path, "--processes", 2) as process:
        while not list(tmp_path.glob("numbers/.checkpoint-*.pt")):
            assert process.poll() is None
            time.sleep(0.02)
        first, second = children_of(process.pid)
        os.kill(second, signal.SIGKILL)
        killed = time.monotonic()
        printed, said = process.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert (process.returncode, printed) == (1, "")
    assert f"\nsurprisal: process 2 of 2 (rank 1, pid {second}) was ended by SIGKILL" in said
    assert said.splitlines()[-1].endswith(
        "the same command with --resume goes on from there, by any number of processes"
    )
    assert "Traceback" not in said
    assert not Path("/proc", str(first)).exists()
    resumed = surprisal(*call, tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert elbo(tmp_path) == pytest.approx(expected, abs=ELBO)


@pytest.mark.slow
def test_what_is_wrong_with_the_data_is_said_once(call: list[str], tmp_path: Path) -> None:
    with begin("surprisal", *call, tmp_path, "--label", "nothing", "--processes", 2) as process:
        printed, said = process.communicate(timeout=100)
    assert (process.returncode, printed) == (2, ""), said
    assert said.startswith("surprisal: there is no column 'nothing' to be the label")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{data}", "--processes", "100000"), "take as many processes at most"),
        (("{data}", "--processes", "2", "--schema-only"), "--schema-only: one process prints it"),
        (("-", "--processes", "2"), "-: several processes cannot all read standard input"),
        (("{data}", "--processes", "0"), "--processes"),
    ],
)
def test_a_call_that_several_cannot_make_is_refused(call: list[str], arguments: tuple[str, ...], said: str) -> None:
    ended = surprisal("train", *(each.format(data=call[1]) for each in arguments))
    assert ended.returncode == 2
    assert said in ended.stderr


def test_under_torchrun_another_number_is_refused(call: list[str]) -> None:
    begun = {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    ended = surprisal("train", call[1], "--processes", "2", **begun)
    assert (ended.returncode, ended.stderr) == (
        2,
        "surprisal: --processes 2: torchrun has begun 3; leave --processes out\n",
    )


def as_rank(rank: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this process be one of two; where it leaves why it ends."""
    path = folder / str(rank) / "error.json"
    path.parent.mkdir()
    begun = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in (begun | {"TORCHELASTIC_ERROR_FILE": str(path)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["surprisal", "train"])
    monkeypatch.setattr(processes, "_SECONDS", 0.1)
    monkeypatch.setattr(processes, "_exit", sys.exit)
    return path


@pytest.mark.parametrize("rank", [0, 1])
def test_a_fault_is_left_with_its_place_and_the_first_process_alone_says_it(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = as_rank(rank, tmp_path, monkeypatch)
    with pytest.raises(SystemExit) as ended, processes.one_voice():
        raise ValueError("seven")
    assert ended.value.code == 1
    message = json.loads(left.read_text())["message"]
    assert message.startswith("ValueError: seven (test_processes.py, line ")
    assert capsys.readouterr().err == (f"surprisal: {message}\n" if rank == 0 else "")


def failure(rank: int, status: int) -> ProcessFailure:
    return ProcessFailure(local_rank=rank, pid=100 + rank, exitcode=status, error_file="none")


@pytest.mark.parametrize(
    ("statuses", "left", "said", "status"),
    [
        ({0: processes.LOST, 2: -9}, "", "process 3 of 3 (rank 2, pid 102) was ended by SIGKILL, as the system", 1),
        ({0: processes.LOST, 1: 2}, "no such column", "process 2 of 3 (rank 1, pid 101): no such column", 2),
        ({0: -15, 1: 2}, "no such column", "process 2 of 3 (rank 1, pid 101): no such column", 2),
        ({0: processes.LOST, 1: -15}, "", "process 2 of 3 (rank 1, pid 101) was ended by SIGTERM, and the others", 1),
        ({1: 77}, "", "process 2 of 3 (rank 1, pid 101) ended with status 77: the last line; no epoch was over", 1),
    ],
)
def test_the_process_that_ended_the_others_is_named(
    statuses: dict[int, int], left: str, said: str, status: int, tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "attempt_0" / "1"
    folder.mkdir(parents=True)
    (folder / "stderr.log").write_text("a line\nthe last line\n")
    if left:
        (folder / "error.json").write_text(json.dumps({"message": left}))
    with pytest.raises(Failed) as ended:
        processes._end({rank: failure(rank, code) for rank, code in statuses.items()}, 3, tmp_path, tmp_path / "m")
    assert ended.value.message.startswith(said)
    assert ended.value.code == status


def test_what_the_first_process_has_said_is_not_said_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run" / "attempt_0" / "0"
    folder.mkdir(parents=True)
    (folder / "error.json").write_text(json.dumps({"message": "no such column"}))
    with pytest.raises(SystemExit) as ended:
        processes._end({1: failure(1, 2)}, 2, tmp_path, tmp_path / "m")
    assert (ended.value.code, capsys.readouterr().err) == (2, "")
