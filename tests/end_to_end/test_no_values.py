"""What clients send stays with them: no value of a record in logs, refusals, metrics or headers."""

import io
import logging
import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.front.app import Application
from service.settings import Settings
from service.telemetry.logs import JsonFormatter
from tests.conftest import NAME

pytestmark = pytest.mark.slow

REQUESTS = 20_000
TEXT, NUMBER = "S3CRET-value", 918273.645
SCORE, INFER = "/score", f"/v2/models/{NAME}/infer"
JSON = (b"content-type", b"application/json")


def bodies() -> list[tuple[str, list[tuple[bytes, bytes]], bytes]]:
    """Requests good and bad, each with a marked value: path, headers, body."""
    good: dict[str, Any] = {"amount": NUMBER, "country": TEXT, "card_present": True}
    records: list[Any] = [
        good,
        {**good, "amount": TEXT},
        {**good, "hour": NUMBER},
        {**good, "card_present": TEXT},
        {**good, "amount": [NUMBER]},
        {**good, "country": {TEXT: NUMBER}},
        TEXT,
        [NUMBER, TEXT],
        [TEXT] * 11,
    ]
    made = [(SCORE, [JSON], orjson.dumps({"records": [record]})) for record in records]
    made.append((SCORE, [JSON], orjson.dumps({"records": [good], "samples": NUMBER})))
    made.append((SCORE, [JSON], f'{{"records": [{{"amount": "{TEXT}'.encode()))
    made.append((SCORE, [JSON], f"{TEXT} {NUMBER}".encode()))
    made.append(
        (SCORE, [(b"content-type", b"text/csv")], f"amount,country\n{NUMBER},{TEXT}\n{TEXT},{NUMBER}\n".encode())
    )
    lines = [orjson.dumps(record) for record in records]
    made.append(
        (SCORE, [(b"content-type", b"application/x-ndjson"), (b"accept", b"application/json")], b"\n".join(lines))
    )
    made.append((SCORE, [(b"content-type", b"application/x-ndjson")], b"\n".join(lines)))
    made.append((SCORE, [(b"content-type", b"application/vnd.apache.arrow.stream")], TEXT.encode() * 9))
    tensor = {"name": "country", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    for change in ({}, {"shape": [2]}, {"datatype": "FP64"}, {"data": [[TEXT], [TEXT]]}, {"name": "amount"}):
        made.append((INFER, [JSON], orjson.dumps({"inputs": [{**tensor, **change}]})))
    return made


async def ask(app: Application, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, bytes]:
    """One request without a socket; the status, and all that is said but the answer of a good one."""
    said: list[bytes] = []
    status = 0
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            said.extend(part for header in message["headers"] for part in header)
        elif status != 200:
            said.append(message["body"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
    }
    await app(scope, receive, send)
    return status, b" ".join(said)


async def test_no_value_of_a_record_is_logged_counted_or_quoted(models: Path) -> None:
    app = Application(Settings(models=models, slow_ms=0))
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    choices = bodies()
    order = random.Random(1)
    statuses: dict[int, int] = {}
    try:
        async with app.api.router.lifespan_context(app.api):
            for _ in range(REQUESTS):
                status, said = await ask(app, *order.choice(choices))
                statuses[status] = statuses.get(status, 0) + 1
                assert TEXT.encode() not in said
                assert str(NUMBER).encode() not in said
            metrics = app.metrics.expose().decode()
    finally:
        logging.getLogger().removeHandler(handler)
    assert {200, 400, 422} <= set(statuses)
    assert sum(statuses.values()) == REQUESTS
    assert log.getvalue().count("a request was slow") == REQUESTS
    for text in (log.getvalue(), metrics):
        assert TEXT not in text
        assert str(NUMBER) not in text
        assert "S3CRET" not in text
