"""OpenTelemetry: begins the trace of each request, and sends spans over OTLP where an endpoint is set.

Nearly everything is read by OpenTelemetry itself, from its own environment variables: sampling from
`OTEL_TRACES_SAMPLER`, headers from `OTEL_EXPORTER_OTLP_HEADERS`, the service's name from `OTEL_SERVICE_NAME`.
"""

import asyncio
import logging
import os
import threading
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.settings import Settings
from service.wire.asgi import Headers
from service.wire.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

LAST_SPANS_SECONDS = 3.0
"""How long the end of the service waits for spans to be sent."""
_PROTOCOL = "http/protobuf"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROPAGATOR = TraceContextTextMapPropagator()

log = logging.getLogger("surprisal.tracing")


class TracingUnusable(Exception):
    """Traces are wanted, and OpenTelemetry's variables do not fit together."""


class Tracing:
    """Begins traces.

    Args:
        provider: What records spans; None where none are.
    """

    def __init__(self, provider: "TracerProvider | None") -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("surprisal", version("surprisal-vae"))

    @classmethod
    def start(cls, settings: Settings) -> "Tracing":
        """Spans are recorded if there is somewhere to send them to.

        Raises:
            TracingUnusable: OpenTelemetry cannot be had as its variables want it.
        """
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        off = disabled or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
        return cls(None if off or settings.otlp_endpoint is None else _provider())

    def begin(self, request_id: str, headers: Headers, method: str) -> Trace:
        """The trace of a request: the client's, where it has begun one (W3C Trace Context).

        Only what is posted has spans: health checks and scrapes would be most of them.

        Args:
            request_id: Of the request.
            headers: Its headers, by lower-case name.
            method: Of HTTP.
        """
        if self._tracer is None or method != "POST":
            return Trace(request_id, _client_trace_id(headers) if b"traceparent" in headers else None)
        context = _PROPAGATOR.extract(_carrier(headers))
        span = self._tracer.start_span(method, context, SpanKind.SERVER, {"surprisal.request_id": request_id})
        trace_id = format_trace_id(span.get_span_context().trace_id)
        return Trace(request_id, trace_id, (span, self._tracer) if span.is_recording() else None)

    async def aclose(self) -> None:
        """Send what has been recorded; what takes longer than `LAST_SPANS_SECONDS` is lost."""
        if self._provider is None:
            return
        # A thread that Python does not wait for at its end, which a collector that hangs would hold up.
        closing = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        closing.start()
        ends = time.monotonic() + LAST_SPANS_SECONDS
        while closing.is_alive():
            if time.monotonic() > ends:
                log.warning("the last spans could not be sent in %g seconds", LAST_SPANS_SECONDS)
                return
            await asyncio.sleep(0.01)


def _provider() -> "TracerProvider":
    # Some 15 MB that a service without traces has no use for.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    wanted = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), _PROTOCOL)
    if wanted != _PROTOCOL:
        log.warning("spans are sent as %s, not as %s, which the environment asks for", _PROTOCOL, wanted)
    ours = Resource.create({"service.name": "surprisal", "service.version": version("surprisal-vae")})
    try:
        provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        raise TracingUnusable(f"one of the OTEL_ variables is wrong: {error}") from error
    return provider


def _client_trace_id(headers: Headers) -> str | None:
    carrier = {"traceparent": headers[b"traceparent"].decode("latin-1")}
    client = get_current_span(_PROPAGATOR.extract(carrier)).get_span_context()
    return format_trace_id(client.trace_id) if client.is_valid else None


def _carrier(headers: Headers) -> dict[str, str]:
    names = (b"traceparent", b"tracestate")
    return {name.decode(): headers[name].decode("latin-1") for name in names if name in headers}
