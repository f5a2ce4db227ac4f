"""Shards on processes of this machine: each has one at a time, and one that dies takes no other's with it."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any

from reading.errors import FileInvalid
from service.files.dataset.job import Job, Worker
from service.files.dataset.machine import Terms
from service.files.dataset.outcome import TRIES, Outcome, Stopped, attempt, ended
from service.files.dataset.shard import Shard

_END_SECONDS = 5.0


class WorkersFailed(FileInvalid):
    """Processes end as they begin, or have not the bundle of the plan; says what to do."""


def run(job: Job, shards: Sequence[Shard], terms: Terms, workers: int, threads: int) -> Iterator[Outcome]:
    """Score shards, each on one of some processes.

    Args:
        job: What is asked.
        shards: Which.
        terms: What every process has to find.
        workers: How many processes.
        threads: Of ONNX Runtime, in each.

    Returns:
        What came of each, as it comes.

    Raises:
        OutFailed: OUT cannot be written.
        BundleError: The bundle is refused.
        WorkersFailed: Processes end as they begin, or the bundle is no longer that of the plan.
    """
    stillborn = 0
    waiting, tries = deque(shards), Counter[str]()
    with contextlib.ExitStack() as stack:
        # Whatever ends a process, its files go with this folder.
        folder = tempfile.TemporaryDirectory(prefix="surprisal-shards-", ignore_cleanup_errors=True)
        given = (job, terms, threads, stack.enter_context(folder))
        running = [stack.enter_context(_Process(*given)) for _ in range(min(workers, len(shards)))]
        while waiting or any(each.shard for each in running):
            for each in running:
                if each.shard is None and waiting:
                    each.give(waiting.popleft())
            busy = [each for each in running if each.shard is not None]
            connection.wait([each.pipe for each in busy] + [each.sentinel for each in busy])
            for each in busy:
                shard, said = each.shard, each.said()
                assert shard is not None
                if said is _NOTHING:
                    continue
                if isinstance(said, Stopped):
                    raise said.error
                if said is not _DEAD:
                    stillborn = 0
                    yield said
                    continue
                if not each.is_ready:
                    stillborn += 1
                    if stillborn >= TRIES:
                        raise WorkersFailed(_stillborn(each.how_ended))
                    waiting.append(shard)
                else:
                    tries[shard.key] += 1
                    if tries[shard.key] < TRIES:
                        waiting.append(shard)
                    else:
                        yield ended(job, shard, each.how_ended)
                each.begin()


def _stillborn(how: str) -> str:
    return (
        f"{TRIES} processes have ended as they began, the last with {how}: a script has to call this under "
        '`if __name__ == "__main__":`, because each process loads it again; else memory may be short: name fewer '
        "workers"
    )


_NOTHING, _DEAD = object(), object()
_READY = "ready"


class _Process:
    """A process that scores shards, until it is ended."""

    def __init__(self, job: Job, terms: Terms, threads: int, folder: str) -> None:
        self._given = (job, terms, threads, folder)
        self.shard: Shard | None = None
        """What it is at."""
        self.is_ready = False
        """Whether it has opened the bundle."""
        self.begin()

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self._process.terminate()
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def begin(self) -> None:
        """Start it, in place of one that has died."""
        context = multiprocessing.get_context("spawn")
        self.shard, self.is_ready = None, False
        self.pipe, there = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_work, args=(there, *self._given), daemon=True)
        self._process.start()
        there.close()

    @property
    def sentinel(self) -> int:
        """Ready when it has ended."""
        return self._process.sentinel

    @property
    def how_ended(self) -> str:
        """By a signal or with an exit code."""
        self._process.join()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def give(self, shard: Shard) -> None:
        """Have it score a shard; where it is dead, the next look finds out."""
        self.shard = shard
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(shard)

    def said(self) -> Any:
        """What came of its shard; `_NOTHING` yet, or `_DEAD`."""
        try:
            if self.pipe.poll():
                said = self.pipe.recv()
                if said == _READY:
                    self.is_ready = True
                    return _NOTHING
                self.shard = None
                return said
        except (EOFError, OSError):
            return _DEAD
        return _DEAD if not self._process.is_alive() else _NOTHING


def _work(pipe: connection.Connection, job: Job, terms: Terms, threads: int, folder: str) -> None:
    """The process: score what is given until the pipe ends, or the one that began it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal's Ctrl-C reaches all; the parent ends us.
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    tempfile.tempdir = folder
    os.environ["SURPRISAL_THREADS"] = str(threads)
    try:
        worker = Worker(job)
        _require_terms(worker, job, terms)
    except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
        pipe.recv()
        pipe.send(Stopped(error))
        return
    pipe.send(_READY)
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(attempt(worker, job, pipe.recv()))


def _require_terms(worker: Worker, job: Job, terms: Terms) -> None:
    """The bundle may have been replaced since the run was planned."""
    for name, found, planned in (
        ("digest", worker.digest, terms.digest),
        ("provider", worker.provider, terms.provider),
    ):
        if found != planned:
            raise WorkersFailed(f"{job.bundle}: its {name} was {planned} when the run was planned and is {found} now")


def _end_with_parent(folder: str) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
