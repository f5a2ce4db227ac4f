"""A worker whose event loop stands still is replaced; a supervisor that slept itself ends nobody."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.process.watchdog import LATE_SECONDS, LOOK_SECONDS, START_SECONDS, Watchdog
from service.telemetry.worker_table import WorkerTable, new_file
from tests.conftest import running, until
from tests.service.process.test_supervisor import score, total, workers_of

SILENT_SECONDS = 10.0


@contextlib.contextmanager
def a_table() -> Iterator[WorkerTable]:
    """Of two workers."""
    file = new_file(2)
    yield WorkerTable(file)
    os.close(file)


class Clock:
    """Looks of a supervisor at workers, of which the first beats or does not."""

    def __init__(self, table: WorkerTable) -> None:
        self.now = 1000.0
        self.table = table
        self.watchdog = Watchdog(table, SILENT_SECONDS, self.now)
        for worker in range(2):
            table.beats[worker] = 1
            self.watchdog.started(worker)
            self.watchdog.ready(worker)

    def look(self, seconds: float = LOOK_SECONDS, *, beats: bool = False) -> list[int]:
        """After some seconds, in which the second worker beat."""
        self.now += seconds
        self.table.beats[1] += 1
        self.table.beats[0] += beats
        return self.watchdog.look(self.now)


def test_a_worker_that_is_silent_for_so_long_is_ended_and_no_other() -> None:
    with a_table() as table:
        clock = Clock(table)
        assert [clock.look() for _ in range(9)] == [[]] * 9
        assert clock.look(beats=True) == []
        assert [clock.look() for _ in range(9)] == [[]] * 9
        assert clock.look() == [0]
        clock.watchdog.ended(0)
        assert clock.look() == []


@given(st.lists(st.tuples(st.floats(0.5, 2.9), st.booleans()), max_size=60))
def test_nobody_is_ended_who_beat_within_the_time(looks: list[tuple[float, bool]]) -> None:
    with a_table() as table:
        clock = Clock(table)
        silent = 0.0
        for seconds, beats in looks:
            silent = 0.0 if beats else silent + seconds
            ended = clock.look(seconds, beats=beats)
            if abs(silent - SILENT_SECONDS) > 1e-6:
                assert ended == ([0] if silent > SILENT_SECONDS else [])


@given(st.integers(0, 9), st.floats(LATE_SECONDS + 0.01, 1e6), st.integers(0, 9))
def test_a_supervisor_that_was_suspended_ends_nobody(before: int, suspended: float, after: int) -> None:
    with a_table() as table:
        clock = Clock(table)
        looks = [LOOK_SECONDS] * before + [suspended] + [LOOK_SECONDS] * after
        assert [clock.look(seconds) for seconds in looks] == [[]] * len(looks)


def test_who_starts_or_ends_has_longer_but_not_for_ever() -> None:
    with a_table() as table:
        clock = Clock(table)
        clock.watchdog.started(0)
        patient = int(START_SECONDS / LOOK_SECONDS)
        # Its loop may well run, and never come to an end with what it loads.
        assert [clock.look(beats=True) for _ in range(patient - 1)] == [[]] * (patient - 1)
        assert clock.look(beats=True) == [0]
        clock.watchdog.ready(0)
        assert clock.look(beats=True) == []
        table.beats[0] = 0
        assert [clock.look() for _ in range(patient)] == [[]] * patient
        assert clock.look() == [0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_worker_is_replaced_and_counted(models: Path, workers: int) -> None:
    with running(models, workers, environment={"SURPRISAL_WATCHDOG_SECONDS": "2"}) as (process, url):
        until(lambda: total(url, "workers") == workers)
        victim = workers_of(process)[0]
        os.kill(victim, signal.SIGSTOP)
        until(lambda: victim not in workers_of(process) and len(workers_of(process)) == workers)
        until(lambda: answered(url, "workers") == workers)
        assert total(url, "worker_restarts_total", reason="silent") == 1
        assert total(url, "worker_restarts_total", reason="exit") == 0
        assert score(url, 5) == [200] * 5
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
    assert f"worker {victim} does not answer its supervisor; it is killed" in errors


def test_a_worker_that_is_stopped_during_the_drain_is_ended(models: Path) -> None:
    settings = {"SURPRISAL_WATCHDOG_SECONDS": "1", "SURPRISAL_DRAIN_SECONDS": "60"}
    with running(models, environment=settings) as (process, url):
        until(lambda: total(url, "workers") == 1)
        (victim,) = workers_of(process)
        process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{url}/readyz", timeout=30).status_code == 503)
        os.kill(victim, signal.SIGSTOP)
        assert process.wait(timeout=30) == 1, "what it had begun was lost"


def answered(url: str, name: str) -> float:
    """A metric, or -1 while nobody answers."""
    try:
        return total(url, name)
    except httpx.TransportError:
        return -1.0
