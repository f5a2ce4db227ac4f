"""Accepts connections from a socket that several workers share, so that each gets its share of them.

An event loop left to itself accepts everything that waits, so the worker that wakes first gets all connections and the
others none (measured: all of four connections in seven of eight tries). Here a worker that has more than another lets
that one come first.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from service.process.connections import Connections
from service.process.newcomers import hold_back

LOOK_SECONDS = 5e-4
"""A worker that has more connections than another looks this often whether that one has caught up."""
PATIENCE_SECONDS = 8e-3
"""For so long it leaves to the other what waits; then it takes one itself."""
SHARE = 8
"""One connection more than another worker is no matter among so many, two are none among twice as many."""
BACKLOG = 2048
"""Connections that may wait to be accepted."""
TLS_SECONDS = 60.0
PAUSE_SECONDS = 0.1
"""After an error, or while there is no room for one more connection."""
SCAN_SECONDS = 1.0
"""Idle connections are looked for this often where there were none."""
SAY_SECONDS = 60.0
"""Errors are logged this often at most."""

log = logging.getLogger("surprisal.http")


class Acceptor:
    """Takes connections from a listening socket.

    Args:
        listening: The socket; made non-blocking.
        protocol: Makes the protocol of a connection.
        connections: Those of this worker, and how many the others have.
        tls: What they are encrypted with, or None.
        tls_seconds: How long the handshake may take.
    """

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Connections,
        tls: ssl.SSLContext | None = None,
        tls_seconds: float = TLS_SECONDS,
    ) -> None:
        self._listening = listening
        self._protocol = protocol
        self._connections = connections
        self._options: dict[str, Any] = {} if tls is None else {"ssl": tls, "ssl_handshake_timeout": tls_seconds}
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._closed = False
        self._scan_at = self._say_at = 0.0
        self._failures = 0
        listening.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Accept what waits already, whose clients believe themselves connected, and no more."""
        if not self._closed:
            hold_back(self._listening)
            while self._accept():
                pass
            self._closed = True
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._connections.close()

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listening, self._take_share)

    def _take_share(self) -> None:
        """Take connections for as long as this worker has no more than its share."""
        while not self._has_share():
            if not self._accept():
                return
        self._loop.remove_reader(self._listening)
        self._look_again(self._loop.time() + PATIENCE_SECONDS)

    def _look_again(self, until: float) -> None:
        """Take a connection once the others have caught up, or have had their time, and listen again."""
        if self._closed:
            return
        if self._has_share() and self._loop.time() < until:
            self._loop.call_later(LOOK_SECONDS, self._look_again, until)
        elif self._accept():
            self._listen()

    def _has_share(self) -> bool:
        return self._connections.ahead > self._connections.total // SHARE

    def _accept(self) -> bool:
        """Accept one connection; false where none waits, or none can be had for now."""
        if self._connections.full:
            self._make_room()
            return False
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            self._listen()
            return False
        except OSError as error:
            self._say(error)
            self._pause(PAUSE_SECONDS)
            return False
        connection.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection, **self._options))
        self._opening.add(task)
        self._connections.opening()
        task.add_done_callback(self._opened)
        return True

    def _make_room(self) -> None:
        """Close idle connections; while there are none, newcomers wait to be accepted."""
        now = self._loop.time()
        made = False
        if now >= self._scan_at:
            made = self._connections.make_room()
            self._scan_at = now if made else now + SCAN_SECONDS
        self._pause(LOOK_SECONDS if made else PAUSE_SECONDS)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listening)
        self._loop.call_later(seconds, self._listen)

    def _say(self, error: OSError) -> None:
        self._failures += 1
        now = self._loop.time()
        if now >= self._say_at:
            log.error("connections could not be accepted, %d times: %s", self._failures, error.strerror)
            self._failures, self._say_at = 0, now + SAY_SECONDS

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._connections.lost()
            # Cut short or not encrypted at all, as by whoever only looks whether the port is open.
            log.debug("a connection was lost while it was opened: %r", task.exception())
