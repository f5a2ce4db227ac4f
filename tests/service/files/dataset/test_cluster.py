"""A cluster of Ray, its machines processes of this one: the same bytes as by local processes, whatever dies."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from bundle.folder import store
from reading.options import Options
from service.files.dataset import cluster, run
from service.files.dataset.connection import ClusterFailed
from service.files.dataset.driver import Progress, ShardsFailed, Summary
from service.files.dataset.job import DONE, Job, OutFailed
from service.files.dataset.machine import RELEASE, Actor, MachineDiffers, Terms
from service.files.dataset.outcome import TRIES
from service.files.dataset.place import Place
from service.files.dataset.run import Request
from service.files.dataset.shard import Shard, cut
from service.files.selection import Selection
from surprisal import score_dataset
from tests.conftest import NAME, children_of, until
from tests.service.files.dataset.conftest import digests
from tests.service.files.dataset.deadly import DEADLY, DeadlyPlace
from tests.surprisal.cli.command import surprisal

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not installed"),
]

SHARDS, ROWS = 40, 50
SECONDS = 90.0
"""What a cluster does may take so long where others use the same processors."""
MACHINE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


class Machines:
    """A cluster whose machines are processes of this one, on its loopback alone: a head and one more."""

    def __init__(self, folder: str) -> None:
        from ray.cluster_utils import Cluster  # only now, because Ray reads its variables as it is imported

        # Ray notes its address there wherever its other files are.
        Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
        self.cluster = Cluster(
            initialize_head=True, head_node_args=MACHINE | {"include_dashboard": False, "temp_dir": folder}
        )
        self.address: str = self.cluster.address
        self.second = self.add()

    def add(self) -> Any:
        """One more machine."""
        machine = self.cluster.add_node(**MACHINE)
        self.cluster.wait_for_nodes()
        return machine

    def processes(self) -> list[int]:
        """All that it consists of, workers included."""
        nodes = self.cluster.list_all_nodes()
        begun = [each.process.pid for node in nodes for kind in node.all_processes.values() for each in kind]
        return begun + [child for pid in begun for child in children_of(pid)]

    def workers(self) -> list[int]:
        """Those that score."""
        return [pid for pid in self.processes() if "ray::Actor" in _command(pid)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """One cluster for all tests; every process of it is ended."""
    variables = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    # Its sockets have paths of at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        began = Machines(folder)
        processes: list[int] = []
        try:
            yield began
        finally:
            processes = began.processes()
            began.cluster.shutdown()
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            until(lambda: not any("ray" in _command(pid) for pid in processes), SECONDS)


@pytest.fixture(scope="module")
def source(payments: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IN: a shard a file."""
    folder = tmp_path_factory.mktemp("many") / "in"
    for number in range(SHARDS):
        path = folder / f"day={number % 2}" / f"part-{number:02d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(payments.slice(number * ROWS, ROWS), path)
    return folder


Score = Callable[..., Summary]


@pytest.fixture
def score(machines: Machines, models: Path, source: Path, tmp_path: Path) -> Score:
    """Scores IN into OUT on the cluster."""

    def call(out: str = "out", report: Callable[[Progress], None] = lambda done: None, **asked: Any) -> Summary:
        request = Request(
            models / NAME, str(source), str(tmp_path / out), workers=2, engine="ray", address=machines.address
        )
        return run.run(replace(request, **asked), lambda line: None, report)

    return call


