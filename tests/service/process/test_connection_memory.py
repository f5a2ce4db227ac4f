"""What a connection makes a worker hold besides its request: heads, pipelines, answers that nobody reads."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import running, until
from tests.service.process.test_limits import BODY, connect, received, rejected, request

LARGE = json.dumps({"records": [{"amount": 12.5}] * 8000, "samples": 1}).encode()
"""A request whose answer is some megabytes."""


@pytest.fixture(scope="module")
def impatient(models: Path) -> Iterator[str]:
    """A service that soon cuts off who does not read."""
    with running(models, environment={"SURPRISAL_WRITE_IDLE_SECONDS": "1", "SURPRISAL_DRAIN_SECONDS": "0"}) as (_, url):
        yield url


@pytest.mark.parametrize("lines", [250, 300])
def test_a_head_has_so_many_lines_and_no_more(impatient: str, lines: int) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" + b"x: y\r\n" * (lines - 2) + b"\r\n"
    with connect(impatient) as connection:
        connection.sendall(head)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200 " if lines < 256 else b"HTTP/1.1 431 ")


def test_a_short_pipeline_is_answered_and_an_endless_one_is_not(impatient: str) -> None:
    with connect(impatient) as connection:
        connection.sendall(request() * 20 + request(b"Connection: close\r\n"))
        assert received(connection).count(b"HTTP/1.1 200") == 21
    counted = rejected(impatient, "head-too-large")
    with connect(impatient) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 5000)
        assert received(connection).count(b"HTTP/1.1 200") < 5000
    assert rejected(impatient, "head-too-large") == counted + 1
    assert httpx.get(f"{impatient}/healthz").status_code == 200


def test_who_reads_nothing_of_a_whole_answer_is_cut_off(impatient: str) -> None:
    counted = rejected(impatient, "client-not-reading")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(60)
        deaf.connect(("127.0.0.1", int(impatient.rsplit(":", 1)[1])))
        deaf.sendall(request(body=LARGE))
        until(lambda: rejected(impatient, "client-not-reading") == counted + 1)


def test_who_reads_slowly_gets_all_of_it(impatient: str) -> None:
    with connect(impatient) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        slow.sendall(b"POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: ")
        slow.sendall(b"%d\r\n\r\n" % len(LARGE) + LARGE)
        answer = received(slow)
    content = answer.partition(b"\r\n\r\n")[2]
    assert len(json.loads(content)["results"]) == 8000


def test_a_connection_without_a_request_of_its_own_still_hears_of_a_full_memory(models: Path) -> None:
    limits = {"SURPRISAL_MEMORY_MB": "16", "SURPRISAL_DEADLINE_MS": "60000", "SURPRISAL_DRAIN_SECONDS": "0"}
    with running(models, environment=limits) as (_, url), contextlib.ExitStack() as held:
        head = b"POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
        refused = 0
        for _ in range(60):  # each with half of its body: 16 MiB are not enough for all
            connection = held.enter_context(connect(url))
            connection.sendall(head + b"[" * 50_000)
            connection.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                refused += connection.recv(100).startswith(b"HTTP/1.1 429 ")
        assert refused
        # Who needs little still finds some.
        assert httpx.post(f"{url}/score", content=BODY).status_code == 200
