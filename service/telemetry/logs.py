"""Logs on standard error: JSON, one object a line, for programs; on a terminal lines for people."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from service.wire.trace import CURRENT

MODELS = "surprisal.models"
"""Logs what becomes of models."""
REFUSALS = f"{MODELS}.refusals"
"""Logs which are refused."""


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


class TextFormatter(logging.Formatter):
    """The time of day, the level unless it is `info`, the message, and the fields in brackets; any traceback last."""

    def format(self, record: logging.LogRecord) -> str:
        """One line for one record."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        fields: dict[str, object] = getattr(record, "fields", {})
        more = f" ({', '.join(f'{name} {value}' for name, value in fields.items())})" if fields else ""
        line = f"{datetime.fromtimestamp(record.created):%H:%M:%S}  {level}{record.getMessage()}{more}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _is_of_one_worker(record: logging.LogRecord) -> bool:
    """Whether a line may be true of one worker alone: which models are served and refused is true of all."""
    if record.name.startswith(REFUSALS):
        return False
    return record.levelno > logging.INFO or not record.name.startswith(MODELS)


class _Unsaid(logging.Filter):
    """Says of a malformed variable which it is, and not what is in it: a key, mostly."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = "OTEL_EXPORTER_OTLP_HEADERS: what is not name=value, percent-encoded, is left out"
        record.args = ()
        return True


def configure(level: str, form: Literal["auto", "text", "json"] = "auto", *, first: bool = True) -> None:
    """Send everything of at least this level to standard error, uvicorn's lines included.

    Args:
        level: The least.
        form: Of the lines; `auto` is `text` on a terminal and `json` elsewhere.
        first: Whether this is the first worker, or none: all load the same models, and people are told once.
    """
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    if text:
        handler.addFilter(lambda record: not (record.levelno == logging.INFO and record.name.startswith("uvicorn")))
        if not first:
            handler.addFilter(_is_of_one_worker)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # These quote what a client sends.
    for name in ("PIL", "opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("opentelemetry.util.re").addFilter(_Unsaid())
