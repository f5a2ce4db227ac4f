"""`surprisal train --memory`: tables that are streamed, from the command to the bundle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bundle.folder import store
from bundle.record.schema import TableSchema
from tests.conftest import free_port
from tests.surprisal.cli.command import surprisal
from training import config, pipeline
from training.data import transactions
from training.data.read import read
from training.data.streamed import stream
from training.fitting import checkpoint
from training.fitting.progress import Progress

pytestmark = pytest.mark.slow

SETTINGS = "[network]\nhidden = [8]\nlatent_size = 2\n[fit]\nepochs = {epochs}\nbatch_size = 64\n"
NUMBERS = ("amount", "hour", "distance_km")


def payments(rows: int, seed: int = 5) -> pa.Table:
    return transactions.simulate(rows, seed=seed)


def files(folder: Path, rows: int = 3000) -> Path:
    """Parts of a table of numbers with a label."""
    folder.mkdir(parents=True)
    table = payments(rows).select([*NUMBERS, transactions.LABEL])
    for index in range(3):
        pyarrow.parquet.write_table(table.slice(index * rows // 3, rows // 3), folder / f"part-{index}.parquet")
    return folder


def arguments(tmp_path: Path, epochs: int = 3) -> list[str]:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "settings.toml").write_text(SETTINGS.format(epochs=epochs))
    said = ["train", files(tmp_path / "payments"), "--label", "fraud", "--normal", "no", "--out", tmp_path / "models"]
    return list(map(str, [*said, "--config", tmp_path / "settings.toml", "--memory", "10k"]))


def test_a_table_that_is_streamed_gives_a_bundle_of_all_its_rows(tmp_path: Path) -> None:
    ended = surprisal(*arguments(tmp_path), "--cache", tmp_path / "cache")
    assert ended.returncode == 0, ended.stderr
    assert "more than the 10.0 KiB that --memory allows: its rows are streamed from disk" in ended.stderr
    assert f"standardised rows are written to {tmp_path / 'cache'}" in ended.stderr
    assert list((tmp_path / "cache").iterdir()) == []
    assert [each.name for each in (tmp_path / "models" / "payments").iterdir()] == ["1"]
    manifest = store.load(tmp_path / "models", "payments", 1).manifest
    assert sum(manifest.training.rows.values()) == 3000
    assert manifest.training.data_sha256 == read(tmp_path / "payments").sha256
    assert isinstance(manifest.record, TableSchema)
    assert manifest.record.names == NUMBERS
    again = surprisal(*arguments(tmp_path / "again"))
    assert again.returncode == 0, again.stderr
    first, second = (store.load(folder / "models", "payments", 1).files for folder in (tmp_path, tmp_path / "again"))
    assert first["calibration.npz"] == second["calibration.npz"], "the same call gives the same scores"


def test_a_run_that_is_killed_is_taken_up_and_its_cache_is_removed(tmp_path: Path) -> None:
    call = arguments(tmp_path, epochs=150)
    with subprocess.Popen([sys.executable, "-m", "surprisal", *call], stderr=subprocess.PIPE, text=True) as running:
        folder = tmp_path / "models" / "payments"
        deadline = time.monotonic() + 240
        while not list(folder.glob(".checkpoint-*")):
            assert running.poll() is None, running.stderr.read() if running.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(signal.SIGKILL)
    (left,) = folder.glob(".cache-*")
    assert (left / "numeric").stat().st_size > 0
    (tmp_path / "settings.toml").write_text(SETTINGS.format(epochs=150) + "patience = 1\n")
    other = surprisal(*call, "--resume")
    assert other.returncode == 2
    assert "there is no checkpoint of this data and configuration" in other.stderr
    assert f"which was killed has left in {left}" in other.stderr
    (tmp_path / "settings.toml").write_text(SETTINGS.format(epochs=150))
    resumed = surprisal(*call, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert sorted(each.name for each in folder.iterdir()) == ["1"]


def test_several_processes_map_one_cache_and_train_as_one_does(tmp_path: Path) -> None:
    calls = arguments(tmp_path / "one"), [*arguments(tmp_path / "two"), "--processes", "2"]
    for call in calls:
        command = [sys.executable, "-m", "surprisal", *call]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.count("standardised rows are written to") == 1
    assert "by 2 processes takes about" in ended.stderr
    one, two = (store.load(tmp_path / each / "models", "payments", 1).manifest.training for each in ("one", "two"))
    assert (one.rows, one.data_sha256) == (two.rows, two.data_sha256)
    assert two.metrics["validation_elbo"] == pytest.approx(one.metrics["validation_elbo"], abs=1e-3)
    assert not list((tmp_path / "two").rglob(".cache-*"))


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", -1.0)
    path = files(tmp_path / "payments")
    content = {"network": {"hidden": (8,), "latent_size": 2}, "fit": {"epochs": 4, "batch_size": 64}}
    settings = config.build(content | {"data": {"label": "fraud", "normal": "no"}})

    def train(folder: str, stop: int, resume: bool = False) -> list[Progress]:
        seen: list[Progress] = []

        def report(progress: Progress) -> None:
            seen.append(progress)
            if progress.epoch == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pipeline.train(
                stream(path, settings), tmp_path / folder, "m", settings, device="cpu", resume=resume, report=report
            )
        assert not list((tmp_path / folder / "m").glob(".cache-*"))
        return seen

    whole = train("whole", 4)
    train("cut", 2)
    assert train("cut", 4, resume=True) == whole[2:]


def test_streamed_and_in_memory_the_elbo_is_as_high_where_a_file_is_sorted_by_category(tmp_path: Path) -> None:
    path = tmp_path / "sorted.parquet"
    table = payments(8000).sort_by("merchant_category")
    pyarrow.parquet.write_table(table, path)
    content = {"network": {"hidden": (32,)}, "fit": {"epochs": 12}, "data": {"label": "fraud", "normal": "no"}}
    settings = config.build(content)
    reached = []
    for data in (stream(path, settings), read(path)):
        seen: list[Progress] = []

        def say(line: str) -> None:
            if line.startswith("exporting"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pipeline.train(data, tmp_path, "m", settings, device="cpu", say=say, report=seen.append)
        reached.append(max(epoch.validation_elbo for epoch in seen[6:]))
        rows = np.array([epoch.log_likelihood - epoch.kl for epoch in seen])
        assert rows[-1] > rows[0] + 1.0
    # Held-out rows are others: 790 of them with a deviation of 4 nats have means that differ by 0.2, and by 0.6 seldom.
    assert reached[0] == pytest.approx(reached[1], abs=0.6)


def test_what_is_no_size_or_has_no_room_is_a_wrong_call(tmp_path: Path) -> None:
    call = arguments(tmp_path)
    wrong = surprisal(*call[:-1], "plenty")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--memory plenty: a number of bytes is expected, as 8GiB or 500MiB" in wrong.stderr
    assert surprisal(*call, "--schema-only").stdout.startswith("# Surprisal training configuration.")


def as_rank(rank: int, port: int, left: Path, *call: str) -> subprocess.Popen[str]:
    """A process of two, with the variables that torchrun gives it."""
    left.mkdir(parents=True)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    others = {"TORCHELASTIC_ERROR_FILE": left / "error.json"}
    variables = os.environ | {name: str(value) for name, value in (address | place | others).items()}
    command = [sys.executable, "-m", "surprisal", *call]
    return subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)


def test_processes_that_choose_otherwise_are_refused_at_once(tmp_path: Path) -> None:
    call, port = arguments(tmp_path), free_port()
    calls = call, [*call[:-1], "8GiB"]
    both = [as_rank(rank, port, tmp_path / "left" / str(rank), *each) for rank, each in enumerate(calls)]
    try:
        ended = [process.communicate(timeout=60)[1] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [2, 2], ended
    for rank in range(2):
        assert "the processes do not train the same" in (tmp_path / "left" / str(rank) / "error.json").read_text()


def test_a_run_that_is_ended_by_sigterm_leaves_no_cache(tmp_path: Path) -> None:
    call = arguments(tmp_path, epochs=1000)
    with subprocess.Popen([sys.executable, "-m", "surprisal", *call], stderr=subprocess.PIPE, text=True) as running:
        folder, deadline = tmp_path / "models" / "payments", time.monotonic() + 60
        while not list(folder.glob(".checkpoint-*")):
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.terminate()
        _, said = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert "the checkpoint is kept: the same command with --resume goes on from there" in said
    assert not list(folder.glob(".cache-*"))


def test_the_schema_of_a_table_that_is_streamed_says_how_many_rows_have_no_label(tmp_path: Path) -> None:
    call = arguments(tmp_path)
    table = payments(3000)
    labels = [None if row % 3 == 0 else "no" for row in range(3000)]
    table = table.select(NUMBERS).append_column(transactions.LABEL, pa.array(labels, pa.string()))
    pyarrow.parquet.write_table(table, tmp_path / "some.parquet")
    call[1] = str(tmp_path / "some.parquet")
    said = surprisal(*call, "--schema-only").stderr
    assert "1,000 rows have no 'fraud': they are neither learnt from nor evaluated" in said


def test_options_of_the_cache_are_said_to_have_no_use_where_nothing_is_streamed(tmp_path: Path) -> None:
    call = arguments(tmp_path)
    ended = surprisal(*call[:-1], "8GiB", "--cache", tmp_path, "--keep-cache", "--label", "nothing")
    assert (ended.returncode, list(tmp_path.glob(".cache-*"))) == (2, [])
    assert "--cache and --keep-cache have no use here: the table is read whole" in ended.stderr
