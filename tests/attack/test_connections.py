"""Many connections together hold no more than one large request may."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from benchmarks.attack import connections
from benchmarks.attack.case import JSON, RECORD
from benchmarks.attack.exchange import Request, ask
from benchmarks.attack.memory import MEBIBYTE
from benchmarks.attack.server import Server
from tests.attack.conftest import BUDGET, DOCUMENTED, OVER_REST
from tests.conftest import until

MANY, FEW = 120, 24
"""Connections: of what is soon sent, and of what takes a while to send or to answer."""
CHECKS = 30
HELD = {**connections.UNFINISHED, **connections.UNREAD}


@pytest.fixture
def server(models: Path, tmp_path: Path) -> Iterator[Server]:
    """Whose answers wait long enough to be read."""
    settings = {"SURPRISAL_MEMORY_MB": str(BUDGET), "SURPRISAL_WRITE_IDLE_SECONDS": "60"}
    with Server(models, tmp_path, environment=settings) as running:
        yield running


def in_progress(server: Server) -> int:
    """Requests that the service has begun to read, and not finished."""
    answer = ask(server.port, Request("/metrics", method="GET"))
    assert answer.status == 200, f"no metrics; alive: {server.alive}"
    (line,) = [line for line in answer.body.decode().splitlines() if line.startswith("surprisal_requests_in_progress ")]
    return int(float(line.split()[1]))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("lines of a MiB", MANY),
        ("lines of a MiB of arrays", MANY),
        ("JSON bodies of arrays", MANY),
        ("JSON bodies, not compressed", FEW),
        ("bodies of infer", MANY),
        ("heads", MANY),
        ("JSON", FEW),
        ("streams", FEW),
    ],
)
def test_what_is_unfinished_or_unread_stays_within_the_bound(server: Server, name: str, count: int) -> None:
    with ExitStack() as last:
        clients = connections.opened(server, HELD[name], count, slow=name in connections.UNREAD)
        for client in clients:
            last.enter_context(client)
        if name != "heads":
            until(lambda: in_progress(server) + sum(connections.answered(clients).values()) >= count)
        single = Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": [RECORD]}))
        for _ in range(CHECKS):
            assert server.is_ready()
            assert ask(server.port, single).status in {200, 429, 503}
        assert set(connections.answered(clients)) <= DOCUMENTED
        assert server.memory.over_rest() <= OVER_REST, f"{server.memory.over_rest() / MEBIBYTE:.0f} MiB"
    assert server.stop() == 0
