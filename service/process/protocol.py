"""uvicorn's HTTP protocol with the limits that it lacks: on heads, on time, on silence, on what a connection holds."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import MemoryFull
from service.wire.memory_budget import Budget

SWEEP_SECONDS = 1.0
"""Connections are looked at this often: a timer for each request would cost more."""
LINGER_SECONDS = 2.0
"""For so long what a client goes on sending is thrown away, so that it sees why it was refused."""
MOST_HEADERS = 256
"""Lines of a request's head: each takes a hundred bytes besides its own."""
MOST_PIPELINED = 64
"""Requests that may wait behind the one that is answered, on one connection."""
CONNECTION_BYTES = 2**15
"""What a connection takes that holds little: its objects, a small request, a small answer."""
TLS_CONNECTION_BYTES = 3 * 2**17
"""The same of an encrypted one, which has a buffer of a quarter of a MiB."""
_LITTLE = 2**13
"""Bytes of a request that a connection may have read and not passed on without reserving memory."""
_WRITE_BUFFER = 2**14
"""Bytes of an answer that may wait for a client to read on without anything being reserved."""
_BUSY_BYTES = 2**19
"""Reserved for a connection that holds more: what is read at a time, what is sent at a time, what is pipelined."""

log = logging.getLogger("surprisal.http")


class Limits(NamedTuple):
    """What a client may take before it has asked for anything.

    Args:
        head_bytes: Most bytes of a request's head, what follows a chunked body (trailers) included.
        head_seconds: From a head's first byte to its end, and from an answer to the end of its request's body.
        idle_seconds: Without a request: at first, and between two.
        write_idle_seconds: Without reading on, where there is something to read.
        connections: How many there may be in a worker, by the memory that each takes.
    """

    head_bytes: int
    head_seconds: float
    idle_seconds: float
    write_idle_seconds: float
    connections: int


class _Parser:
    """httptools' parser, for a server that speaks HTTP/1.1 and nothing else.

    By itself it stops behind the head of a request that offers another protocol, as curl and Java's client do to an
    address that they have not met, and leaves the body there, to be lost or read as a request. Such an offer is to be
    ignored (RFC 9110, section 7.8).

    Args:
        protocol: What it calls.
    """

    def __init__(self, protocol: "LimitedProtocol") -> None:
        self._protocol = protocol
        self._inner = self._new()

    def feed_data(self, data: bytes) -> None:
        """Parse what has come.

        Raises:
            HttpParserError: It is no HTTP.
        """
        while data:
            try:
                self._inner.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                self._inner = self._new()
                self._protocol.go_on(self._inner)
            else:
                return

    def offers_upgrade(self) -> bool:
        """Whether the request that is parsed offers another protocol."""
        return bool(self._inner.should_upgrade())

    def should_upgrade(self) -> bool:
        """Never."""
        return False

    def should_keep_alive(self) -> bool:
        """Whether the connection may serve another request."""
        return bool(self._inner.should_keep_alive())

    def get_method(self) -> bytes:
        """The request's method."""
        method: bytes = self._inner.get_method()
        return method

    def get_http_version(self) -> str:
        """The request's version of HTTP."""
        version: str = self._inner.get_http_version()
        return version

    def _new(self) -> Any:
        parser = httptools.HttpRequestParser(self._protocol)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        return parser


