"""uvicorn with our own shutdown: not ready first, then deaf, then done, with exit code 0."""

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn

from service.engine.run_guard import GUARD
from service.front.app import Application
from service.front.keys import KeyRing
from service.front.shared_keys import SharedKeys
from service.models import daemon_thread
from service.models.quarantine import Quarantine
from service.process import open_files
from service.process.acceptor import Acceptor
from service.process.connections import Connections
from service.process.protocol import (
    CONNECTION_BYTES,
    SWEEP_SECONDS,
    TLS_CONNECTION_BYTES,
    LimitedProtocol,
    Limits,
    limited,
)
from service.settings import Settings
from service.telemetry import worker_table
from service.telemetry.tracing import TracingUnusable
from service.telemetry.worker_table import WorkerTable
from service.wire.asgi import Receive, Scope, Send

BEAT_SECONDS = 0.1
MOST_OPERATORS = 32
"""Connections on the port for operators, in each worker."""
LAST_CALL_SECONDS = 0.5
"""Between the last connection that is accepted and the closing of those that ask for nothing."""
App = Callable[[Scope, Receive, Send], Awaitable[None]]

GARBAGE = 50_000
"""Lists, dictionaries and the like that are made before Python looks for those that only refer to one another."""

log = logging.getLogger("surprisal.server")


@dataclass(frozen=True)
class Share:
    """What a worker has from its supervisor.

    Args:
        sockets: Those that all workers accept from.
        operators: The socket of the port for operators, or None.
        lifeline: File descriptor whose end means SIGTERM.
        table: What is known of each worker.
        worker: This one's place among them.
        keys: Who may ask.
        quarantine: Versions whose graph had to be stopped.
        started: Told that connections are accepted.
    """

    sockets: Sequence[socket.socket]
    operators: socket.socket | None
    lifeline: int
    table: WorkerTable
    worker: int
    keys: SharedKeys
    quarantine: Quarantine
    started: Callable[[], None]


class Server(uvicorn.Server):
    """A server that goes on accepting connections for a while after SIGTERM, so that balancers can look away.

    Args:
        config: uvicorn's.
        drain: Told that the service drains.
        drain_seconds: How long it goes on.
        share: What it has from its supervisor.
        operators: What answers on the port for operators.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Callable[[], None],
        drain_seconds: float,
        share: Share,
        operators: App,
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_seconds = drain_seconds
        self._share = share
        self._operators = operators
        self._operators_state = uvicorn.server.ServerState()
        self._acceptors: list[Acceptor] = []
        self._operators_acceptor: Acceptor | None = None
        self._stop_at: float | None = None
        self._swept = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at Ctrl-C, or before the first connection, stop listening at once.

        SIGTERM and SIGHUP may come twice at one time, from whoever ends all processes of a group, and from the
        supervisor.
        """
        self._drain()
        if self._stop_at is not None and sig != signal.SIGINT:
            return
        if sig == signal.SIGINT or not self.started:
            self.force_exit = self.should_exit
            self.should_exit = True
        else:
            self._stop_at = time.monotonic() + self._drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load, listen, and say so."""
        share = self._share
        loop = asyncio.get_running_loop()
        self._beat(loop)
        signal.signal(signal.SIGHUP, self.handle_exit)
        await super().startup([])
        if share.operators is not None:
            self._answer_operators(share.operators)
        # What is there by now stays; looking through it again and again would stop every request for some 25 ms. What
        # a large request or answer is made of holds no cycles: looking through that took a fifth of decoding it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE)
        assert issubclass(self.config.http_protocol_class, LimitedProtocol)
        limits = self.config.http_protocol_class.limits
        most = min(open_files.most_connections(), limits.connections)
        connections = Connections(share.table, share.worker, most)
        self.server_state.connections = connections
        for each in share.sockets:
            self._acceptors.append(Acceptor(each, self._protocol, connections, self.config.ssl, limits.head_seconds))
        loop.add_reader(share.lifeline, self._orphaned, loop, share.lifeline)
        share.started()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Show the supervisor that the event loop runs: while it starts, serves and ends."""
        self._share.table.beats[self._share.worker] = time.monotonic_ns()
        loop.call_later(BEAT_SECONDS, self._beat, loop)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    def _answer_operators(self, listening: socket.socket) -> None:
        config = _config(
            self._operators, http=self.config.http, lifespan="off", timeout_keep_alive=self.config.timeout_keep_alive
        )
        config.load()
        # Of these connections nobody else knows.
        connections = Connections(WorkerTable(worker_table.new_file(1)), 0, MOST_OPERATORS)
        self._operators_state.connections = connections

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self._operators_state, app_state={}
            )
            return made

        self._operators_acceptor = Acceptor(listening, protocol, connections)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and wait for what was begun."""
        for acceptor in self._acceptors:
            acceptor.close()
        # What was accepted last has yet to say what it wants.
        await asyncio.sleep(LAST_CALL_SECONDS)
        await super().shutdown(sockets)
        # Until the very end: what drains is still looked at.
        if self._operators_acceptor is not None:
            self._operators_acceptor.close()
            for connection in list(self._operators_state.connections):
                connection.shutdown()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; true once it is time to stop listening."""
        now = asyncio.get_running_loop().time()
        if now - self._swept > SWEEP_SECONDS:
            self._swept = now
            for connection in [*self.server_state.connections, *self._operators_state.connections]:
                if isinstance(connection, LimitedProtocol):
                    connection.sweep(now)
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)

    def _orphaned(self, loop: asyncio.AbstractEventLoop, lifeline: int) -> None:
        loop.remove_reader(lifeline)
        self.handle_exit(signal.SIGTERM, None)


def serve(settings: Settings, share: Share) -> None:
    """Serve in this process until a signal ends it.

    Args:
        settings: Of the service.
        share: What it has from its supervisor.

    Raises:
        SystemExit: 1; the start failed, and the log says why.
    """
    try:
        app = Application(settings, share.table, share.worker, KeyRing(settings, share.keys), share.quarantine)
    except TracingUnusable as error:
        log.error("traces cannot be sent: %s", error)
        raise SystemExit(1) from error
    each = CONNECTION_BYTES if settings.tls_certificate is None else TLS_CONNECTION_BYTES
    limits = Limits(
        settings.max_head_bytes,
        settings.head_seconds,
        settings.idle_seconds,
        settings.write_idle_seconds,
        app.connection_bytes // each,
    )
    config = _config(
        app,
        http=limited(limits, lambda reason: app.metrics.rejected.labels(reason).inc(), app.budget),
        timeout_keep_alive=math.ceil(settings.idle_seconds),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=round(settings.grace_seconds),
    )

    def drain() -> None:
        app.models.draining = True

    try:
        Server(config, drain, settings.drain_seconds, share, app.operators).run()
    except SystemExit as error:
        raise SystemExit(1) from error  # uvicorn's own code for a failed start is 3
    finally:
        share.table.beats[share.worker] = 0  # no event loop runs any more
    if GUARD.running or daemon_thread.left_behind():
        # All is answered and written. Who waits for such a thread may wait for ever.
        logging.shutdown()
        os._exit(0)


def _config(app: App, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        proxy_headers=False,  # nothing here asks who the client is
        ws="none",
        reset_contextvars=True,  # or a pipelined request would begin in the context of the one before
        log_config=None,
        access_log=False,
        server_header=False,
        **options,
    )