@pytest.fixture(scope="module")
def undisturbed(models: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of what a local run gives."""
    out = tmp_path_factory.mktemp("local") / "out"
    run.run(Request(models / NAME, str(source), str(out), workers=1), lambda line: None, lambda done: None)
    found = digests(out)
    assert len(found) == SHARDS
    return found


def require_whole(out: Path, undisturbed: dict[str, str]) -> None:
    """The same bytes as undisturbed, none missing, and counts that add up."""
    assert digests(out) == undisturbed
    manifest = json.loads((out / "_surprisal" / "manifest.json").read_text())
    assert {each["target"]: each["sha256"] for each in manifest["shards"]} == undisturbed
    assert manifest["rows"] == manifest["written"] + manifest["errors"] + manifest["left_out"] == SHARDS * ROWS
    assert (out / "_SUCCESS").exists()


def test_it_gives_the_bytes_of_a_local_run(score: Score, undisturbed: dict[str, str], tmp_path: Path) -> None:
    told: list[Progress] = []
    summary = score(report=told.append)
    assert (summary.shards, summary.scored, summary.rows) == (SHARDS, SHARDS, SHARDS * ROWS)
    assert [each.done for each in told] == list(range(SHARDS + 1))
    require_whole(tmp_path / "out", undisturbed)
    again = score(report=told.append)
    assert (again.scored, again.rows) == (0, SHARDS * ROWS)
    assert score(engine="local", address=None).scored == 0, "the engine is no part of the plan"


def test_a_worker_that_is_killed_costs_nothing(
    machines: Machines, score: Score, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(done: Progress) -> None:
        if done.done == 5 and not killed:
            killed.extend(machines.workers())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    assert score(report=kill).scored == SHARDS
    assert killed
    require_whole(tmp_path / "out", undisturbed)


def test_a_shard_that_ends_its_worker_each_time_fails_alone(
    score: Score, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(source, tmp_path / "in")
    shutil.copy(source / "day=0" / "part-00.parquet", tmp_path / "in" / DEADLY)
    given = cluster.run

    def deadly(job: Job, *more: Any) -> object:
        return given(replace(job, source=DeadlyPlace(job.source.filesystem, job.source.root, job.source.shown)), *more)

    monkeypatch.setattr(cluster, "run", deadly)
    with pytest.raises(ShardsFailed, match=rf"{DEADLY}: ended {TRIES} processes .*worker process has died") as failed:
        score(source=str(tmp_path / "in"))
    assert f"1 of {SHARDS + 1} shards have no results" in str(failed.value)
    assert len(digests(tmp_path / "out")) == SHARDS


def test_shards_of_a_machine_that_is_lost_are_scored_elsewhere(
    machines: Machines, score: Score, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    def lose(done: Progress) -> None:
        if done.done == 5:
            machines.cluster.remove_node(machines.second, allow_graceful=False)

    try:
        assert score(report=lose).scored == SHARDS
    finally:
        machines.second = machines.add()
    require_whole(tmp_path / "out", undisturbed)


def test_killed_it_is_taken_up_by_either_engine(
    machines: Machines, score: Score, models: Path, source: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = ["--engine", "ray", "--address", machines.address, "--workers", "2"]
    command = [sys.executable, "-m", "surprisal", "score", str(models / NAME), str(source), f"{out}/", *asked]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        until(lambda: len(digests(out)) >= 5, SECONDS)
        killed.kill()
    until(lambda: not machines.workers(), SECONDS)
    recorded = {json.loads(path.read_text())["target"] for path in (out / DONE).glob("[!.]*")}
    assert 4 <= len(recorded) < SHARDS
    shutil.copytree(out, tmp_path / "other")
    written = {path: (out / path).stat().st_mtime_ns for path in recorded}
    for summary in (score(), score("other", engine="local", address=None)):
        assert (summary.scored, summary.rows) == (SHARDS - len(recorded), SHARDS * ROWS)
    assert {path: (out / path).stat().st_mtime_ns for path in recorded} == written, "no shard is done twice"
    require_whole(out, undisturbed)
    require_whole(tmp_path / "other", undisturbed)


def test_the_command_prints_json_alone_and_ends_at_sigterm(
    machines: Machines, score: Score, models: Path, source: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = ["--engine", "ray", "--address", machines.address, "--workers", "2", "--json"]
    command = [sys.executable, "-m", "surprisal", "score", str(models / NAME), str(source), f"{out}/", *asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: len(digests(out)) >= 1, SECONDS)
        for pid in machines.workers():
            os.kill(pid, signal.SIGKILL)  # which Ray's daemons tell, elsewhere
        until(lambda: len(digests(out)) >= 5, SECONDS)
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        printed, said = running.communicate()
    assert time.monotonic() - began < 10
    assert running.returncode == 130, said
    assert [line for line in printed.splitlines() if "event" not in json.loads(line)] == []
    assert said.splitlines()[-1].endswith("the same command goes on from there")
    assert "raylet" not in said
    score()
    require_whole(out, undisturbed)


def test_a_machine_that_differs_ends_the_run(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    given = cluster.run

    def differing(job: Job, shards: Sequence[Shard], terms: Terms, *more: Any) -> object:
        return given(job, shards, replace(terms, digest="0" * 64), *more)

    monkeypatch.setattr(cluster, "run", differing)
    told = r"machine \S+ \(127\.0\.0\.1\) has in .*/transactions/1 a bundle with the digest \w+ in place of 0+;"
    with pytest.raises(MachineDiffers, match=told):
        score(workers=1)


@pytest.fixture
def actor(models: Path, source: Path, tmp_path: Path) -> Callable[..., Actor]:
    """What scores on a machine, with something other than it should be."""
    out = Place.of(str(tmp_path / "out"))
    out.publish("plan.json", b"")
    bundle = models / NAME / "1"
    job = Job(bundle, Place.of(str(source)), out, {}, Selection(), Options(), False, False)
    terms = Terms(version(RELEASE), store.load(models, NAME, 1).manifest.digest, "CPUExecutionProvider", "plan.json")

    def call(**changed: Any) -> Actor:
        asked = {name: value for name, value in changed.items() if hasattr(job, name)}
        return Actor(
            replace(job, **asked), replace(terms, **{name: changed[name] for name in changed.keys() - asked}), {}
        )

    return call


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"release": "0.0.1"}, r"has surprisal-vae \S+ in place of 0\.0\.1; install one release on all"),
        ({"provider": "CUDA"}, r"runs the bundle by CPUExecutionProvider in place of CUDA"),
        ({"plan": "plan-0.json"}, r"has no .*/out/plan-0\.json; every machine has to find the same"),
        ({"bundle": Path("/nowhere/1")}, r"cannot open /nowhere/1: .*; every machine has to find the same"),
        ({"source": Place.of("/nowhere")}, r"has no /nowhere/day=0/part-00\.parquet; every machine"),
    ],
)
def test_what_differs_is_said(
    actor: Callable[..., Actor], models: Path, source: Path, changed: dict[str, Any], told: str
) -> None:
    entry = Place.of(str(source)).entry("day=0/part-00.parquet")
    assert entry is not None
    record = store.load(models, NAME, 1).manifest.record
    (shard,) = cut(Place.of(str(source)), entry, "plan", record, Options())
    assert actor().begin(shard) is None
    stopped = actor(**changed).begin(shard)
    assert stopped is not None
    assert re.search(told, str(stopped.error))


class FullPlace(Place):
    """A folder on a full disk."""

    def publish(self, path: str, content: bytes) -> None:
        """See `Place.publish`."""
        raise OSError(28, "No space left on device")


def test_an_out_that_cannot_be_written_ends_the_run(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    given = cluster.run

    def full(job: Job, *more: Any) -> object:
        return given(replace(job, out=FullPlace(job.out.filesystem, job.out.root, job.out.shown)), *more)

    monkeypatch.setattr(cluster, "run", full)
    with pytest.raises(OutFailed, match="No space left"):
        score(workers=1)


def test_a_cluster_that_does_not_answer_is_said_at_once(score: Score) -> None:
    with pytest.raises(ClusterFailed, match=r"127\.0\.0\.1:9: no cluster answers there"):
        score(address="127.0.0.1:9")
    with pytest.raises(ClusterFailed, match="HOST:PORT of the cluster's head is expected"):
        score(address="ray://127.0.0.1:10001")


def test_the_command_refuses_a_cluster_for_one_file(models: Path, source: Path, tmp_path: Path) -> None:
    for given, told in (
        ((f"{tmp_path}/out/", "--address", "127.0.0.1:9"), "--address 127.0.0.1:9: is that of a Ray cluster"),
        ((tmp_path / "out.csv", "--engine", "ray"), "out.csv is one file, which is scored by one process"),
    ):
        done = surprisal("score", models / NAME, source, *given)
        assert done.returncode == 2, done.stderr
        assert told in done.stderr


def test_where_ray_is_not_installed_the_extra_is_named(
    models: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterFailed, match=r"needs ray, which is not installed: pip install 'surprisal-vae\[ray\]'"):
        score_dataset(models / NAME, source, tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="is that of a Ray cluster"):
        score_dataset(models / NAME, source, tmp_path / "out", address="127.0.0.1:9")
