"""Workers and supervisors that are killed, stopped and ended while clients ask."""

import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import orjson

from benchmarks.attack.case import JSON, RECORD, Case
from benchmarks.attack.exchange import Request, ask, connect
from benchmarks.attack.memory import family
from benchmarks.attack.server import Server
from benchmarks.attack.starving import Crowd, in_words

CLIENTS = 8
PAUSE_SECONDS = 0.002
LOAD_SECONDS = 2.0
WATCH_SECONDS = 20.0
_POLL_SECONDS = 0.05
_COUNT_SECONDS = 5.0
_FILES = 64
"""Open files that a worker may have where it is starved of them."""

Deed = Callable[[Server], Iterator[int | str]]


def _single() -> Request:
    return Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": [RECORD] * 5}))


def under_load(deed: Deed, server: Server) -> Iterator[int | str]:
    """Do it while clients ask, and say what they saw."""
    with Crowd(server.port, _single(), None, CLIENTS, PAUSE_SECONDS) as crowd:
        time.sleep(LOAD_SECONDS)
        yield from deed(server)
        time.sleep(LOAD_SECONDS)
    yield f"clients {in_words(crowd.answers)}"
    said = ask(server.port, Request("/metrics", method="GET"), timeout=5).body.decode()
    yield from (line for line in said.splitlines() if line.startswith("surprisal_worker"))


def _until(condition: Callable[[], bool], what: str, seconds: float = WATCH_SECONDS) -> str:
    started = time.monotonic()
    while not condition() and time.monotonic() - started < seconds:
        time.sleep(_POLL_SECONDS)
    passed = time.monotonic() - started
    return f"{what} after {passed:.1f} s" if passed < seconds else f"not {what} within {seconds:.0f} s"


def _replaced(server: Server, worker: int) -> bool:
    now = server.worker_processes()
    return worker not in now and len(now) >= server.workers


def _sends(number: signal.Signals, server: Server) -> Iterator[int | str]:
    worker = server.worker_processes()[0]
    os.kill(worker, number)
    yield _until(partial(_replaced, server, worker), "replaced")


def _kills_again_and_again(server: Server) -> Iterator[int | str]:
    for _ in range(6):
        for worker in server.worker_processes():
            os.kill(worker, signal.SIGKILL)
        time.sleep(LOAD_SECONDS)
    yield _until(server.is_ready, "ready")


def _stops_and_goes_on(server: Server) -> Iterator[int | str]:
    members = family(server.process.pid)
    for process in members:
        os.kill(process, signal.SIGSTOP)
    time.sleep(WATCH_SECONDS)
    for process in members:
        os.kill(process, signal.SIGCONT)
    time.sleep(LOAD_SECONDS)
    yield f"{len(set(members) & set(family(server.process.pid)))} of {len(members)} processes live on"


def _kills_the_supervisor(server: Server) -> Iterator[int | str]:
    workers = server.worker_processes()
    server.process.kill()
    server.wait(5.0)
    yield _until(lambda: not any(map(_runs, workers)), "workers gone")


def _runs(process: int) -> bool:
    try:
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _ends(number: signal.Signals, server: Server) -> Iterator[int | str]:
    started = time.monotonic()
    server.process.send_signal(number)
    code = server.wait(40.0)
    yield f"{number.name}: exit code {code} after {time.monotonic() - started:.1f} s"


def _without_files(server: Server) -> Iterator[int | str]:
    for worker in server.worker_processes():
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (_FILES, _FILES))
    clients = [connect(server.port) for _ in range(3 * _FILES)]
    time.sleep(LOAD_SECONDS)
    before = len(server.log().splitlines())
    time.sleep(_COUNT_SECONDS)
    yield f"{(len(server.log().splitlines()) - before) / _COUNT_SECONDS:.1f} log lines a second"
    for client in clients:
        client.close()
    yield _until(server.is_ready, "ready")
    statuses = Counter(ask(server.port, _single(), timeout=5).status for _ in range(10))
    yield f"afterwards {dict(statuses)}"
    yield f"metrics {ask(server.port, Request('/metrics', method='GET'), timeout=5).status}"


def _case(name: str, deed: Deed, workers: int) -> Case:
    return Case(f"process: {name}, {workers} worker{'s' * (workers > 1)}", lambda: partial(under_load, deed), workers)


DEEDS: dict[str, Deed] = {
    "killed": partial(_sends, signal.SIGKILL),
    "stopped": partial(_sends, signal.SIGSTOP),
    "killed again and again": _kills_again_and_again,
    "all stopped, and going on": _stops_and_goes_on,
    "supervisor killed": _kills_the_supervisor,
    "SIGTERM": partial(_ends, signal.SIGTERM),
    "SIGHUP": partial(_ends, signal.SIGHUP),
    "no open files left": _without_files,
}
CASES: tuple[Case, ...] = tuple(_case(name, deed, workers) for name, deed in DEEDS.items() for workers in (1, 2))
