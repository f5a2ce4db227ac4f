"""Several workers: counted together, replaced when they die, ended together."""

import asyncio
import concurrent.futures
import contextlib
import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.front.keys import KeyRing
from service.process import listening
from service.process.supervisor import Supervisor
from service.settings import Settings
from service.telemetry.metrics_folder import MetricsFolder
from tests.conftest import NAME, children_of, running, until

RECORD = {"amount": 12.5, "country": "SE"}


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The workers' process ids."""
    return children_of(process.pid)


def total(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    found = 0.0
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=30).text):
        for sample in family.samples:
            assert "pid" not in sample.labels
            if sample.name == f"surprisal_{name}" and labels.items() <= sample.labels.items():
                found += sample.value
    return found


def score(url: str, requests: int = 1) -> list[int]:
    """Statuses of some requests, each over a connection of its own."""
    body = {"records": [RECORD] * 3}
    return [httpx.post(f"{url}/score", json=body, timeout=30).status_code for _ in range(requests)]


def test_counts_are_those_of_all_workers(models: Path) -> None:
    with running(models, workers=2) as (process, url):
        until(lambda: total(url, "workers") == 2)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            statuses = [status for each in pool.map(lambda _: score(url, 25), range(8)) for status in each]
        assert statuses == [200] * 200
        # Another worker's counts are at most a second old.
        until(lambda: total(url, "http_requests_total", route="/score", status="200") == 200)
        assert total(url, "records_total", model=NAME, version="1") == 600
        assert total(url, "p_value_count", model=NAME) == 600
        assert total(url, "p_value_bucket", model=NAME, le="1.0") == 600
        assert total(url, "stage_duration_seconds_count", stage="encode") == 200
        assert total(url, "model_info", model=NAME) == 1
        until(lambda: total(url, "requests_in_progress") == 0)
        workers = workers_of(process)
        assert len(workers) == 2
        largest = max(resident_bytes(pid) for pid in workers)
        assert total(url, "resident_memory_bytes") < 150e6
        assert total(url, "resident_memory_bytes") == pytest.approx(largest, rel=0.2), "of the largest, not of all"


