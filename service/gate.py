"""The outermost layer: request ids, timing, and every error as a problem document."""

import logging
import os
import re
import time

from starlette.exceptions import HTTPException

from service.errors import MethodNotAllowed, RouteNotFound, ServiceError, Unexpected
from service.metrics import Metrics
from service.problems import MEDIA_TYPE, problem
from service.routes import RETRY_AFTER_SECONDS, STATUS, ClientGone, Message, Receive, Scope, Send, respond

_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})

log = logging.getLogger("surprisal.http")


class Gate:
    """Wraps the application.

    Args:
        app: What answers.
        metrics: Where requests are counted.
        slow_seconds: Requests that take longer are logged.
    """

    def __init__(self, app: object, metrics: Metrics, slow_seconds: float) -> None:
        self._app = app
        self._metrics = metrics
        self._slow_seconds = slow_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see to it that it is answered, counted and, if need be, logged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)  # type: ignore[operator]
            return
        # A server leaves the body of the answer to a HEAD away by itself.
        routed = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        self._metrics.in_progress.inc()
        try:
            await self._app(routed, receive, send_with_id)  # type: ignore[operator]
        except ClientGone:
            status = 499
        except Exception as error:
            if status:  # the answer has begun; all that is left is to break it off
                raise
            refusal = _as_service_error(error)
            await self._refuse(refusal, request_id, send_with_id, error)
        finally:
            self._metrics.in_progress.dec()
            self._count(routed, scope["method"], status, time.perf_counter() - started, request_id)

    async def _refuse(self, refusal: ServiceError, request_id: bytes, send: Send, cause: Exception) -> None:
        status = STATUS[type(refusal)]
        self._metrics.rejected.labels(refusal.slug).inc()
        if status == 500:
            fields = {"request_id": request_id.decode(), "error": refusal.slug}
            log.error("a request failed", extra={"fields": fields}, exc_info=cause)
        headers: list[tuple[bytes, bytes]] = []
        if status in (429, 503):
            headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
        if refusal.allow:
            headers.append((b"allow", refusal.allow.encode()))
        if refusal.close:
            headers.append((b"connection", b"close"))
        await respond(send, status, problem(refusal, status, request_id.decode()), MEDIA_TYPE, headers)

    def _count(self, scope: Scope, method: str, status: int, seconds: float, request_id: bytes) -> None:
        # What has no path of its own is the documentation: its page, its assets, openapi.json.
        other = "unmatched" if status == 404 else "documentation"
        route = getattr(scope.get("route") or scope.get("endpoint"), "path", other)
        self._metrics.requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self._metrics.duration.labels(route).observe(seconds)
        if seconds > self._slow_seconds:
            fields = {"request_id": request_id.decode(), "route": route, "status": status, "seconds": round(seconds, 4)}
            log.warning("a request was slow", extra={"fields": fields})


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return bytes(value)
    return os.urandom(16).hex().encode()


def _as_service_error(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return RouteNotFound("there is no such path; GET /docs shows those that are")
    if isinstance(error, HTTPException) and error.status_code == 405:
        return MethodNotAllowed("this path takes other methods; see Allow", allow=(error.headers or {}).get("Allow"))
    return Unexpected("this should not have happened; the log has more under the request id")
