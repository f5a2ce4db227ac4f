"""Connections are taken one by one, and those that wait at the end are not lost."""

import asyncio
import contextlib
import socket

from service.acceptor import Acceptor


async def test_what_waits_when_listening_ends_is_still_accepted() -> None:
    made: list[asyncio.Protocol] = []

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(self)
            transport.close()

    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening, contextlib.ExitStack() as opened:
        acceptor = Acceptor(listening, Connection, made)
        address = listening.getsockname()
        for _ in range(5):  # the loop has had no turn, so none is accepted yet
            opened.enter_context(socket.create_connection(address))
        assert made == []
        acceptor.close()
        acceptor.close()
        async with asyncio.timeout(30):
            while len(made) < 5:
                await asyncio.sleep(0)
        assert listening.fileno() == -1
