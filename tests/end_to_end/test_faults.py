"""What happens in production: full disks, killed writers, two trainings at once, clocks that jump, ends under load."""

import concurrent.futures
import contextlib
import functools
import itertools
import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pyarrow.csv
import pytest

from bundle.folder import store
from service.settings import Settings
from tests.conftest import NAME, in_process, running, simulate_numbers, until

pytestmark = pytest.mark.slow

TRAIN = [sys.executable, "-m", "surprisal", "train"]
OPTIONS = ["--label", "fraud", "--normal", "no", "--name", "pay"]
CONFIG = "[network]\nhidden = [32]\n[fit]\nepochs = 3\n"
WRITER = """
import sys
from pathlib import Path
from bundle.folder import store
root, name = Path(sys.argv[1]), sys.argv[2]
good = store.load(root, name, 1)
while True:
    store.write(root, name, good.manifest, good.files)
"""


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """Payments, and beside them `fast.toml`."""
    pyarrow.csv.write_csv(simulate_numbers(seed=3), tmp_path / "payments.csv")
    (tmp_path / "fast.toml").write_text(CONFIG)
    return tmp_path / "payments.csv"


def on_small_disk(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in whose eyes a folder is a disk of 8 KiB."""
    mount = f"mount -t tmpfs -o size=8k none {folder}"
    inside = ["unshare", "--map-root-user", "--mount", "sh", "-c", f"{mount} && {command}"]
    return subprocess.run(inside, capture_output=True, text=True, timeout=300, check=False)


def test_a_full_disk_ends_training_and_loses_nothing(csv: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if on_small_disk(disk, "true").returncode:
        pytest.skip("this system gives no mounts of their own to processes")
    train = " ".join([*TRAIN, str(csv), "--config", str(csv.parent / "fast.toml"), "--out", str(disk), *OPTIONS])
    train += f"; echo exit $?; find {disk} -type f -printf '%P\\n'"
    larger = f"mount -o remount,size=%s {disk}"
    result = on_small_disk(disk, "; ".join([train, larger % "60k", train, larger % "10m", train]))
    for_checkpoint, for_bundle, enough = (part.splitlines() for part in result.stdout.split("exit ")[1:])
    first, second = (line for line in result.stderr.splitlines() if line.startswith("surprisal: "))
    assert first == second == f"surprisal: {disk}/pay: the disk is full"
    assert for_checkpoint == ["1"]
    code, checkpoint, printed = for_bundle
    assert printed == f"{disk}/pay/1", "by the run that had enough"
    assert code == "1"
    assert checkpoint.startswith("pay/.checkpoint-"), "what was learnt is there to be resumed from"
    assert enough[0] == "0"
    assert "pay/1/manifest.json" in enough
    assert "Traceback" not in result.stderr


def test_two_trainings_of_one_name_at_once_both_become_versions(csv: Path, tmp_path: Path) -> None:
    """Of the same data and configuration, so that they would even have the same checkpoint."""
    command = [*TRAIN, str(csv), "--config", str(csv.parent / "fast.toml"), "--out", str(tmp_path / "models"), *OPTIONS]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(run.communicate(timeout=300)[1], run.returncode) for run in runs]
    assert [code for _, code in ends] == [0, 0], ends
    assert store.versions(tmp_path / "models", "pay") == [1, 2]
    first, second = (store.load(tmp_path / "models", "pay", version) for version in (1, 2))
    assert first.files["scorer.onnx"] == second.files["scorer.onnx"], "one seed, one result"
    assert {path.name for path in (tmp_path / "models" / "pay").iterdir()} == {"1", "2"}


def more_versions(root: Path, before: int) -> bool:
    return len(store.versions(root, NAME)) > before


def test_a_writer_that_is_killed_leaves_the_registry_readable(models: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    good = store.load(models, NAME, 1)
    store.write(root, NAME, good.manifest, good.files)
    moments = random.Random(1)
    while_writing = 0
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(root), NAME]) as writer:
            before = len(store.versions(root, NAME))
            until(functools.partial(more_versions, root, before))
            time.sleep(moments.uniform(0, 0.03))
            writer.kill()
        while_writing += len(list((root / NAME).glob(".writing-*"))) > while_writing
        for version in store.versions(root, NAME)[before:]:
            assert store.load(root, NAME, version).files == good.files
    assert while_writing, "never killed in the middle of a version"
    newest = store.versions(root, NAME)[-1]
    with running(root) as (_, url):
        assert httpx.get(f"{url}/models/{NAME}").json()["version"] == str(newest)
    assert store.write(root, NAME, good.manifest, good.files) == newest + 1


@pytest.mark.parametrize("jump", [-86400.0, 86400.0], ids=["a day back", "a day on"])
async def test_a_clock_that_jumps_changes_no_answer(
    models: Path, payments: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    wall, nanoseconds = time.time, time.time_ns
    async with in_process(Settings(models=models)) as (client, app):

        async def answer() -> Any:
            deadline = {"X-Deadline-Ms": "5000"}
            return (await client.post("/score", json={"records": payments[:5]}, headers=deadline)).json()["results"]

        before = await answer()
        # Between any two looks at it, so that no time can be measured by it.
        jumps = itertools.cycle([jump, 0.0])
        monkeypatch.setattr(time, "time", lambda: wall() + next(jumps))
        monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + int(next(jumps) * 1e9))
        assert await answer() == before
        await app.models.refresh()
        assert await answer() == before
        assert (await client.get("/readyz")).status_code == 200
        duration = app.metrics.total("surprisal_http_request_duration_seconds_sum")
        assert 0 <= duration < 60


BODY = json.dumps({"records": [{"amount": 12.5, "country": "SE"}]}).encode()
HEAD = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY)
HALVES = 8


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_answers_every_request_whose_head_was_read(models: Path, workers: int) -> None:
    with (
        concurrent.futures.ThreadPoolExecutor(4) as pool,
        running(models, workers, environment={"SURPRISAL_DRAIN_SECONDS": "4"}) as (process, url),
        contextlib.ExitStack() as opened,
    ):
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))

        def load() -> Counter[int]:
            """Ask over one connection until it is closed."""
            statuses: Counter[int] = Counter()
            with httpx.Client(timeout=30) as client:
                try:
                    while True:
                        statuses[client.post(f"{url}/score", content=BODY).status_code] += 1
                except httpx.TransportError:
                    return statuses

        def working() -> float:
            text = httpx.get(f"{url}/metrics", timeout=30).text
            return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(IN_PROGRESS))

        begun = [opened.enter_context(socket.create_connection(address, timeout=30)) for _ in range(HALVES)]
        for connection in begun:
            connection.sendall(HEAD + BODY[:-5])
        until(lambda: working() >= HALVES)
        asked = [pool.submit(load) for _ in range(4)]
        until(lambda: counted(url) > 200)
        process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{url}/readyz", timeout=30).status_code == 503)
        for connection in begun[: HALVES // 2]:
            connection.sendall(BODY[-5:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        until(lambda: not accepts(address))
        for connection in begun[HALVES // 2 :]:
            connection.sendall(BODY[-5:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200"), "also after the service has ceased to listen"
        assert set(sum((each.result() for each in asked), Counter())) == {200}
        assert process.wait(timeout=30) == 0


IN_PROGRESS = "surprisal_requests_in_progress "


def counted(url: str) -> float:
    """Requests for scores that were answered."""
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("surprisal_http_requests_total{") and "/score" in line
    )


def accepts(address: tuple[str, int]) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection(address, timeout=30).close()
    except ConnectionRefusedError:
        return False
    return True