class LimitedProtocol(HttpToolsProtocol):
    """One connection; see `limited`, which makes the class that a server uses."""

    limits: ClassVar[Limits]
    count: ClassVar["staticmethod[[str], None]"]
    budget: ClassVar[Budget]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        self._since = self.loop.time()
        self._in_message = self._in_head = self._heard = self._refused = self._too_large = self._going_on = False
        self._busy = False
        self._head_bytes = self._head_lines = self._waiting_bytes = self._begun_bytes = self._unread = 0
        self._unread_since = self._since
        self.parser = _Parser(self)  # type: ignore[assignment]
        super().connection_made(transport)
        transport.set_write_buffer_limits(_WRITE_BUFFER)
        self._peer = self.client[0] if self.client else ""

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._be_idle()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        self._be_busy()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        self._unread_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._refused:
            return
        self._heard = False
        super().data_received(data)
        # What the parser holds back, the value of a header or trailer for example, is in no callback yet.
        self._waiting_bytes = 0 if self._heard or not self._in_message else self._waiting_bytes + len(data)
        if self._too_large or max(self._head_bytes, self._waiting_bytes) > self.limits.head_bytes:
            most = f"{self.limits.head_bytes} bytes or {MOST_HEADERS} lines"
            self._refuse(431, "head-too-large", f"The head of the request is over {most}.")
        self._begun_bytes = self._begun_bytes + len(data) if self._in_message else 0
        if max(self._begun_bytes, len(data)) > _LITTLE:
            self._be_busy()

    def on_message_begin(self) -> None:
        """Called by the parser, at a request's first byte."""
        if self._too_large or self._going_on:
            return
        super().on_message_begin()
        self._in_message = self._in_head = self._heard = True
        self._head_bytes = self._head_lines = 0
        self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        if self._too_large or self._going_on:
            return
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, for trailers too."""
        if self._too_large or self._going_on:
            return
        self._heard = True
        self._head_bytes += len(name) + len(value) + 4  # the colon, the space and the end of the line
        self._head_lines += 1
        if self._head_bytes <= self.limits.head_bytes and self._head_lines <= MOST_HEADERS:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._too_large or self._going_on:
            return
        self._in_head = False
        fits = self._head_bytes <= self.limits.head_bytes and self._head_lines <= MOST_HEADERS
        if fits and len(self.pipeline) < MOST_PIPELINED:
            super().on_headers_complete()
        else:
            # The parser goes on with what came in the same piece; none of that is heard.
            self._too_large = True

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._heard = True
        if not self._too_large:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._too_large or (cast(_Parser, self.parser).offers_upgrade() and self._framing()):
            return
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called once an answer has been sent."""
        self._since = self.loop.time()
        super().on_response_complete()
        if self._busy and not (self.pipeline or self._in_message or self.flow.write_paused):
            self._be_idle()

    def go_on(self, parser: Any) -> None:
        """Let another parser take over behind the head of a request, for its body.

        Args:
            parser: httptools' own, which calls this protocol.
        """
        if framing := self._framing():
            self._going_on = True
            parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
            self._going_on = False

    def _framing(self) -> bytes:
        """Those lines of the request's head that say how long its body is; nothing where there is none."""
        lengths = (b"content-length", b"transfer-encoding")
        return b"".join(b"%s: %s\r\n" % (name, value) for name, value in self.headers if name in lengths)

    def sweep(self, now: float) -> None:
        """End what has taken too long; called every `SWEEP_SECONDS`.

        Args:
            now: On the event loop's clock, in seconds.
        """
        if self._is_unread(now):
            self.count("client-not-reading")
            log.warning("a client was cut off: it read nothing for %g seconds", self.limits.write_idle_seconds)
            self.transport.abort()
            return
        answered = self.cycle is None or self.cycle.response_complete
        if self._refused or self.transport.is_closing() or not (answered or self._in_head):
            return
        seconds = now - self._since
        if self._in_head and seconds > self.limits.head_seconds:
            seconds_allowed = f"{self.limits.head_seconds:g}"
            self._refuse(408, "head-too-slow", f"The head of the request took over {seconds_allowed} seconds.")
        elif not self._in_head and seconds > (
            self.limits.head_seconds if self._in_message else self.limits.idle_seconds
        ):
            self.transport.close()

    def _is_unread(self, now: float) -> bool:
        """Whether the client has read nothing for too long of what there is to read."""
        unread = self.transport.get_write_buffer_size()
        if not unread or unread < self._unread:
            self._unread_since = now
        self._unread = unread
        return now - self._unread_since > self.limits.write_idle_seconds

    def _be_busy(self) -> None:
        """Reserve what a connection may hold, unless that is so; or end it."""
        if self._busy or self._refused:
            return
        if self.budget.take(_BUSY_BYTES, self._peer):
            self._busy = True
        elif self.flow.write_paused:
            self.count(MemoryFull.slug)
            self.transport.abort()
        else:
            self._refuse(429, MemoryFull.slug, "Other requests have the memory for now; try again soon.")

    def _be_idle(self) -> None:
        if self._busy:
            self._busy = False
            self.budget.give(_BUSY_BYTES, self._peer)

    @property
    def idle_since(self) -> float | None:
        """Since when nothing is asked, on the event loop's clock in seconds; None while something is."""
        answered = self.cycle is None or self.cycle.response_complete
        busy = not answered or self._in_message or self._refused or self.transport.is_closing()
        return None if busy else self._since

    def let_go(self) -> None:
        """Close the connection, on which nothing is asked, at once."""
        self.transport.abort()

    def _refuse(self, status: int, reason: str, text: str) -> None:
        self._refused = True
        self.count(reason)
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started or self.pipeline:
                self.transport.close()  # in the middle of another answer nothing can be said
                return
            # Whoever answers this request is told that its client has left, and says nothing more.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        head = f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(text)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head.encode() + text.encode())
        self._unset_keepalive_if_required()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


def limited(limits: Limits, count: Callable[[str], None], budget: Budget) -> type[LimitedProtocol]:
    """The class of a server's connections.

    Args:
        limits: Of each.
        count: Told the reason when one is refused.
        budget: The memory that requests may take.
    """
    members = {"limits": limits, "count": staticmethod(count), "budget": budget}
    return type("LimitedProtocol", (LimitedProtocol,), members)
