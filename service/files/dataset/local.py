"""Shards on processes of this machine: each has one at a time, and one that dies takes no other's with it."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any

from service.files.dataset.job import Job, Worker
from service.files.dataset.outcome import TRIES, Outcome, Stopped, attempt, ended
from service.files.dataset.shard import Shard

_END_SECONDS = 5.0


def run(job: Job, shards: Sequence[Shard], workers: int, threads: int) -> Iterator[Outcome]:
    """Score shards, each on one of some processes.

    Args:
        job: What is asked.
        shards: Which.
        workers: How many processes.
        threads: Of ONNX Runtime, in each.

    Returns:
        What came of each, as it comes.

    Raises:
        OutFailed: OUT cannot be written.
        BundleError: The bundle is refused.
    """
    waiting, tries = deque(shards), Counter[str]()
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(_Process(job, threads)) for _ in range(min(workers, len(shards)))]
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
                    yield said
                    continue
                tries[shard.key] += 1
                if tries[shard.key] < TRIES:
                    waiting.append(shard)
                else:
                    yield ended(job, shard, each.how_ended)
                each.begin()


_NOTHING, _DEAD = object(), object()


class _Process:
    """A process that scores shards, until it is ended."""

    def __init__(self, job: Job, threads: int) -> None:
        self._job, self._threads = job, threads
        self.shard: Shard | None = None
        """What it is at."""
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
        self.shard = None
        self.pipe, there = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_work, args=(there, self._job, self._threads), daemon=True)
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
                self.shard = None
                return said
        except (EOFError, OSError):
            return _DEAD
        return _DEAD if not self._process.is_alive() else _NOTHING


def _work(pipe: connection.Connection, job: Job, threads: int) -> None:
    """The process: score what is given until the pipe ends, or the one that began it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal's Ctrl-C reaches all; the parent ends us.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["SURPRISAL_THREADS"] = str(threads)
    try:
        worker = Worker(job)
    except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
        pipe.recv()
        pipe.send(Stopped(error))
        return
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(attempt(worker, job, pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
