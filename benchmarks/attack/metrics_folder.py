"""A metrics folder without room: full before the start, at it, and while the service serves."""

import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson

from benchmarks.attack.case import JSON, RECORD, Act, Case
from benchmarks.attack.exchange import Request, ask
from benchmarks.attack.server import Server

_ASKED = 40
_PAUSE_SECONDS = 0.2
_ROOM = "16M"
_PAGE = bytes(4096)
_LITTLE = 64 * 2**10  # less than a worker writes as it starts


def _single() -> Request:
    return Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": [RECORD]}))


def mounted(place: Path) -> bool:
    """Whether a small filesystem of its own could be mounted there, which takes root."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "none", str(place)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(place: Path) -> None:
    """Write until there is no room left."""
    with (place / "fill").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(_PAGE)
        except OSError:
            return


def _asked(server: Server, count: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for _ in range(count):
        statuses[ask(server.port, _single(), timeout=5).status] += 1
        time.sleep(_PAUSE_SECONDS)
    return statuses


def fills(folder: Path, count: int, server: Server) -> Iterator[int | str]:
    """Fill the folder, ask, kill a worker, ask, make room, ask.

    Args:
        folder: Of the metrics; it is filled only where a filesystem of its own is mounted.
        count: Requests at each moment.
        server: Under attack.
    """
    for moment in ("as it came", "full", "a worker killed", "room again"):
        if moment == "full" and folder.is_mount():
            fill(folder)
        if moment == "a worker killed":
            os.kill(server.worker_processes()[0], signal.SIGKILL)
        if moment == "room again":
            (folder / "fill").unlink(missing_ok=True)
        yield f"{moment} {dict(_asked(server, count))}"
    statistics = ask(server.port, Request("/v2/models/stats", method="GET"), timeout=5).status
    yield f"metrics {ask(server.port, Request('/metrics', method='GET'), timeout=5).status}, statistics {statistics}"


def _prepare(folder: Path, moment: str) -> Act:
    folder.mkdir(parents=True)
    if not mounted(folder):
        return lambda _: iter(["left out: a filesystem cannot be mounted here"])
    if moment != "after":
        fill(folder)
    if moment == "at":
        with (folder / "fill").open("ab") as file:
            file.truncate(file.tell() - _LITTLE)

    def act(server: Server) -> Iterator[int | str]:
        yield from fills(folder, _ASKED, server)
        subprocess.run(["umount", "--lazy", str(folder)], check=False)

    return act


def _case(moment: str, workers: int) -> Case:
    folder = Path(tempfile.gettempdir(), f"surprisal-attack-{os.getpid()}", f"{moment}-{workers}")
    name = f"metrics folder full {moment} the start, {workers} worker{'s' * (workers > 1)}"
    case = Case(name, partial(_prepare, folder, moment), workers)
    return replace(case, environment={"SURPRISAL_METRICS_FOLDER": str(folder)})


CASES: tuple[Case, ...] = tuple(_case(moment, workers) for moment in ("before", "at", "after") for workers in (1, 2))
