"""uvicorn with our own shutdown: not ready first, then deaf, then done, with exit code 0."""

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn

from service import cpus, daemon_thread, logs, scorer
from service.acceptor import Acceptor
from service.asgi import Receive, Scope, Send
from service.connections import Connections, Counts
from service.protocol import SWEEP_SECONDS, LimitedProtocol, Limits, limited
from service.run_guard import GUARD
from service.settings import Settings

LAST_CALL_SECONDS = 0.1
"""Between the last connection that is accepted and the closing of those that ask for nothing."""
App = Callable[[Scope, Receive, Send], Awaitable[None]]

GARBAGE = 50_000
"""Lists, dictionaries and the like that are made before Python looks for those that only refer to one another."""

log = logging.getLogger("surprisal.server")


class CertificateUnusable(Exception):
    """The certificate or its key cannot be used; the message names both."""


@dataclass(frozen=True)
class Share:
    """What one of several workers has from its supervisor.

    Args:
        listening: The socket that all of them accept from.
        lifeline: File descriptor whose end means SIGTERM.
        counts: How many connections each worker has.
        worker: This one's place among them.
        operators: The socket of the port for operators, or None.
        started: Told that connections are accepted.
    """

    listening: socket.socket
    lifeline: int
    counts: Counts
    worker: int
    operators: socket.socket | None
    started: Callable[[], None]


class Server(uvicorn.Server):
    """A server that goes on accepting connections for a while after SIGTERM, so that balancers can look away.

    Args:
        config: uvicorn's.
        drain: Told that the service drains.
        drain_seconds: How long it goes on.
        share: Of several workers', or None.
        operators: What answers on the port for operators, and its socket; or None.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Callable[[], None],
        drain_seconds: float,
        share: Share | None,
        operators: tuple[App, socket.socket] | None,
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_seconds = drain_seconds
        self._share = share
        self._operators = operators
        self._operators_state = uvicorn.server.ServerState()
        self._operators_server: asyncio.Server | None = None
        self._acceptor: Acceptor | None = None
        self._stop_at: float | None = None
        self._swept = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at a second signal, at Ctrl-C, or before the first connection, stop listening at once.

        A worker may get SIGTERM twice at one time, from whoever ends all processes of a group, and from its supervisor.
        """
        self._drain()
        if self._stop_at is not None and self._share is not None and sig == signal.SIGTERM:
            return
        if sig == signal.SIGINT or self._stop_at is not None or not self.started:
            self.force_exit = self.should_exit
            self.should_exit = True
        else:
            self._stop_at = time.monotonic() + self._drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load, listen, and say so."""
        share = self._share
        await super().startup(None if share is None else [])
        if self._operators is not None:
            await self._answer_operators(*self._operators)
        # What is there by now stays; looking through it again and again would stop every request for some 25 ms. What
        # a large request or answer is made of holds no cycles: looking through that took a fifth of decoding it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE)
        if share is not None:
            connections = Connections(share.counts, share.worker)
            self.server_state.connections = connections
            assert issubclass(self.config.http_protocol_class, LimitedProtocol)
            seconds = self.config.http_protocol_class.limits.head_seconds
            self._acceptor = Acceptor(share.listening, self._protocol, connections, self.config.ssl, seconds)
            loop = asyncio.get_running_loop()
            loop.add_reader(share.lifeline, self._orphaned, loop, share.lifeline)
            share.started()

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def _answer_operators(self, app: App, listening: socket.socket) -> None:
        config = _config(app, http=self.config.http, lifespan="off", timeout_keep_alive=self.config.timeout_keep_alive)
        config.load()

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self._operators_state, app_state={}
            )
            return made

        # Until the very end: what drains is still looked at.
        self._operators_server = await asyncio.get_running_loop().create_server(protocol, sock=listening)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and wait for what was begun."""
        if self._acceptor is not None:
            self._acceptor.close()
            # What was accepted last has yet to say what it wants.
            await asyncio.sleep(LAST_CALL_SECONDS)
        await super().shutdown(sockets)
        if self._operators_server is not None:
            self._operators_server.close()
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


def run(settings: Settings) -> int:
    """Serve until a signal ends it, with as many workers as the settings or the processors say.

    Args:
        settings: Of the service.

    Returns:
        The exit code.

    Raises:
        DeviceUnavailable: The device asked for cannot be had.
        CertificateUnusable: The certificate and its key are not what they should be.
        OSError: The address cannot be listened on.
        SystemExit: 1; the start failed, and the log says why.
    """
    scorer.require(settings.device)
    _require_certificate(settings)
    _allow_open_files()
    # A GPU is kept busy by one worker, and each would hold its own copy of every model.
    workers = settings.workers or (1 if scorer.expects_cuda(settings.device) else cpus.available())
    if workers > 1:
        from service import supervisor  # which takes a Unix

        return supervisor.run(settings, workers)
    logs.configure(settings.log_level)
    serve(settings)
    return 0


def serve(settings: Settings, share: Share | None = None) -> None:
    """Serve in this process until a signal ends it.

    Args:
        settings: Of the service.
        share: Of several workers', or None for one that listens by itself.

    Raises:
        SystemExit: 1; the port is taken, or the start failed otherwise, and the log says why.
    """
    # Only now: a worker of several has been told by now where they share their counts.
    from service.app import Application
    from service.keys import KeysInvalid
    from service.tracing import TracingUnusable

    try:
        app = Application(settings)
    except TracingUnusable as error:
        log.error("traces cannot be sent: %s", error)
        raise SystemExit(1) from error
    except KeysInvalid as error:
        log.error("the keys cannot be used: %s", error)
        raise SystemExit(1) from error
    limits = Limits(settings.max_head_bytes, settings.head_seconds, settings.idle_seconds)
    config = _config(
        app,
        host=settings.host,
        port=settings.port,
        http=limited(limits, lambda reason: app.metrics.rejected.labels(reason).inc()),
        timeout_keep_alive=math.ceil(settings.idle_seconds),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        timeout_graceful_shutdown=round(settings.grace_seconds),
    )
    listening = share.operators if share is not None else operators_socket(settings)
    operators = None if listening is None else (app.operators, listening)

    def drain() -> None:
        app.models.draining = True

    try:
        Server(config, drain, settings.drain_seconds, share, operators).run()
    except SystemExit as error:
        raise SystemExit(1) from error  # uvicorn's own code for a failed start is 3
    if GUARD.running or daemon_thread.left_behind():
        # All is answered and written. Who waits for such a thread may wait for ever.
        logging.shutdown()
        os._exit(0)


def operators_socket(settings: Settings) -> socket.socket | None:
    """A socket that listens on the port for operators; None where there is no such port.

    Raises:
        OSError: It cannot be listened on; `filename` is the address.
    """
    if settings.ops_port is None:
        return None
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.ops_port), family=family)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{settings.host}:{settings.ops_port}") from error
    host = f"[{settings.host}]" if family == socket.AF_INET6 else settings.host
    log.info("operators are answered on http://%s:%d", host, listening.getsockname()[1])
    return listening


def _require_certificate(settings: Settings) -> None:
    if settings.tls_certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:  # ssl's own among them
        reason = getattr(error, "reason", None) or error.strerror or "they are no PEM, or the key has a password"
        raise CertificateUnusable(
            f"{settings.tls_certificate} and {settings.tls_key} cannot be used: {reason}"
        ) from error


def _allow_open_files() -> None:
    """As many as may be: a connection is one, and the usual limit allows a thousand."""
    try:
        import resource
    except ImportError:  # no Unix, and no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
