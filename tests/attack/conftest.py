"""A real server with little room for requests, and what holds of it whatever is sent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.attack.exchange import Request, ask
from benchmarks.attack.memory import MEBIBYTE
from benchmarks.attack.report import BOUND
from benchmarks.attack.server import Server
from service.wire.problems import STATUS

BUDGET = 64
"""MiB that requests may hold in the worker."""
OVER_REST = int(BOUND * BUDGET * MEBIBYTE)
"""Bytes that the worker may have over its memory at rest."""
DOCUMENTED = {200, 431, *STATUS.values()} - {500}
"""What may be answered; 500 is documented as a fault of the service."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, which pytest asks for among all that it collects."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("attack")


class Attacked:
    """A server with one worker, replaced by a fresh one once it has been found wanting."""

    def __init__(self, models: Path, scratch: Path) -> None:
        self._models = models
        self._scratch = scratch
        self._starts = 0
        self._server = self._start()

    @property
    def server(self) -> Server:
        """The one that runs."""
        return self._server

    def close(self) -> None:
        """End it."""
        self._server.stop()

    def wrong_with(self, request: Request) -> str | None:
        """Send a request; what does not hold after it, or None."""
        self._server.memory.forget()
        answer = ask(self._server.port, request, timeout=30)
        over = self._server.memory.over_rest()
        if answer.status in DOCUMENTED and over <= OVER_REST and self._server.is_ready():
            return None
        alive = self._server.alive
        self._server.stop()
        self._server = self._start()
        return f"{request}: status {answer.status}, {over / MEBIBYTE:.0f} MiB over rest, alive: {alive}"

    def _start(self) -> Server:
        self._starts += 1
        folder = self._scratch / str(self._starts)
        folder.mkdir()
        return Server(self._models, folder, environment={"SURPRISAL_MEMORY_MB": str(BUDGET)}).__enter__()


@pytest.fixture(scope="module")
def attacked(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """The server, one for a file of tests."""
    running = Attacked(models, tmp_path_factory.mktemp("attacked"))
    yield running
    running.close()
