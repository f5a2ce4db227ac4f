"""Clients that take more than their share: large heads, slow ones, silence, lies about lengths."""

import contextlib
import json
import resource
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import NAME, running, until

pytestmark = pytest.mark.slow

BODY = json.dumps({"records": [{"amount": 12.5}]}).encode()
QUICK = {"SURPRISAL_HEAD_SECONDS": "1", "SURPRISAL_IDLE_SECONDS": "2", "SURPRISAL_DRAIN_SECONDS": "0"}
IDLE = 5000


@pytest.fixture(scope="module")
def quick(models: Path) -> Iterator[tuple[str, int]]:
    """A service of little patience: its address and its process."""
    with running(models, environment=QUICK) as (process, url):
        yield url, process.pid


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=30)


def received(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    content = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(2**16):
            content += piece
    return content


def wait_for(connection: socket.socket, text: bytes) -> None:
    """Read until an answer holds a text."""
    content = b""
    while text not in content:
        piece = connection.recv(2**16)
        assert piece, content
        content += piece


def drip(connection: socket.socket, content: bytes, seconds: float) -> bytes:
    """Send a byte at a time until there is an answer; the answer."""
    for byte in content:
        if select.select([connection], [], [], seconds)[0]:
            break
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(bytes([byte]))
    return received(connection)


def request(headers: bytes = b"", body: bytes = BODY, path: bytes = b"/score") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + length + headers + b"\r\n" + body


def memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def working(url: str) -> float:
    """Requests in progress."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("surprisal_requests_in_progress "))


def rejected(url: str, reason: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if f'rejected_total{{reason="{reason}"}}' in line)


@pytest.mark.parametrize("piece", [b"x" * 2**20, b"x: y\r\n" * 2**17], ids=["one header", "many headers"])
def test_100_megabytes_of_headers_are_431_and_take_no_memory(quick: tuple[str, int], piece: bytes) -> None:
    url, pid = quick
    httpx.post(f"{url}/score", content=BODY)
    before, counted = memory(pid), rejected(url, "head-too-large")
    with connect(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nx-long: ")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100 * 2**20 // len(piece)):
                connection.sendall(piece)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"over 65536 bytes" in answer
    assert memory(pid) - before < 20 * 2**20
    assert rejected(url, "head-too-large") == counted + 1


def test_a_head_just_within_the_limit_is_read_and_a_long_path_counts_too(quick: tuple[str, int]) -> None:
    url, _ = quick
    assert httpx.get(f"{url}/healthz", headers={"x-long": "x" * 60_000}).status_code == 200
    assert httpx.get(f"{url}/healthz?{'x' * 65_000}", headers={"x-long": "x" * 1000}).status_code == 431


@pytest.mark.parametrize("piece", [b"x" * 2**17, b"x: y\r\n" * 2**14], ids=["one trailer", "many trailers"])
def test_trailers_count_as_head(quick: tuple[str, int], piece: bytes) -> None:
    url, pid = quick
    before, counted = memory(pid), rejected(url, "head-too-large")
    with connect(url) as connection:
        head = b"POST /score HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + b"%x\r\n%s\r\n0\r\nx-long: " % (len(BODY), BODY))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(200):
                connection.sendall(piece)
        received(connection)
    assert rejected(url, "head-too-large") == counted + 1
    assert memory(pid) - before < 20 * 2**20
    assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_body_and_the_next_head_in_one_piece_are_both_answered(quick: tuple[str, int]) -> None:
    url, _ = quick
    large = json.dumps({"records": [{"amount": 12.5}] * 8000}).encode()
    with connect(url) as connection:
        connection.sendall(request(body=large) + request(b"Connection: close\r\n"))
        assert received(connection).count(b"HTTP/1.1 200") == 2


def test_of_a_head_that_is_too_large_and_what_follows_in_one_piece_only_431_is_said(quick: tuple[str, int]) -> None:
    url, _ = quick
    counted = rejected(url, "head-too-large")
    large = b"GET /models HTTP/1.1\r\nHost: localhost\r\nx-long: " + b"x" * 70_000 + b"\r\n\r\n"
    for follows in (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", request(), large):
        with connect(url) as connection:
            connection.sendall(large + follows)
            answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert answer.count(b"HTTP/1.1") == 1
    assert rejected(url, "head-too-large") == counted + 3


@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "in two"])
@pytest.mark.parametrize("chunked", [False, True], ids=["by length", "chunked"])
def test_an_offer_of_another_protocol_is_ignored(quick: tuple[str, int], chunked: bool, apart: bool) -> None:
    url, _ = quick
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    if chunked:
        whole = b"POST /score HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n" + offer + b"\r\n"
        whole += b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    else:
        whole = request(offer)
    cut = whole.index(b"\r\n\r\n") + 4 if apart else len(whole)
    with connect(url) as connection:
        connection.sendall(whole[:cut])
        if apart:
            until(lambda: working(url) > 0)
            connection.sendall(whole[cut:])
        wait_for(connection, b'"results"')
    with connect(url) as connection:
        connection.sendall(request(offer, body=b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 400 "), "a body is never read as a request"
    assert answer.count(b"HTTP/1.1") == 1
    assert httpx.get(f"{url}/healthz", headers={"Connection": "Upgrade", "Upgrade": "h2c"}).status_code == 200


@pytest.mark.parametrize("said", [b"", b'9\r\n{"amount"', b'10\r\n{"amount": 3.5}\n\r\n'])
def test_a_stream_in_which_nothing_comes_is_ended(quick: tuple[str, int], said: bytes) -> None:
    url, _ = quick
    with connect(url) as connection:
        head = b"POST /score HTTP/1.1\r\nHost: localhost\r\n"
        head += b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked"
        connection.sendall(head + b"\r\n\r\n" + said)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 200 " if said.endswith(b"\n\r\n") else b"HTTP/1.1 408 ")
    assert b"nothing came for 2 seconds" in answer


def test_a_head_a_byte_at_a_time_is_408(quick: tuple[str, int]) -> None:
    url, _ = quick
    counted = rejected(url, "head-too-slow")
    with connect(url) as connection:
        assert drip(connection, b"GET /healthz HTTP/1.1\r\n" * 10, 0.2).startswith(b"HTTP/1.1 408 ")
    assert rejected(url, "head-too-slow") == counted + 1


def test_a_body_a_byte_at_a_time_is_408(quick: tuple[str, int]) -> None:
    url, _ = quick
    with connect(url) as connection:
        connection.sendall(
            b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nX-Deadline-Ms: 1000\r\n\r\n"
        )
        answer = drip(connection, b"{" * 1000, 0.2)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body-too-slow" in answer


@pytest.mark.parametrize("said", [b"", b"\r\n" * 100], ids=["nothing", "empty lines"])
def test_who_asks_for_nothing_is_let_go(quick: tuple[str, int], said: bytes) -> None:
    url, _ = quick
    with connect(url) as connection:
        assert drip(connection, said, 0.2) == b""
    with connect(url) as connection:
        connection.sendall(request())
        wait_for(connection, b'"results"')
        assert drip(connection, said, 0.2) == b"", "nor after an answer"


def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(quick: tuple[str, int]) -> None:
    url, _ = quick
    with connect(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        wait_for(connection, b"alive")
        started = time.monotonic()
        while time.monotonic() - started < 30:
            try:
                connection.send(b"x")
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(0.1)
        else:
            pytest.fail("it went on")


def test_two_gigabytes_announced_are_413_before_they_are_sent(quick: tuple[str, int]) -> None:
    url, _ = quick
    with connect(url) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2147483648\r\n\r\n")
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 50\r\n",
        b"Content-Length: 5, 50\r\n",
        b"Content-Length: +5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
    ],
    ids=lambda lengths: lengths.decode().strip().replace("\r\n", " and "),
)
def test_two_lengths_smuggle_nothing(quick: tuple[str, int], lengths: bytes) -> None:
    url, _ = quick
    hidden = b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(url) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\n" + lengths + b"\r\n0\r\n\r\n" + hidden)
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert NAME.encode() not in answer


def test_5000_idle_connections_keep_nobody_from_being_answered(models: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + 500:
        pytest.skip(f"this process may have {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        patient = {"SURPRISAL_IDLE_SECONDS": "10", "SURPRISAL_DRAIN_SECONDS": "0"}
        with running(models, 2, environment=patient) as (_, url):
            with contextlib.ExitStack() as idle:
                connections = [idle.enter_context(connect(url)) for _ in range(IDLE)]
                for _ in range(20):
                    assert httpx.post(f"{url}/score", content=BODY).status_code == 200
                until(lambda: all(closed(each) for each in connections[::500]))
            assert httpx.post(f"{url}/score", content=BODY).status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def closed(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection on which nothing is sent."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
