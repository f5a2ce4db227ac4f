"""Spans as a collector gets them, and the ids that logs and refusals name."""

import gzip
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.engine.batcher import Batcher
from service.engine.portions import TENSORS
from service.settings import Settings
from service.wire.trace import CURRENT, Trace
from tests.conftest import NAME, in_process, running

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
STAGES = ("decode", "queue", "infer", "encode")
BODY = {"records": [{"amount": 12.5, "country": "SE"}]}


class Collector(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        super().__init__(("127.0.0.1", 0), Post)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[Span]:
        resources = [resource for request in self.requests for resource in request.resource_spans]
        return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]


class Post(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Span) -> dict[str, str | int]:
    values = {each.key: each.value for each in span.attributes}
    return {key: value.string_value or value.int_value for key, value in values.items()}


def end(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """End a service, which sends its last spans; its log."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    return [json.loads(line) for line in log.splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_request_has_a_span_for_each_stage_within_its_own(models: Path, collector: Collector, workers: int) -> None:
    options = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SURPRISAL_DRAIN_SECONDS": "0"}
    with running(models, workers, environment=options) as (process, url):
        answer = httpx.post(f"{url}/score", json=BODY, headers={**SAMPLED, "X-Request-ID": "seven"})
        httpx.post(f"{url}/models/{NAME}/score", json={"records": [{"amount": 1.0}] * 3, "samples": 64})
        httpx.get(f"{url}/models")
        end(process)
    assert answer.status_code == 200
    traces: dict[bytes, list[Span]] = {}
    for span in collector.spans:
        traces.setdefault(span.trace_id, []).append(span)
    assert len(traces) == 2, "what is read is no trace"
    spans = {span.name: span for span in traces.pop(bytes.fromhex(TRACE))}
    root = spans.pop("POST /score")
    assert (root.parent_span_id.hex(), root.kind) == (PARENT, Span.SPAN_KIND_SERVER)
    assert attributes(root) == {
        "surprisal.request_id": "seven",
        "surprisal.model": NAME,
        "surprisal.version": 1,
        "http.request.method": "POST",
        "http.route": "/score",
        "http.response.status_code": 200,
    }
    assert set(spans) == set(STAGES)
    assert {span.parent_span_id for span in spans.values()} == {root.span_id}
    # Wall clock and stage clock are read one after the other.
    slack, ends = 1_000_000, root.start_time_unix_nano
    for name in STAGES:
        assert ends - slack <= spans[name].start_time_unix_nano <= spans[name].end_time_unix_nano
        ends = spans[name].end_time_unix_nano
    assert ends <= root.end_time_unix_nano + slack
    assert attributes(spans["infer"]) == {"surprisal.records": 1, "surprisal.samples": 16}
    ((trace, others),) = traces.items()
    (other,) = [span for span in others if not span.parent_span_id]
    assert other.name == "POST /models/{name}/score"
    assert trace.hex() != TRACE
    resource = {
        each.key: each.value.string_value for each in collector.requests[0].resource_spans[0].resource.attributes
    }
    assert resource["service.name"] == "surprisal"


def test_a_large_request_and_a_stream_and_the_open_inference_protocol_have_them_too(
    models: Path, collector: Collector
) -> None:
    options = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces", "OTEL_SERVICE_NAME": "payments"}
    tensor = {"name": "amount", "shape": [1], "datatype": "FP64", "data": [3.5]}
    with running(models, environment={"SURPRISAL_DRAIN_SECONDS": "0", **options}) as (process, url):
        large = httpx.post(f"{url}/score", json={"records": BODY["records"] * 3000}, timeout=30)
        ndjson = {"Content-Type": "application/x-ndjson"}
        stream = httpx.post(f"{url}/score", content=b'{"amount": 3.5}\n' * 1100, headers=ndjson, timeout=30)
        infer = httpx.post(f"{url}/v2/models/{NAME}/infer", json={"inputs": [tensor]}, headers=SAMPLED)
        end(process)
    assert (large.status_code, stream.status_code, infer.status_code) == (200, 200, 200), infer.text
    roots = {span.name: span for span in collector.spans if not span.parent_span_id or span.trace_id.hex() == TRACE}
    assert "POST /v2/models/{name}/infer" in roots
    for root in [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]:
        children = [span for span in collector.spans if span.parent_span_id == root.span_id]
        assert {span.name for span in children} == set(STAGES)
        for span in children:
            assert root.start_time_unix_nano - 1_000_000 <= span.start_time_unix_nano
            assert span.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano + 1_000_000
        first = {name: min(span.start_time_unix_nano for span in children if span.name == name) for name in STAGES}
        assert first["decode"] <= first["queue"] <= first["infer"] <= first["encode"]
        if len(children) == len(STAGES):  # no stream, whose chunks overlap
            (infer,) = [span for span in children if span.name == "infer"]
            assert infer.end_time_unix_nano <= first["encode"]
    assert sum(span.name == "encode" for span in collector.spans) > 4, "a chunk of a stream has its own"
    resource = {
        each.key: each.value.string_value for each in collector.requests[0].resource_spans[0].resource.attributes
    }
    assert resource["service.name"] == "payments"


def test_refusals_and_logs_name_the_trace(models: Path, collector: Collector) -> None:
    options = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SURPRISAL_DRAIN_SECONDS": "0", "SURPRISAL_SLOW_MS": "0"}
    with running(models, environment=options) as (process, url):
        refused = httpx.post(f"{url}/score", json={"records": []}, headers=SAMPLED)
        made = httpx.post(f"{url}/score", json={"records": []})
        heavy = {"records": BODY["records"] * 5000, "samples": 256}
        late = httpx.post(f"{url}/score", json=heavy, headers={"X-Deadline-Ms": "100"}, timeout=30)
        httpx.post(f"{url}/nowhere", headers={"traceparent": f"00-{'5' * 32}-{PARENT}-01"})
        log = end(process)
    assert (refused.status_code, refused.json()["trace_id"]) == (422, TRACE)
    ours = made.json()["trace_id"]
    assert re.fullmatch("[0-9a-f]{32}", ours)
    assert ours != TRACE
    slow = {line["request_id"]: line.get("trace_id") for line in log if line["message"] == "a request was slow"}
    assert slow[refused.headers["x-request-id"]] == TRACE
    assert slow[made.headers["x-request-id"]] == ours
    spans = {span.trace_id.hex(): span for span in collector.spans if span.name == "POST /score"}
    assert attributes(spans[TRACE])["error.type"] == "invalid-request"
    assert spans[TRACE].status.code == Status.STATUS_CODE_UNSET, "the client's mistake"
    assert late.status_code == 504
    failed = spans[late.json()["trace_id"]]
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert attributes(failed)["error.type"] == "deadline-exceeded"
    assert attributes(failed)["surprisal.model"] == NAME
    stages = {span.name for span in collector.spans if span.parent_span_id == failed.span_id}
    assert stages == {"decode", "queue"}
    (nowhere,) = [span for span in collector.spans if span.name == "POST"]
    assert "http.route" not in attributes(nowhere)


def test_what_the_client_does_not_sample_is_not_recorded(models: Path, collector: Collector) -> None:
    options = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SURPRISAL_DRAIN_SECONDS": "0"}
    with running(models, environment=options) as (process, url):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        assert httpx.post(f"{url}/score", json=BODY, headers=headers).status_code == 200
        refused = httpx.post(f"{url}/score", json={}, headers=headers)
        end(process)
    assert refused.json()["trace_id"] == TRACE
    assert collector.spans == []


def test_a_collector_that_hangs_or_is_not_there_holds_up_neither_answers_nor_the_end(models: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Post) as hanging:  # listens, never accepts
        for port in (hanging.server_port, 9):
            options = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "120",  # four times as long as `end` waits
                "SURPRISAL_DRAIN_SECONDS": "0",
            }
            with running(models, environment=options) as (process, url):
                assert httpx.post(f"{url}/score", json=BODY).status_code == 200
                log = end(process)
            assert any("last spans could not be sent" in line["message"] for line in log)


def test_an_answer_that_is_broken_off_is_an_error_of_its_trace(models: Path, collector: Collector) -> None:
    options = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SURPRISAL_DRAIN_SECONDS": "0"}
    lines = gzip.compress(b'{"amount": 3.5}\n' * 5000)
    with running(models, environment=options) as (process, url):
        headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            httpx.post(f"{url}/score", content=lines[:-8] + b"damaged!", headers=headers, timeout=60)
        end(process)
    (root,) = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    assert attributes(root)["http.response.status_code"] == 200
    assert attributes(root)["error.type"] == "malformed-body"
    assert root.status.code == Status.STATUS_CODE_ERROR


def test_no_log_line_quotes_a_header_or_a_secret(models: Path) -> None:
    secret = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization: Bearer s3cret"}
    options = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "SURPRISAL_DRAIN_SECONDS": "0", **secret}
    marks = {"traceparent": f"00-{TRACE}-{PARENT}-00", "tracestate": "s3cret,,=" * 20}
    with running(models, environment=options) as (process, url):
        assert httpx.post(f"{url}/score", json=BODY, headers=marks).status_code == 200
        assert httpx.post(f"{url}/score", json=BODY, headers={"traceparent": "s3cret" * 100}).status_code == 200
        log = end(process)
    assert "s3cret" not in json.dumps(log)
    assert any("OTEL_EXPORTER_OTLP_HEADERS" in line["message"] for line in log)


def test_pipelined_requests_are_logged_under_their_own_ids(models: Path) -> None:
    body = json.dumps(BODY).encode()
    head = "POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nX-Request-ID: {id}\r\n\r\n"
    requests = b"".join(head.format(length=len(body), id=name).encode() + body for name in ("first", "second"))
    with running(models, environment={"SURPRISAL_SLOW_MS": "0", "SURPRISAL_DRAIN_SECONDS": "0"}) as (process, url):
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as connection:
            connection.sendall(requests)
            answers = b""
            while answers.count(b'"results"') < 2:
                answers += connection.recv(2**16)
        log = end(process)
    slow = [line for line in log if line["message"] == "a request was slow" and line["route"] == "/score"]
    assert [line["request_id"] for line in slow] == ["first", "second"]
    assert not [line for line in log if "request_id" in line and line["message"] != "a request was slow"]


async def test_without_an_endpoint_a_clients_trace_is_still_named(models: Path) -> None:
    async with in_process(Settings(models=models)) as (client, _):
        refused = await client.post("/score", json={}, headers=SAMPLED)
        assert refused.json()["trace_id"] == TRACE
        assert "trace_id" not in (await client.post("/score", json={})).json()
        broken = await client.post("/score", json={}, headers={"traceparent": "00-zz-00-01"})
        assert "trace_id" not in broken.json()
        answered = await client.post("/score", json=BODY, headers=SAMPLED)
        assert answered.status_code == 200


def test_without_an_endpoint_no_sdk_is_loaded(models: Path) -> None:
    code = (
        "import sys, pathlib; from service.front.app import Application; from service.settings import Settings;"
        "Application(Settings(models=pathlib.Path(sys.argv[1])));"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(models)], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("variable", ["OTEL_SDK_DISABLED=true", "OTEL_TRACES_EXPORTER=none"])
def test_opentelemetry_can_be_switched_off(models: Path, collector: Collector, variable: str) -> None:
    options = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "SURPRISAL_DRAIN_SECONDS": "0"}
    with running(models, environment={**options, **dict([variable.split("=")])}) as (process, url):
        assert "trace_id" not in httpx.post(f"{url}/score", json={}).json()
        assert httpx.post(f"{url}/score", json={}, headers=SAMPLED).json()["trace_id"] == TRACE
        end(process)
    assert not collector.requests


def test_variables_that_do_not_fit_are_one_clear_line_and_no_start(models: Path) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_MAX_QUEUE_SIZE": "100"}
    command = [sys.executable, "-m", "surprisal", "serve", "--models", str(models), "--port", "0", "--workers", "1"]
    environment = {**os.environ, **variables}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "traces cannot be sent: one of the OTEL_ variables is wrong" in result.stderr


def test_an_endpoint_that_is_no_url_is_a_wrong_call(models: Path) -> None:
    command = [sys.executable, "-m", "surprisal", "serve", "--models", str(models)]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
    )
    assert result.returncode == 2
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in result.stderr
    assert "http://" in result.stderr


async def test_batches_run_in_the_context_of_no_request() -> None:
    seen: list[Trace | None] = []

    class Backend:
        def run(self, rows: Any, samples: int) -> Any:
            seen.append(CURRENT.get())
            return rows

    rows = {"max_batch_rows": 8, "max_queue_rows": 8, "max_request_rows": 8}
    # Long enough for the second run to be one on the event loop.
    batcher = Batcher(
        Backend(),
        TENSORS,
        max_batch_draws=8.0,
        observer=Mock(),
        inline_seconds=60.0,
        clock=time.monotonic,
        **rows,
    )
    token = CURRENT.set(Trace("first", None))
    for _ in range(2):
        await batcher.submit({"x": np.zeros(1)}, 1, time.monotonic() + 60.0, "")
    CURRENT.reset(token)
    await batcher.aclose(10.0)
    assert seen == [None, None]
