"""Connections are shared out evenly, and those that wait at the end are not lost."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from service.process.acceptor import Acceptor
from service.process.connections import Connections
from service.telemetry.worker_table import WorkerTable, new_file


@pytest.fixture
def table() -> Iterator[WorkerTable]:
    """Of two workers."""
    file = new_file(2)
    yield WorkerTable(file)
    os.close(file)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket on which nobody accepts yet."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield listening


@pytest.fixture
def clients(listening: socket.socket) -> Iterator[list[socket.socket]]:
    """32 that have connected, as far as they can tell; the loop has had no turn, so none is accepted."""
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(socket.create_connection(listening.getsockname())) for _ in range(32)]


class Worker:
    """One that accepts, in this process."""

    def __init__(self, listening: socket.socket, table: WorkerTable, place: int) -> None:
        self.open = open_here = Connections(table, place)

        class Connection(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport
                open_here.add(transport)

            def connection_lost(self, error: Exception | None) -> None:
                open_here.discard(self.transport)

        self.acceptor = Acceptor(listening.dup(), Connection, self.open)

    def close(self) -> None:
        """Leave nothing open."""
        self.acceptor.close()
        for transport in list(self.open):
            transport.close()


async def settle(*workers: Worker, connections: int) -> None:
    """Until so many are open."""
    async with asyncio.timeout(30):
        while sum(len(worker.open) for worker in workers) < connections:
            await asyncio.sleep(0)


async def until_none(connections: Connections) -> None:
    """Until the last is closed."""
    while connections:
        await asyncio.sleep(0)


async def test_two_workers_take_as_many_each(
    listening: socket.socket, table: WorkerTable, clients: list[socket.socket]
) -> None:
    workers = [Worker(listening, table, place) for place in range(2)]
    await settle(*workers, connections=len(clients))
    assert [table.connections[place] for place in range(2)] == [len(worker.open) for worker in workers]
    assert max(len(worker.open) for worker in workers) <= 18
    for worker in workers:
        worker.close()


async def test_a_worker_alone_takes_all(
    listening: socket.socket, table: WorkerTable, clients: list[socket.socket]
) -> None:
    worker = Worker(listening, table, 0)
    await settle(worker, connections=len(clients))
    assert worker.open.ahead == 0
    worker.close()
    await asyncio.wait_for(until_none(worker.open), 30)
    other = Connections(table, 1)
    other.opening()
    assert other.ahead == 0, "who has closed is not waited for"


async def test_what_another_worker_does_not_take_is_taken_nevertheless(
    listening: socket.socket, table: WorkerTable, clients: list[socket.socket]
) -> None:
    table.connections[1] = 0  # it says that it accepts, and is busy for ever
    worker = Worker(listening, table, 0)
    await settle(worker, connections=len(clients))
    worker.close()


async def test_what_waits_when_listening_ends_is_still_accepted(
    listening: socket.socket, table: WorkerTable, clients: list[socket.socket]
) -> None:
    table.connections[1] = 0
    worker = Worker(listening, table, 0)
    worker.acceptor.close()
    worker.acceptor.close()
    assert len(worker.open) == 0
    await settle(worker, connections=len(clients))
    worker.close()


async def test_a_closed_connection_is_told_at_once(table: WorkerTable) -> None:
    mine, other = Connections(table, 0), Connections(table, 1)
    for _ in range(3):
        mine.opening()
    mine.add("a")
    mine.lost()
    assert (table.connections[0], mine.total, mine.ahead, other.ahead) == (2, 2, 2, 0)
    mine.discard("a")
    assert table.connections[0] == 1
