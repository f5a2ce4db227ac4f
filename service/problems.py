"""Refusals as `application/problem+json` (RFC 9457); they never echo a value of the request."""

import orjson

from service.errors import RequestInvalid, ServiceError

MEDIA_TYPE = b"application/problem+json"


def problem(error: ServiceError, status: int, request_id: str) -> bytes:
    """The body of a refusal.

    Args:
        error: Why.
        status: The HTTP status that it is sent with.
        request_id: Of the request.
    """
    content: dict[str, object] = {
        "type": error.slug,
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "request_id": request_id,
    }
    if isinstance(error, RequestInvalid):
        content["errors"] = [fault._asdict() for fault in error.faults]
    return orjson.dumps(content)
