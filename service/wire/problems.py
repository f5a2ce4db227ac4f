"""Refusals as `application/problem+json` (RFC 9457), and the one table from error to status; no value is echoed."""

import orjson

from service import errors
from service.errors import RequestInvalid, ServiceError
from service.wire.trace import Trace

MEDIA_TYPE = b"application/problem+json"
STATUS: dict[type[ServiceError], int] = {
    errors.BodyMalformed: 400,
    errors.HostInvalid: 400,
    errors.KeyMissing: 401,
    errors.KeyForbidden: 403,
    errors.UnknownHost: 403,
    errors.ForeignOrigin: 403,
    errors.RouteNotFound: 404,
    errors.ModelNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.NotAcceptable: 406,
    errors.BodyTooSlow: 408,
    errors.ModelRefused: 409,
    errors.ModelsNotWritable: 409,
    errors.BodyTooLarge: 413,
    errors.TooManyRecords: 413,
    errors.MediaTypeUnsupported: 415,
    errors.EncodingUnsupported: 415,
    errors.RequestInvalid: 422,
    errors.QueueFull: 429,
    errors.MemoryFull: 429,
    errors.InferenceFailed: 500,
    errors.Unexpected: 500,
    errors.NotReady: 503,
    errors.ShuttingDown: 503,
    errors.DeadlineExceeded: 504,
}
RETRY_AFTER_SECONDS = 1
CODINGS = ("gzip", "deflate", "identity")
"""Content encodings that are read (RFC 9110, section 8.4.1)."""
HEADERS: dict[type[ServiceError], tuple[tuple[bytes, bytes], ...]] = {
    errors.KeyMissing: ((b"www-authenticate", b'Bearer realm="surprisal"'),),
    errors.EncodingUnsupported: ((b"accept-encoding", ", ".join(CODINGS).encode()),),
}
"""What the head of a refusal says besides (RFC 9110, sections 11.6.1 and 15.5.16)."""


def problem(error: ServiceError, trace: Trace) -> bytes:
    """The body of a refusal.

    Args:
        error: Why.
        trace: Of the request.
    """
    content: dict[str, object] = {
        "type": error.slug,
        "title": error.title,
        "status": STATUS[type(error)],
        "detail": error.detail,
        "request_id": trace.request_id,
    }
    if trace.trace_id is not None:
        content["trace_id"] = trace.trace_id
    if isinstance(error, RequestInvalid):
        content["errors"] = [fault._asdict() for fault in error.faults]
    return orjson.dumps(content)
