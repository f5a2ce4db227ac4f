"""What is known of the request that is being answered, wherever in the code that is: its id, its trace, its spans."""

import time
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue


class Trace:
    """One request.

    Args:
        request_id: Taken from the client, or made.
        trace_id: Of W3C's Trace Context, 32 hexadecimal digits; None where nobody has begun a trace.
        recording: The request's own span and what makes its children; None where none are recorded.
    """

    __slots__ = ("_context", "_epoch", "_span", "_tracer", "error", "recorded", "request_id", "trace_id")

    def __init__(self, request_id: str, trace_id: str | None, recording: tuple[Span, Tracer] | None = None) -> None:
        self.request_id = request_id
        self.trace_id = trace_id
        self.error: str | None = None
        """Slug of what the request failed with, once it has."""
        self.recorded = recording is not None
        if recording is not None:
            self._span, self._tracer = recording
            self._context: Context = set_span_in_context(self._span)
            self._epoch = time.time_ns() - time.perf_counter_ns()

    def stage(self, name: str, started: float, ended: float, **attributes: AttributeValue) -> None:
        """Record a stage of the request as a span of its own.

        Args:
            name: Of the stage.
            started: On `time.perf_counter`, in seconds.
            ended: On the same clock.
            attributes: What else is to be said of it; names get the prefix `surprisal.`.
        """
        if not self.recorded:
            return
        named = {f"surprisal.{key}": value for key, value in attributes.items()}
        span = self._tracer.start_span(name, self._context, attributes=named, start_time=self._unix(started))
        span.end(self._unix(ended))

    def describe(self, **attributes: AttributeValue) -> None:
        """Say something of the whole request; names get the prefix `surprisal.`."""
        if self.recorded:
            for name, value in attributes.items():
                self._span.set_attribute(f"surprisal.{name}", value)

    def end(self, method: str, route: str | None, status: int) -> None:
        """The request has been answered, or has not.

        Args:
            method: Of HTTP.
            route: The path, with names in place of what varies; None where there is no such path.
            status: Of HTTP; 0 without an answer.
        """
        if not self.recorded:
            return
        # The names are those of OpenTelemetry's semantic conventions for HTTP servers.
        self._span.set_attribute("http.request.method", method)
        if route is not None:
            self._span.update_name(f"{method} {route}")
            self._span.set_attribute("http.route", route)
        if status:
            self._span.set_attribute("http.response.status_code", status)
        if self.error is not None:
            self._span.set_attribute("error.type", self.error)
        # A client's mistake is no error of the server's; an answer that was broken off is one, whatever it began with.
        if not status or status >= 500 or (status < 400 and self.error is not None):
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()

    def _unix(self, seconds: float) -> int:
        return self._epoch + int(seconds * 1e9)


CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The request that this code works for."""
