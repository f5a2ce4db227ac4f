"""Logs as JSON, one object a line, on standard error."""

import json
import logging
import sys
from datetime import UTC, datetime

from service.wire.trace import CURRENT


class JsonFormatter(logging.Formatter):
    """`time` (UTC), `level`, `logger`, `message`, the ids of the request, the members of `extra={"fields": {…}}`.

    Any traceback comes last.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line for one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (trace := CURRENT.get()) is not None:
            line["request_id"] = trace.request_id
            if trace.trace_id is not None:
                line["trace_id"] = trace.trace_id
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Unsaid(logging.Filter):
    """Says of a malformed variable which it is, and not what is in it: a key, mostly."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = "OTEL_EXPORTER_OTLP_HEADERS: what is not name=value, percent-encoded, is left out"
        record.args = ()
        return True


def configure(level: str) -> None:
    """Send everything of at least this level to standard error, uvicorn's lines included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # These quote what a client sends.
    for name in ("PIL", "opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("opentelemetry.util.re").addFilter(_Unsaid())
