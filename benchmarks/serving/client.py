"""An asyncio client for what wrk cannot do: requests that arrive by a clock, mixed requests, times by status.

It is Python and shares the machine with the server, so it tells how late it was itself; wrk measures capacity.
"""

import asyncio
import selectors
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import httptools
import numpy as np

from benchmarks.serving.formats import Request

NO_CONNECTION, TIMED_OUT = 0, -1
"""In place of a status: the connection failed or broke; there was no answer in time."""
TIMEOUT_SECONDS = 30.0
MOST_CONNECTIONS = 512
LEAD_SECONDS = 0.1

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request.

    Args:
        status: Of HTTP, or one of the two above.
        seconds: From sending to the end of the answer.
        late: Seconds from when it was due to when it was sent.
        size: Bytes of the answer's body.
    """

    status: int
    seconds: float
    late: float
    size: int


class Connection(asyncio.Protocol):
    """A connection that is kept, one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._outcome: asyncio.Future[tuple[int, int]] | None = None
        self._size = 0
        self.open = False

    async def ask(self, content: bytes) -> tuple[int, int]:
        """Send a whole request; the status and the size of the answer.

        Raises:
            ConnectionError: The connection broke before the answer's end.
        """
        self._outcome = asyncio.get_running_loop().create_future()
        self._size = 0
        self._transport.write(content)
        return await self._outcome

    def close(self) -> None:
        """Give the connection up."""
        self.open = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.open = transport, True

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.open = False
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_exception(ConnectionResetError("closed before the answer's end"))

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._size += len(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        status: int = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        self._parser = httptools.HttpResponseParser(self)
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result((status, self._size))


class Client:
    """Connections to one server, kept between requests.

    Args:
        host: Where it listens.
        port: The same.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[Connection] = []
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)

    async def ask(self, content: bytes, due: float | None = None) -> Answer:
        """Send a request's bytes; whatever goes wrong is an answer too.

        Args:
            content: From `on_the_wire`.
            due: When it should have been sent, on `time.perf_counter`; None for now.
        """
        async with self._room:
            sent = time.perf_counter()
            late = 0.0 if due is None else sent - due
            status, size = NO_CONNECTION, 0
            connection: Connection | None = None
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    connection = await self._connection()
                    status, size = await connection.ask(content)
            except TimeoutError:
                status = TIMED_OUT
            except (OSError, httptools.HttpParserError):
                pass
            seconds = time.perf_counter() - sent
            if connection is not None:
                if status > 0 and connection.open:
                    self._idle.append(connection)
                else:
                    connection.close()
            return Answer(status, seconds, late, size)

    def close(self) -> None:
        """Close what is kept."""
        for connection in self._idle:
            connection.close()

    async def _connection(self) -> Connection:
        while self._idle:
            if (connection := self._idle.pop()).open:
                return connection
        _, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        return connection


def on_the_wire(request: Request, host: str) -> bytes:
    """A request as the bytes that are sent."""
    headers = {"Host": host, "Content-Length": str(len(request.body))} | request.headers
    lines = [f"POST {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + request.body


async def open_loop(client: Client, request: Request, host: str, rate: float, seconds: float) -> list[Answer]:
    """Requests that arrive at random, on average so many a second, whether or not earlier ones are answered.

    Args:
        client: To send them with.
        request: Sent each time.
        host: For the header.
        rate: Requests a second (Poisson arrivals, of a fixed seed).
        seconds: How long.
    """
    content = on_the_wire(request, host)
    gaps = np.random.default_rng(4).exponential(1 / rate, size=round(rate * seconds))
    due = time.perf_counter() + LEAD_SECONDS + np.cumsum(gaps)
    under_way: list[asyncio.Task[Answer]] = []
    for moment in due.tolist():
        if (wait := moment - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        under_way.append(asyncio.create_task(client.ask(content, moment)))
    return await asyncio.gather(*under_way)


def run(work: Coroutine[Any, Any, _Result], *, precise: bool = False) -> _Result:
    """Run a coroutine on a loop of its own.

    Args:
        work: The coroutine.
        precise: Wake by the microsecond, where epoll would by the millisecond; for up to a thousand connections.
    """

    def loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(selectors.SelectSelector() if precise else None)

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(work)
