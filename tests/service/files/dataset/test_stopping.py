"""A data set whose run is stopped or killed: it ends in time, and leaves nothing that the next run does not take up."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from service.files.dataset.driver import Progress
from tests.conftest import NAME, children_of, until
from tests.service.files.dataset.conftest import Score, digests

HOUR = 3600.0
LONG = 60_000
"""Rows that take half a minute with as many draws."""


def test_sigterm_ends_within_ten_seconds_in_the_middle_of_a_long_shard(
    score: Score, models: Path, payments: pa.Table, tmp_path: Path
) -> None:
    folder, out = tmp_path / "long", tmp_path / "out"
    folder.mkdir()
    pyarrow.parquet.write_table(payments.slice(0, 50), folder / "a.parquet")
    rows = pa.concat_tables([payments] * (LONG // len(payments)))
    pyarrow.parquet.write_table(rows.combine_chunks(), folder / "b.parquet", row_group_size=LONG)
    given = ("score", models / NAME, folder, f"{out}/", "--workers", 1, "--samples", 256)
    command = [sys.executable, "-m", "surprisal", *map(str, given)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: (out / "_surprisal" / "shards").is_dir() and len(digests(out)) == 1)
        time.sleep(1.0)
        workers = children_of(running.pid)
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert running.returncode == 130
    assert said.splitlines()[-1].endswith("the same command goes on from there")
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert [path.rpartition(".0")[0] for path in digests(out)] == ["a.parquet"]

    def stop(done: Progress) -> None:
        assert (done.done, done.shards) == (1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(source=str(folder), wanted={"samples": 256}, report=stop)


def test_what_a_killed_process_was_writing_is_removed_and_nobody_elses(score: Score, tmp_path: Path) -> None:
    score()
    out = tmp_path / "out"
    stale = [out / "day=0" / ".writing-abc", out / "_surprisal" / "shards" / ".writing-def"]
    young, mine = out / "day=1" / ".writing-ghi", out / "day=1" / "notes.txt"
    for path in (*stale, young, mine):
        path.write_bytes(b"half")
        age = HOUR / 2 if path == young else 2 * HOUR
        os.utime(path, (time.time() - age,) * 2)
    score()
    assert not any(path.exists() for path in stale)
    assert young.exists(), "another run may be writing it"
    assert mine.exists()
