"""Metrics say what happened."""

import asyncio
import time
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.settings import Settings
from service.telemetry import metric_table
from service.telemetry.metrics import Metrics
from tests.conftest import NAME, in_process

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by name and labels."""


async def samples(client: httpx.AsyncClient) -> Samples:
    """What `/metrics` says."""
    text = (await client.get("/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Of one sample."""
    return f"surprisal_{name}", frozenset(labels.items())


def test_every_metric_of_the_table_is_an_attribute_of_its_type() -> None:
    rows = metric_table.COUNTED | metric_table.LOAD | metric_table.MODELS
    assert {name: row.kind for name, row in rows.items()} == get_type_hints(Metrics)
    metrics = Metrics()
    assert all(type(getattr(metrics, name)) is row.kind for name, row in rows.items())


async def test_requests_records_and_verdicts_are_counted(models: Path) -> None:
    async with in_process(Settings(models=models)) as (client, _):
        normal, strange = {"amount": 20.0, "country": "SE"}, {"amount": 1e6}
        for _ in range(3):
            answer = (await client.post("/score", json={"records": [normal, strange, strange]})).json()
        assert (await client.post("/score", json={"records": []})).status_code == 422
        assert (await client.get("/nowhere")).status_code == 404
        found = await samples(client)
    model = {"model": NAME, "version": "1"}
    assert found[key("http_requests_total", route="/score", method="POST", status="200")] == 3
    assert found[key("http_requests_total", route="/score", method="POST", status="422")] == 1
    assert found[key("http_requests_total", route="unmatched", method="GET", status="404")] == 1
    assert found[key("http_request_duration_seconds_count", route="/score")] == 4
    assert found[key("rejected_total", reason="invalid-request")] == 1
    assert found[key("records_total", **model)] == 9
    flagged = sum(result["is_anomaly"] for result in answer["results"])
    assert found[key("anomalies_total", **model)] == 3 * flagged
    assert found[key("p_value_count", **model)] == 9
    assert found[key("p_value_bucket", le="0.1", **model)] == 3 * sum(r["p_value"] <= 0.1 for r in answer["results"])
    assert found[key("queue_records", **model)] == 0
    assert found[key("batch_records_sum")] == 9
    assert found[key("requests_in_progress")] == 0  # the one that reads the metrics does not count
    assert found[key("resident_memory_bytes")] > 10_000_000
    for stage in ("decode", "queue", "infer", "encode"):
        assert found[key("stage_duration_seconds_count", stage=stage)] == 3
    (info,) = [labels for name, labels in found if name == "surprisal_model_info"]
    assert ("device", "cpu") in info
    assert found[key("reloads_total", model=NAME, result="loaded")] == 1
    assert found[key("model_loaded_timestamp_seconds", **model)] > 1.7e9


async def test_a_stream_takes_as_long_as_until_its_answer_begins(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with in_process(Settings(models=models, slow_ms=2000)) as (client, app):
        begun = asyncio.Event()

        async def send(message: Any) -> None:
            begun.set()

        async def receive() -> Any:
            if now[0] > 1.0:
                await asyncio.Event().wait()  # there is no more
            if line := lines.pop(0):
                return {"type": "http.request", "body": line, "more_body": True}
            await begun.wait()
            now[0] += 100.0
            return {"type": "http.request", "body": b"", "more_body": False}

        now, lines = [1.0], [b'{"amount": 1.0}\n', b""]
        monkeypatch.setattr(time, "perf_counter", lambda: now[0])
        headers = [(b"host", b"localhost"), (b"content-type", b"application/x-ndjson")]
        scope = {"type": "http", "method": "POST", "path": "/score", "query_string": b"", "headers": headers}
        await app(scope, receive, send)
        found = await samples(client)
    assert found[key("http_request_duration_seconds_count", route="/score")] == 1
    assert found[key("http_request_duration_seconds_sum", route="/score")] == 0
    assert "slow" not in caplog.text
