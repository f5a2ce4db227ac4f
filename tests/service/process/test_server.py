"""The service as a process: start, drain, end."""

import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import NAME, free_port, running, until

BODY = {"records": [{"amount": 12.5, "country": "SE"}]}


def in_progress(client: httpx.Client, url: str) -> float:
    """Requests that the service is working on, this one apart."""
    text = client.get(f"{url}/metrics", timeout=30).text
    (line,) = [line for line in text.splitlines() if line.startswith("surprisal_requests_in_progress ")]
    return float(line.split()[1])


def test_sigterm_turns_readiness_off_answers_everything_and_exits_with_0(models: Path) -> None:
    with running(models, environment={"SURPRISAL_DRAIN_SECONDS": "4.0"}) as (process, url), httpx.Client() as kept:
        assert kept.post(f"{url}/score", json=BODY).status_code == 200
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            heavy = {"records": BODY["records"] * 4000, "samples": 64}
            answers = [pool.submit(httpx.post, f"{url}/score", json=heavy, timeout=30) for _ in range(4)]
            until(lambda: in_progress(kept, url) > 0)
            process.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{url}/readyz", timeout=30).status_code == 503)
            assert httpx.get(f"{url}/readyz", timeout=30).json()["reason"] == "the service is shutting down"
            assert httpx.post(f"{url}/score", json=BODY, timeout=30).status_code == 200
            assert [answer.result().status_code for answer in answers] == [200] * 4
        assert process.wait(timeout=30) == 0


def test_ctrl_c_ends_it_at_once_with_0(models: Path) -> None:
    with running(models, environment={"SURPRISAL_DRAIN_SECONDS": "60"}) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


def test_head_is_a_get_without_its_body(models: Path) -> None:
    with running(models) as (_, url):
        head, get = httpx.head(f"{url}/models"), httpx.get(f"{url}/models")
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-length"] == get.headers["content-length"]
        refused = httpx.head(f"{url}/score")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_logs_are_json_lines(models: Path) -> None:
    with running(models) as (process, url):
        httpx.get(f"{url}/models")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    lines = [json.loads(line) for line in errors.splitlines()]
    assert any(f"serving {NAME} version 1" in line["message"] for line in lines)
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "surprisal", "serve", *arguments]
    variables = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=variables)


def test_a_taken_port_is_a_failure_with_its_reason(models: Path) -> None:
    with running(models) as (_, url):
        port = url.rsplit(":", 1)[1]
        result = serve("--models", str(models), "--port", port)
        other = serve("--models", str(models), "--port", "0", SURPRISAL_OPS_PORT=port)
    for ended, way in ((result, "--port"), (other, "SURPRISAL_OPS_PORT")):
        assert ended.returncode == 1
        said = f"127.0.0.1:{port}: another program listens there already; end it, or take another port with {way}\n"
        assert ended.stderr.endswith(said)


def test_a_gpu_that_is_not_there_is_a_failure_at_the_start(models: Path) -> None:
    result = serve("--models", str(models), "--port", str(free_port()), "--device", "cuda")
    assert result.returncode == 1
    assert result.stderr.startswith("surprisal: device cuda was asked for")
    assert "Traceback" not in result.stderr


def test_a_wrong_setting_is_a_wrong_call(models: Path) -> None:
    result = serve("--models", str(models), "--port", "70000")
    assert result.returncode == 2
    assert "--port" in result.stderr
    assert "SURPRISAL" not in result.stderr


def test_a_wrong_variable_is_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURPRISAL_PORT", "70000")
    result = serve("--models", str(models))
    assert result.returncode == 2
    assert "SURPRISAL_PORT" in result.stderr


def test_settings_that_contradict_each_other_are_a_wrong_call(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURPRISAL_MAX_QUEUE_RECORDS", "10")
    result = serve("--models", str(models))
    assert result.returncode == 2
    assert "max_queue_records is less than max_records" in result.stderr


def test_what_is_not_sent_within_the_grace_is_refused_and_no_fault(models: Path) -> None:
    settings = {"SURPRISAL_DRAIN_SECONDS": "0", "SURPRISAL_GRACE_SECONDS": "1"}
    with running(models, environment=settings) as (process, url), httpx.Client() as kept:
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=30) as client:
            client.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
            until(lambda: in_progress(kept, url) > 0)
            process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"shutting-down"' in answer
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_certificate_that_is_none_is_a_failure_that_names_it(models: Path, tmp_path: Path, workers: str) -> None:
    (tmp_path / "certificate.pem").write_text("no certificate")
    (tmp_path / "key.pem").write_text("no key")
    variables = {name: str(tmp_path / f"{name}.pem") for name in ("certificate", "key")}
    environment = {f"SURPRISAL_TLS_{name.upper()}": path for name, path in variables.items()}
    result = serve("--models", str(models), "--port", "0", "--workers", workers, **environment)
    assert result.returncode == 1
    assert result.stderr.startswith(f"surprisal: {tmp_path}/certificate.pem and ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["IDLE_SECONDS", "DRAIN_SECONDS"])
def test_for_ever_is_no_number_of_seconds(models: Path, name: str) -> None:
    result = serve("--models", str(models), **{f"SURPRISAL_{name}": "inf"})
    assert result.returncode == 2
    assert name in result.stderr
