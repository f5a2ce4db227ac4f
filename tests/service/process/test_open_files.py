"""A worker keeps files for its own work, however many connect."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.process import open_files
from service.process.acceptor import SAY_SECONDS, Acceptor
from service.process.connections import Connections
from service.telemetry.worker_table import WorkerTable, new_file
from tests.conftest import running, until
from tests.service.process.test_supervisor import total, workers_of

pytestmark = pytest.mark.slow

FILES = 96


class Connection:
    """One that is idle since some time, or busy."""

    def __init__(self, idle_since: float | None) -> None:
        self.idle_since = idle_since
        self.let_go_of = False

    def let_go(self) -> None:
        """See `LimitedProtocol`."""
        self.let_go_of = True


@given(st.lists(st.none() | st.floats(0, 1e6), max_size=300))
def test_those_go_that_were_idle_longest_and_none_that_works(idle: list[float | None]) -> None:
    file = new_file(1)
    connections = Connections(WorkerTable(file), 0, len(idle))
    os.close(file)
    everybody = [Connection(since) for since in idle]
    for each in everybody:
        connections.opening()
        connections.add(each)
    assert connections.full
    made = connections.make_room()
    let_go = [each.idle_since for each in everybody if each.let_go_of]
    gone = {since for since in let_go if since is not None}
    assert made == bool(gone)
    assert None not in let_go
    waiting = [each.idle_since for each in everybody if each.idle_since is not None and not each.let_go_of]
    assert bool(gone) == any(since is not None for since in idle)
    assert all(kept >= max(gone) for kept in waiting if gone)
    assert len(gone) <= 1 + len(idle) // 100


@pytest.mark.parametrize("limit", [64, 256, 1024, 2**20])
def test_the_reserve_is_left(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(range(30)))
    assert open_files.most_connections() == limit - 30 - min(128, limit // 4)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert open_files.most_connections() == sys.maxsize


def limited_files() -> None:
    """In a child: this many files at most."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))


def ask(client: socket.socket, path: str) -> bytes:
    """The first line of an answer; nothing where the connection is closed."""
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return client.recv(65536).partition(b"\r\n")[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_more_connect_than_there_are_files_and_all_is_answered(models: Path, workers: int) -> None:
    with (
        running(models, workers, preexec=limited_files) as (process, url),
        contextlib.ExitStack() as opened,
    ):
        until(lambda: total(url, "workers") == workers)
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        for number in range(4 * FILES):
            client = opened.enter_context(socket.create_connection(address, timeout=30))
            if number % 16 == 0:
                assert ask(client, "/metrics") == b"HTTP/1.1 200 OK"
                assert httpx.post(f"{url}/score", json={"records": [{"amount": 3.0}]}, timeout=30).status_code == 200
        assert max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in workers_of(process)) < FILES
        assert total(url, "metrics_unshared") == 0
        assert total(url, "worker_restarts_total") == 0
        process.terminate()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0
    assert "could not be accepted" not in errors


async def test_while_all_are_busy_newcomers_wait() -> None:
    file = new_file(1)
    connections = Connections(WorkerTable(file), 0, 1)
    os.close(file)
    busy = Connection(None)
    connections.opening()
    connections.add(busy)
    accepted = asyncio.Event()

    class Newcomer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            connections.add(transport)
            accepted.set()
            transport.close()

    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        acceptor = Acceptor(listening, Newcomer, connections)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not accepted.is_set()
        connections.discard(busy)
        await asyncio.wait_for(accepted.wait(), 30)
        acceptor.close()


async def test_an_error_of_accept_is_said_once_a_minute_with_its_count(caplog: pytest.LogCaptureFixture) -> None:
    file = new_file(1)
    connections = Connections(WorkerTable(file), 0)
    os.close(file)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        acceptor = Acceptor(listening, asyncio.Protocol, connections)
        said: Callable[[OSError], None] = acceptor._say
        for _ in range(50):
            said(OSError(errno.ENFILE, os.strerror(errno.ENFILE)))
        acceptor._say_at -= SAY_SECONDS
        said(OSError(errno.ENFILE, os.strerror(errno.ENFILE)))
        acceptor.close()
    times = [record.message.split(" times")[0].rpartition(" ")[2] for record in caplog.records]
    assert times == ["1", "50"]
