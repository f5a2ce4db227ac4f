"""Accepts connections from a socket that several workers share, so that each gets its share of them.

An event loop left to itself accepts everything that waits, so the worker that wakes first gets all connections and the
others none (measured: all of four connections in seven of eight tries). Here a worker waits the longer the more
connections it has, and then takes few: the one with the fewest comes first.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sized

WAIT_SECONDS = 5e-4
"""A worker waits this long for each connection that it has, before it takes another."""
LONGEST_WAIT_SECONDS = 4e-3
SHARE = 16
"""One connection is taken at a time, and one more for each so many that there are."""
BACKLOG = 2048
"""Connections that may wait to be accepted."""
PAUSE_SECONDS = 0.1
"""After an error such as too many open files."""

log = logging.getLogger("surprisal.http")


class Acceptor:
    """Takes connections from a listening socket.

    Args:
        listening: The socket; made non-blocking.
        protocol: Makes the protocol of a connection.
        connections: Those of this worker that are open.
    """

    def __init__(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol], connections: Sized) -> None:
        self._listening = listening
        self._protocol = protocol
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._closed = False
        listening.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Accept what waits already, whose clients believe themselves connected, and no more."""
        if not self._closed:
            self._accept(BACKLOG)
            self._loop.remove_reader(self._listening)
            self._closed = True
            self._listening.close()

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening, self._readable)

    def _readable(self) -> None:
        self._loop.remove_reader(self._listening)
        open_now = len(self._connections) + len(self._opening)
        self._loop.call_later(min(LONGEST_WAIT_SECONDS, WAIT_SECONDS * open_now), self._accept, 1 + open_now // SHARE)

    def _accept(self, most: int) -> None:
        if self._closed:
            return
        for _ in range(most):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                log.error("a connection could not be accepted: %s", error.strerror)
                self._loop.call_later(PAUSE_SECONDS, self._listen)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
            self._opening.add(task)
            task.add_done_callback(self._opened)
        self._listen()

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("a connection was lost while it was opened: %s", task.exception())