def resident_bytes(pid: int) -> int:
    """A process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sockets_of(pid: int) -> int:
    """How many sockets a process holds."""
    return sum("socket" in str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())


def test_each_worker_gets_a_share_of_the_connections(models: Path) -> None:
    with running(models, workers=2) as (process, url), contextlib.ExitStack() as opened:
        until(lambda: total(url, "workers") == 2)
        address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
        for _ in range(64):
            opened.enter_context(socket.create_connection(address))
        # Beside its connections a worker holds a few sockets of its own.
        until(lambda: sum(map(sockets_of, workers_of(process))) >= 64)
        shares = [sockets_of(pid) for pid in workers_of(process)]
        assert min(shares) >= 24, shares


def test_a_worker_that_is_killed_is_replaced(models: Path) -> None:
    with running(models, workers=2) as (process, url):
        until(lambda: total(url, "workers") == 2)
        assert score(url) == [200]
        until(lambda: total(url, "records_total") == 3)
        victim, survivor = workers_of(process)
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in workers_of(process) and len(workers_of(process)) == 2)
        until(lambda: total(url, "workers") == 2)
        assert survivor in workers_of(process)
        assert total(url, "worker_restarts_total") == 1
        assert score(url, 20) == [200] * 20
        # What the dead worker counted stays counted.
        until(lambda: total(url, "records_total") == 63)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_sigterm_drains_all_workers_and_ends_with_0(models: Path) -> None:
    patient = {"SURPRISAL_DRAIN_SECONDS": "1.0", "SURPRISAL_DEADLINE_MS": "60000"}
    with running(models, workers=2, environment=patient) as (process, url):
        until(lambda: total(url, "workers") == 2)
        pids = workers_of(process)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            heavy = {"records": [RECORD] * 4000, "samples": 256}
            answers = [pool.submit(httpx.post, f"{url}/score", json=heavy, timeout=30) for _ in range(4)]
            until(lambda: total(url, "requests_in_progress") > 0)
            process.send_signal(signal.SIGTERM)
            until(lambda: httpx.get(f"{url}/readyz", timeout=30).status_code == 503)
            assert [answer.result().status_code for answer in answers] == [200] * 4
        assert process.wait(timeout=30) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_sigterm_to_every_process_at_once_drains_as_well(models: Path) -> None:
    with running(models, workers=2, environment={"SURPRISAL_DRAIN_SECONDS": "1.0"}) as (process, url):
        until(lambda: total(url, "workers") == 2)
        for pid in (*workers_of(process), process.pid):
            os.kill(pid, signal.SIGTERM)
        until(lambda: httpx.get(f"{url}/readyz", timeout=30).status_code == 503)
        assert process.wait(timeout=30) == 0


def test_workers_end_when_their_supervisor_is_gone(models: Path, tmp_path: Path) -> None:
    settings = {"SURPRISAL_DRAIN_SECONDS": "0", "TMPDIR": str(tmp_path)}
    with running(models, workers=2, environment=settings) as (process, url):
        until(lambda: total(url, "workers") == 2)
        pids = workers_of(process)
        process.kill()
        process.wait()
        try:
            until(lambda: not any(alive(pid) for pid in pids))
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    (left_over,) = tmp_path.iterdir()
    with running(models, workers=2, environment=settings) as (process, url):
        until(lambda: total(url, "workers") == 2)
        (in_use,) = tmp_path.iterdir()
        assert in_use != left_over
        with running(models, workers=2, environment=settings) as (other, other_url):
            until(lambda: total(other_url, "workers") == 2)
            assert in_use in tmp_path.iterdir()
            other.terminate()
            assert other.wait(timeout=30) == 0
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert not list(tmp_path.iterdir())


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody waits for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_workers_that_cannot_start_end_it_with_1(models: Path, tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError('broken on purpose')\n")
    code = "import sys; sys.argv = ['surprisal', 'serve', '--workers', '2', '--port', '0', '--models', sys.argv[1]]"
    code += "; from surprisal.cli.main import main; import os, service.process.server"
    code += "; os.environ['PYTHONPATH'] = sys.path[-1]; main()"
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(tmp_path)!r}); {code}", str(models)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "a worker could not start" in result.stderr


async def test_processes_that_cannot_be_started_end_it_with_1(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def none_left(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(asyncio, "create_subprocess_exec", none_left)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = Settings(models=models)
        folder = MetricsFolder(None)
        assert await Supervisor(settings, 2, [listening], folder, KeyRing(settings)).run() == 1
    folder.remove()
    assert "no process could be started: Resource temporarily unavailable" in caplog.text


def test_ctrl_c_in_a_terminal_answers_what_was_begun(models: Path) -> None:
    body = json.dumps({"records": [RECORD]}).encode()
    head = f"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with running(models, workers=2, own_group=True) as (process, url):
        until(lambda: total(url, "workers") == 2)
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as client:
            client.sendall(head + body[:-5])
            until(lambda: total(url, "requests_in_progress") > 0)
            os.killpg(process.pid, signal.SIGINT)
            until(lambda: not answers(url))
            client.sendall(body[-5:])
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert process.wait(timeout=30) == 0


def answers(url: str) -> bool:
    """Whether a new connection is answered."""
    try:
        return httpx.get(f"{url}/healthz", timeout=30).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("line", ["starting 2 workers on", "Started server process", "Application startup complete"])
def test_a_signal_during_the_start_is_a_clean_end(models: Path, line: str, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "surprisal", "serve", "--models", str(models), "--port", "0", "--workers", "2"]
    environment = {**os.environ, "SURPRISAL_DRAIN_SECONDS": "0"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        assert any(line in written for written in iter(process.stderr.readline, ""))
        process.send_signal(number)
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("workers", [1, 2])
def test_under_load_the_end_loses_no_request(models: Path, workers: int, number: signal.Signals) -> None:
    body = json.dumps({"records": [RECORD]}).encode()
    ended = threading.Event()

    def ask(port: int, *, keep: bool) -> list[str]:
        """What became of each request until nobody listens any more."""
        outcomes: list[str] = []
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not ended.is_set():
            try:
                connection.request("POST", "/score", body)
                answer = connection.getresponse()
                answer.read()
                outcomes.append(str(answer.status))
                if not keep:
                    connection.close()
            except ConnectionRefusedError:
                break
            except (OSError, http.client.HTTPException) as error:
                outcomes.append(repr(error))
                connection.close()
        connection.close()
        return outcomes

    with (
        running(models, workers, environment={"SURPRISAL_DRAIN_SECONDS": "1.0"}) as (process, url),
        concurrent.futures.ThreadPoolExecutor(12) as pool,
    ):
        until(lambda: total(url, "workers") == workers)
        port = int(url.rsplit(":", 1)[1])
        clients = [pool.submit(ask, port, keep=place < 8) for place in range(12)]
        until(lambda: total(url, "http_requests_total", route="/score", status="200") > 100)
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
        ended.set()
        assert {outcome for client in clients for outcome in client.result()} == {"200"}


def test_a_free_port_is_said(models: Path) -> None:
    command = [sys.executable, "-m", "surprisal", "serve", "--models", str(models), "--port", "0", "--workers", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        (url,) = re.findall(r"starting 1 worker on (http://127\.0\.0\.1:\d+)\"", process.stderr.readline())
        assert any(f"1 worker answers on {url}; " in line for line in iter(process.stderr.readline, ""))
        assert answers(url)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


def test_a_name_of_several_addresses_is_answered_on_all_of_them() -> None:
    sockets = listening.public(Settings(host="localhost", port=0))
    with contextlib.ExitStack() as opened:
        addresses = {opened.enter_context(each).getsockname()[0] for each in sockets}
    meant = {each[4][0] for each in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}
    assert "127.0.0.1" in addresses
    assert addresses <= meant, "and of a network that is not here none"
