"""The outermost layer: request ids, timing, every error as a problem document, and the short way to scoring."""

import asyncio
import logging
import os
import re
import time
import traceback
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException

from service.errors import MethodNotAllowed, RouteNotFound, ServiceError, ShuttingDown, Unexpected
from service.front import access
from service.front.keys import KeyRing
from service.front.origins import Origins
from service.models.registry import Models
from service.openinference import endpoint
from service.openinference.endpoint import OpenInference
from service.score.endpoint import ScoreEndpoint
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing
from service.wire import client
from service.wire.asgi import ClientGone, Headers, Message, Receive, Scope, Send, respond
from service.wire.client import Clients
from service.wire.problems import HEADERS, MEDIA_TYPE, RETRY_AFTER_SECONDS, STATUS, problem
from service.wire.trace import CURRENT, Trace

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_SCORE = re.compile(r"(?:/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?)?/score")
_SCORE_ROUTES = ("/score", "/models/{name}/score", "/models/{name}/versions/{version}/score")

OPERATORS = "surprisal.operators"
"""In the scope of what is asked on the port for operators."""
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
        app: What answers all but scoring: the framework's router costs more than the rest of a small request.
        score: What answers `POST /score` and its kin.
        open_inference: What answers under `/v2`.
        metrics: Where requests are counted.
        models: Whether the service drains, so that clients are told to connect elsewhere.
        keys: Who may ask.
        clients: Who asks.
        origins: By which names, and from whose pages.
        tracing: Where each request's trace begins.
        two_ports: Whether operators have a port of their own.
        slow_seconds: Requests whose answer takes longer to begin are logged.
    """

    def __init__(
        self,
        app: Any,
        score: ScoreEndpoint,
        open_inference: OpenInference,
        metrics: Metrics,
        models: Models,
        keys: KeyRing,
        clients: Clients,
        origins: Origins,
        tracing: Tracing,
        two_ports: bool,
        slow_seconds: float,
    ) -> None:
        self._app = app
        self._score = score
        self._open_inference = open_inference
        self._metrics = metrics
        self._models = models
        self._keys = keys
        self._clients = clients
        self._origins = origins
        self._tracing = tracing
        self._two_ports = two_ports
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
        careful = _CAREFUL
        status = 0
        # A stream goes on for as long as its client sends; what counts is when its answer begins.
        answered: float | None = None
        route = UNMATCHED

        async def send_with_id(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = time.perf_counter()
                message["headers"] = [*message["headers"], *careful, (b"x-request-id", request_id)]
                if self._models.draining:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        self._metrics.in_progress += 1
        try:
            if OPERATORS not in scope:
                self._origins.check(scope, headers)
                client.CURRENT.set(self._client(scope))
            if self._two_ports and not access.is_here(scope["path"], operators=OPERATORS in scope):
                raise RouteNotFound("this path is not answered on this port")
            scoring = _scoring(scope["path"])
            if scoring is not None:
                route, name, version = scoring
                if scope["method"] != "POST":
                    raise MethodNotAllowed("this path takes POST", allow="POST")
                await self._score(scope, headers, receive, send_with_id, name, version)
            elif endpoint.is_under(scope["path"]):
                found = self._open_inference.find(scope["path"])
                route = found.route.path
                await self._open_inference(found, scope, headers, receive, send_with_id)
            else:
                # A server leaves the body of the answer to a HEAD away by itself.
                routed = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                careful = _CAREFUL_PAGE
                await self._app(routed, receive, send_with_id)
                route = _route(routed)
        except ClientGone as gone:
            status = 499
            _forget(gone)
        except asyncio.CancelledError as error:
            if status or not self._models.draining:
                raise
            # The server's grace is over.
            ending = ShuttingDown("the service is shutting down; send it again", close=True)
            trace.error = ending.slug
            await self._refuse(ending, trace, send_with_id, error, *_document(scope))
        except Exception as error:
            if status:  # the answer has begun; all that is left is to break it off
                raise
            refusal = _as_service_error(error)
            trace.error = refusal.slug
            await self._refuse(refusal, trace, send_with_id, error, *_document(scope))
            _forget(error)
        finally:
            self._metrics.in_progress -= 1
            self._count(route, scope["method"], status, (answered or time.perf_counter()) - started)
            trace.end(scope["method"], None if route == UNMATCHED else route, status)

    def _client(self, scope: Scope) -> str:
        """Who asks; where keys are asked for, whoever has none that is good for this is refused."""
        role = access.needed(scope["path"]) if self._keys.locked else None
        if role is None:
            return self._clients.named(scope.get("client"), scope["headers"])
        return f"key:{self._keys.require(scope['headers'], role).hex()}"

    async def _refuse(
        self,
        refusal: ServiceError,
        trace: Trace,
        send: Send,
        cause: BaseException,
        write: Callable[[ServiceError, Trace], bytes],
        media_type: bytes,
    ) -> None:
        status = STATUS[type(refusal)]
        self._metrics.rejected.labels(refusal.slug).inc()
        if status == 500:
            log.error("a request failed", extra={"fields": {"error": refusal.slug}}, exc_info=cause)
        headers: list[tuple[bytes, bytes]] = []
        if status in (429, 503):
            headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
        if refusal.allow:
            headers.append((b"allow", refusal.allow.encode()))
        headers += HEADERS.get(type(refusal), ())
        if refusal.close:
            headers.append((b"connection", b"close"))
        await respond(send, status, write(refusal, trace), media_type, headers)

    def _count(self, route: str, method: str, status: int, seconds: float) -> None:
        self._metrics.requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self._metrics.duration.labels(route).observe(seconds)
        if seconds > self._slow_seconds:
            fields = {"route": route, "status": status, "seconds": round(seconds, 4)}
            log.warning("a request was slow", extra={"fields": fields})


def is_hot(path: str) -> bool:
    """Whether a path is answered without the framework."""
    return _scoring(path) is not None or endpoint.is_under(path)


def _document(scope: Scope) -> tuple[Callable[[ServiceError, Trace], bytes], bytes]:
    """What writes a refusal, and its media type: clients of `/v2` read `error` only where that is plain JSON."""
    return (endpoint.refusal, b"application/json") if endpoint.is_under(scope["path"]) else (problem, MEDIA_TYPE)


def _scoring(path: str) -> tuple[str, str | None, str | None] | None:
    """Route, model and version of a path that scores."""
    if path == _SCORE_ROUTES[0]:  # most do
        return path, None, None
    matched = _SCORE.fullmatch(path)
    return None if matched is None else (_SCORE_ROUTES[matched.lastindex or 0], matched["name"], matched["version"])


def _request_id(headers: Headers) -> bytes:
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return os.urandom(16).hex().encode()


def _route(scope: Scope) -> str:
    # What has no path of its own is the documentation: its page, its assets, openapi.json.
    return getattr(scope.get("route") or scope.get("endpoint"), "path", "documentation")


def _forget(error: BaseException) -> None:
    """Let go of what the frames of an error hold, the request's body for one: nobody looks for such circles soon."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None  # which leads to the gate's own frame, and that back to the error
        link = link.__cause__ or link.__context__


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return RouteNotFound("there is no such path; GET /docs shows those that are")
    if isinstance(error, HTTPException) and error.status_code == 405:
        return MethodNotAllowed("this path takes other methods; see Allow", allow=(error.headers or {}).get("Allow"))
    return Unexpected("this should not have happened; the log has more under the request id")
