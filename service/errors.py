"""Everything that a request can be refused for, with a stable slug each. No HTTP here: `problems` gives the status.

ServiceError
├── BodyMalformed          malformed-body
├── HostInvalid            invalid-host
├── UnknownHost            unknown-host
├── ForeignOrigin          foreign-origin
├── BodyTooSlow            body-too-slow
├── BodyTooLarge           body-too-large
├── TooManyRecords         too-many-records
├── MediaTypeUnsupported   unsupported-media-type
├── EncodingUnsupported    unsupported-content-encoding
├── NotAcceptable          not-acceptable
├── RequestInvalid         invalid-request
├── KeyMissing             unauthorized
├── KeyForbidden           forbidden
├── RouteNotFound          not-found
├── MethodNotAllowed       method-not-allowed
├── ModelNotFound          model-not-found
├── ModelRefused           model-refused
├── ModelsNotWritable      models-not-writable
├── NotReady               not-ready
├── ShuttingDown           shutting-down
├── QueueFull              queue-full
├── MemoryFull             memory-full
├── DeadlineExceeded       deadline-exceeded
├── InferenceFailed        inference-failed
└── Unexpected             internal-error
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from bundle.errors import short


class Fault(NamedTuple):
    """One thing that is wrong with a request: a JSON pointer (RFC 6901) and what is expected there."""

    pointer: str
    detail: str


def pointer(*parts: object) -> str:
    """A JSON pointer to the member or element that the parts name, outermost first; a name of any length is cut off."""
    return "".join("/" + short(str(part)).replace("~", "~0").replace("/", "~1") for part in parts)


class ServiceError(Exception):
    """Base of the errors that a request is answered with.

    Args:
        detail: What is wrong and what to do, without any value of the request.
        allow: Methods that the path takes, where that is what is wrong.
        close: Whether the connection is of no further use.
    """

    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, *, allow: str | None = None, close: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.allow = allow
        self.close = close


class BodyMalformed(ServiceError):
    """The body is not what its media type says."""

    slug = "malformed-body"
    title = "The body is not what its media type says"


class HostInvalid(ServiceError):
    """The request names no host, or more than one."""

    slug = "invalid-host"
    title = "The request names no host, or two"


class UnknownHost(ServiceError):
    """The request is for a host that the service does not answer to."""

    slug = "unknown-host"
    title = "The service does not answer to this host name"


class ForeignOrigin(ServiceError):
    """A page of another origin wants to change something."""

    slug = "foreign-origin"
    title = "A page of another origin may not send this"


class BodyTooSlow(ServiceError):
    """The body did not arrive in time."""

    slug = "body-too-slow"
    title = "The body did not arrive in time"


class BodyTooLarge(ServiceError):
    """The body is over the limit."""

    slug = "body-too-large"
    title = "The body is over the limit"


class TooManyRecords(ServiceError):
    """The request holds more records than one may."""

    slug = "too-many-records"
    title = "The request holds too many records"


class MediaTypeUnsupported(ServiceError):
    """The body's media type is not read here."""

    slug = "unsupported-media-type"
    title = "The body's media type is not read here"


class EncodingUnsupported(ServiceError):
    """The body's content encoding is not inflated here."""

    slug = "unsupported-content-encoding"
    title = "The body's content encoding is not read here"


class NotAcceptable(ServiceError):
    """No media type that the client accepts is written here."""

    slug = "not-acceptable"
    title = "No media type that the client accepts is written here"


class RequestInvalid(ServiceError):
    """The body is well-formed but does not fit; `faults` says where.

    Args:
        faults: At least one.
    """

    slug = "invalid-request"
    title = "The request does not fit the model's fields"

    def __init__(self, faults: Sequence[Fault]) -> None:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{faults[0].pointer or 'the body'}: {faults[0].detail}{more}")
        self.faults = tuple(faults)


class KeyMissing(ServiceError):
    """The request has no key that is known."""

    slug = "unauthorized"
    title = "A key is needed"


class KeyForbidden(ServiceError):
    """The key is not good for this."""

    slug = "forbidden"
    title = "The key is not good for this"


class RouteNotFound(ServiceError):
    """No such path."""

    slug = "not-found"
    title = "There is no such path"


class MethodNotAllowed(ServiceError):
    """The path does not take this method."""

    slug = "method-not-allowed"
    title = "The path does not take this method"


class ModelNotFound(ServiceError):
    """No such model or version is served."""

    slug = "model-not-found"
    title = "No such model is served"


class ModelRefused(ServiceError):
    """The version that should be served is refused."""

    slug = "model-refused"
    title = "The version that should be served is refused"


class ModelsNotWritable(ServiceError):
    """The models folder cannot be written."""

    slug = "models-not-writable"
    title = "The models folder cannot be written"


class NotReady(ServiceError):
    """No model could be loaded yet."""

    slug = "not-ready"
    title = "The service is not ready"


class ShuttingDown(ServiceError):
    """The service or the model's version is going away."""

    slug = "shutting-down"
    title = "The service is shutting down"


class QueueFull(ServiceError):
    """So many records wait already that these would wait too long."""

    slug = "queue-full"
    title = "The queue is full"


class MemoryFull(ServiceError):
    """Other requests have the memory that this one needs."""

    slug = "memory-full"
    title = "There is no memory for this request now"


class DeadlineExceeded(ServiceError):
    """The deadline passed before the answer was ready."""

    slug = "deadline-exceeded"
    title = "The deadline passed"


class InferenceFailed(ServiceError):
    """The runtime could not score the records."""

    slug = "inference-failed"
    title = "The runtime could not score the records"


class Unexpected(ServiceError):
    """A fault of the service itself."""

    slug = "internal-error"
    title = "The service failed"
