"""What is said to a request that is refused or fails: a problem document, in the words of its protocol."""

import logging
import traceback

from starlette.exceptions import HTTPException

from service.errors import MethodNotAllowed, RouteNotFound, ServiceError, Unexpected
from service.openinference import endpoint as openinference
from service.telemetry.metrics import Metrics
from service.wire.asgi import Send, respond
from service.wire.problems import HEADERS, MEDIA_TYPE, RETRY_AFTER_SECONDS, STATUS, problem
from service.wire.trace import Trace

log = logging.getLogger("surprisal.http")


async def refuse(refusal: ServiceError, path: str, trace: Trace, send: Send, metrics: Metrics) -> None:
    """Answer with a refusal; a failure of ours is logged with its cause.

    Args:
        refusal: Why.
        path: Of the request. Clients of `/v2` read `error` only where the document is plain JSON.
        trace: Of the request.
        send: Where the answer goes.
        metrics: Where it is counted.
    """
    trace.error = refusal.slug
    status = STATUS[type(refusal)]
    metrics.rejected.labels(refusal.slug).inc()
    if status == 500:
        cause = refusal.__cause__ if isinstance(refusal, Unexpected) else refusal
        log.error("a request failed", extra={"fields": {"error": refusal.slug}}, exc_info=cause)
    headers: list[tuple[bytes, bytes]] = []
    if status in (429, 503):
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    if refusal.allow:
        headers.append((b"allow", refusal.allow.encode()))
    headers += HEADERS.get(type(refusal), ())
    if refusal.close:
        headers.append((b"connection", b"close"))
    if openinference.is_under(path):
        await respond(send, status, openinference.refusal(refusal, trace), b"application/json", headers)
    else:
        await respond(send, status, problem(refusal, trace), MEDIA_TYPE, headers)


def of(error: Exception) -> ServiceError:
    """The refusal that an error means; what nobody foresaw is its cause."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return RouteNotFound("there is no such path; GET /docs shows those that are")
    if isinstance(error, HTTPException) and error.status_code == 405:
        return MethodNotAllowed("this path takes other methods; see Allow", allow=(error.headers or {}).get("Allow"))
    unexpected = Unexpected("this should not have happened; the log has more under the request id")
    unexpected.__cause__ = error
    return unexpected


def forget(error: BaseException) -> None:
    """Let go of what the frames of an error hold, the request's body for one: nobody looks for such circles soon."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None  # which leads to the gate's own frame, and that back to the error
        link = link.__cause__ or link.__context__
