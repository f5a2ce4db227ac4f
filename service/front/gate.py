"""The outermost layer: a request's path is found once, then it is let in, passed on, and refused or counted."""

import asyncio
import logging
import os
import re
import time
from typing import Any

from service.errors import RouteNotFound, ShuttingDown
from service.exchange.exchange import Exchange
from service.exchange.routing import Found, Routes
from service.front import refusing
from service.front.entrance import Entrance
from service.models.registry import Models
from service.openinference import endpoint as openinference
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing
from service.wire import client
from service.wire.asgi import ClientGone, Headers, Message, Receive, Scope, Send
from service.wire.trace import CURRENT

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})

UNMATCHED = "unmatched"
"""In place of a route where there is no such path."""
_CAREFUL: tuple[tuple[bytes, bytes], ...] = ((b"x-content-type-options", b"nosniff"),)
_CAREFUL_PAGE = (
    *_CAREFUL,
    (b"referrer-policy", b"no-referrer"),
    # The page of the documentation is made of scripts and styles of its own.
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data:; frame-ancestors 'none'",
    ),
)

log = logging.getLogger("surprisal.http")


class Gate:
    """Answers every request, one way or another.

    Args:
        app: What answers all but `routes`: the framework's router costs more than the rest of a small request.
        routes: What is answered without it.
        entrance: Who may enter.
        metrics: Where requests are counted.
        models: Whether the service drains, so that clients are told to connect elsewhere.
        tracing: Where each request's trace begins.
        slow_seconds: Requests whose answer takes longer to begin are logged.
    """

    def __init__(
        self,
        app: Any,
        routes: Routes,
        entrance: Entrance,
        metrics: Metrics,
        models: Models,
        tracing: Tracing,
        slow_seconds: float,
    ) -> None:
        self._app = app
        self._routes = routes
        self._entrance = entrance
        self._metrics = metrics
        self._models = models
        self._tracing = tracing
        self._slow_seconds = slow_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see to it that it is answered, counted and, if need be, logged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers: Headers = dict(scope["headers"])
        request_id = _request_id(headers)
        trace = self._tracing.begin(request_id.decode(), headers, scope["method"])
        CURRENT.set(trace)
        found = self._routes.find(scope["path"])
        route = UNMATCHED if found is None else found.route.path
        answering = _Answering(send, request_id, self._models)
        self._metrics.in_progress += 1
        try:
            who = self._entrance.admit(scope, headers)
            if who is not None:
                client.CURRENT.set(who)
            route = await self._pass_on(found, scope, headers, receive, answering)
        except ClientGone as gone:
            answering.status = 499
            refusing.forget(gone)
        except asyncio.CancelledError:
            if answering.status or not self._models.draining:
                raise
            # The server's grace is over.
            ending = ShuttingDown("the service is shutting down; send it again", close=True)
            await refusing.refuse(ending, scope["path"], trace, answering, self._metrics)
        except Exception as error:
            if answering.status:  # the answer has begun; all that is left is to break it off
                raise
            await refusing.refuse(refusing.of(error), scope["path"], trace, answering, self._metrics)
            refusing.forget(error)
        finally:
            self._metrics.in_progress -= 1
            ended = answering.began or time.perf_counter()
            self._count(route, scope["method"], answering.status, ended - started)
            trace.end(scope["method"], None if route == UNMATCHED else route, answering.status)

    async def _pass_on(
        self, found: Found | None, scope: Scope, headers: Headers, receive: Receive, answering: "_Answering"
    ) -> str:
        """Have a request answered; returns its route, which of the framework's is known only then."""
        path = scope["path"]
        if found is not None:
            route, name, version = found
            route.refuse(scope["method"])
            arrived = time.monotonic()
            await route.handler(Exchange(name, version, scope["query_string"], headers, receive, answering, arrived))
            return route.path
        if openinference.is_under(path):
            raise RouteNotFound("there is no such path under /v2 here; GET /v2 lists the extensions of the protocol")
        # A server leaves the body of the answer to a HEAD away by itself.
        routed = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        answering.careful = _CAREFUL_PAGE
        await self._app(routed, receive, answering)
        # What has no path of its own is the documentation: its page, its assets, openapi.json.
        return getattr(routed.get("route") or routed.get("endpoint"), "path", "documentation")

    def _count(self, route: str, method: str, status: int, seconds: float) -> None:
        self._metrics.requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self._metrics.duration.labels(route).observe(seconds)
        if seconds > self._slow_seconds:
            fields = {"route": route, "status": status, "seconds": round(seconds, 4)}
            log.warning("a request was slow", extra={"fields": fields})


class _Answering:
    """Sends an answer with the headers that every one has, and remembers its status and when it began."""

    def __init__(self, send: Send, request_id: bytes, models: Models) -> None:
        self._send = send
        self._request_id = request_id
        self._models = models
        self.careful = _CAREFUL
        self.status = 0
        # A stream goes on for as long as its client sends; what counts is when its answer begins.
        self.began: float | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.began = time.perf_counter()
            message["headers"] = [*message["headers"], *self.careful, (b"x-request-id", self._request_id)]
            if self._models.draining:
                message["headers"].append((b"connection", b"close"))
        await self._send(message)


def _request_id(headers: Headers) -> bytes:
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return os.urandom(16).hex().encode()
