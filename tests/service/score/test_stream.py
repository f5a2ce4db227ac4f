"""NDJSON answered while it is still being sent: in order, in constant memory, and with an end that says what it is."""

import contextlib
import gzip
import http.client
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.codecs.ndjson import Splitter
from service.settings import Settings
from tests.conftest import in_process, running, until
from tests.service.process.test_server import in_progress
from tests.service.score.test_score import MARK, PAYMENT

Records = list[dict[str, Any]]
TYPE = b"application/x-ndjson"


def lines(records: Records) -> bytes:
    return b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)


class Upload:
    """A client of a running service that reads whenever it wants to, before it has sent everything."""

    def __init__(self, server: str, **headers: str) -> None:
        self._connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=60)
        self._connection.putrequest("POST", "/score?samples=1")
        for name, value in {"Content-Type": TYPE.decode(), "Transfer-Encoding": "chunked", **headers}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()

    def send(self, body: bytes) -> None:
        self._connection.send(b"%x\r\n%s\r\n" % (len(body), body))

    def end(self) -> None:
        self._connection.send(b"0\r\n\r\n")

    def answer(self) -> http.client.HTTPResponse:
        return self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def upload(server: str) -> Iterator[Upload]:
    with contextlib.closing(Upload(server)) as upload:
        yield upload


def test_each_line_is_answered_before_the_next_is_sent(upload: Upload, server: str, payments: Records) -> None:
    expected = httpx.post(f"{server}/score?samples=1", json={"records": payments[:5]}).json()["results"]
    upload.send(lines(payments[:1]))
    answer = upload.answer()
    assert (answer.status, answer.headers["content-type"]) == (200, TYPE.decode())
    assert answer.headers["surprisal-samples"] == "1"
    found = [orjson.loads(answer.readline())]
    for payment in payments[1:5]:
        upload.send(lines([payment]))
        found.append(orjson.loads(answer.readline()))
    upload.end()
    assert answer.read() == b""
    assert [each["elbo"] for each in found] == pytest.approx([each["elbo"] for each in expected], rel=1e-5)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_60_000_lines_come_back_in_order_while_they_are_sent(server: str, payments: Records, coding: str) -> None:
    body = lines(payments) * 60
    body = gzip.compress(body, 1) if coding == "gzip" else body
    reading = threading.Event()
    with contextlib.closing(Upload(server, **{"Content-Encoding": coding})) as upload:

        def send() -> None:
            half = len(body) // 2
            for start in range(0, len(body), 50_000):
                if start >= half:  # the rest only once results have come
                    assert reading.wait(60)
                upload.send(body[start : start + 50_000])
            upload.end()

        sender = threading.Thread(target=send)
        sender.start()
        answer = upload.answer()
        found = []
        while line := answer.readline():
            found.append(orjson.loads(line)["anomaly_score"])
            reading.set()
        sender.join()
    response = httpx.post(f"{server}/score?samples=1", json={"records": payments})
    alone = [result["anomaly_score"] for result in response.json()["results"]]
    np.testing.assert_allclose(found, alone * 60, rtol=1e-5, atol=1e-5)


BAD: list[tuple[bytes, str]] = [
    (b'{"amount": %b}' % MARK.encode(), "not JSON: "),
    (b'{"amount": 1} {"amount": 2}', "not JSON: "),
    (b"\xff", "not JSON: "),
    (b"7", "a record is an object by field name or an array in field order"),
    (b"[1]", "an array record holds 11 values, one a field; this one has 1"),
    (b"{}", "no field is present"),
    (b'{"amount": "%b"}' % MARK.encode(), "amount: a number is expected"),
    (b'{"colour": 1, "size": 2}', "colour: no such field (and 1 more)"),
    (b'{"amount": 1, "card_present": 5}', "card_present: true or false is expected"),
    (b'{"amount": "%b"}' % (b"x" * 5000), "the line is over 4096 bytes"),
    (b'{"amount": 1}' + b" " * 5000, "the line is over 4096 bytes"),
]


async def test_bad_lines_are_answered_in_their_place_and_counted(models: Path) -> None:
    good = orjson.dumps(PAYMENT)
    body = b"\xef\xbb\xbf" + good + b"\r\n\n  \t\n"
    places = []
    for text, _ in BAD:
        places.append(body.count(b"\n") + 1)
        body += text + b"\n" + good + b"\n\r\n"
    async with in_process(Settings(models=models, max_line_bytes=4096)) as (client, _):
        response = await client.post("/score", content=body + good, headers={"Content-Type": TYPE.decode()})
        assert response.status_code == 200
        found = [orjson.loads(line) for line in response.content.splitlines()]
        assert len(found) == 2 * len(BAD) + 2
        for number, (_, error), answer in zip(places, BAD, found[1::2], strict=False):
            assert answer["line"] == number
            assert answer["error"].startswith(error)
        assert all("elbo" in answer for answer in [*found[0::2], found[-1]])
        assert MARK not in response.text
        metrics = (await client.get("/metrics")).text
        assert f'surprisal_rejected_total{{reason="invalid-line"}} {len(BAD)}.0' in metrics


@pytest.mark.parametrize("many", [1, 511, 512, 513, 3000])
async def test_all_lines_may_be_bad(client: httpx.AsyncClient, many: int) -> None:
    for bad in (b"{\n", b'{"amount": "x"}\n', b"{}\n", b'{"amount": 1, "hour": "x"}\n'):
        response = await client.post("/score", content=bad * many, headers={"Content-Type": TYPE.decode()})
        assert [orjson.loads(line)["line"] for line in response.content.splitlines()] == list(range(1, many + 1))


async def test_no_lines_have_no_answers(client: httpx.AsyncClient) -> None:
    for body in (b"", b"\n\n", b"\xef\xbb\xbf\n"):
        response = await client.post("/score", content=body, headers={"Content-Type": TYPE.decode()})
        assert (response.status_code, response.content) == (200, b"")


@given(texts=st.lists(st.sampled_from([b"", b" ", b"{}", b"\xff", b"x" * 9, b"y" * 10, b"z" * 11])), cuts=st.data())
def test_lines_are_the_same_however_they_are_cut(texts: list[bytes], cuts: st.DataObject) -> None:
    body = b"\n".join(texts)
    splitter, rest, found = Splitter(10), body, []
    while rest:
        size = cuts.draw(st.integers(1, len(rest)))
        found += splitter.feed(rest[:size])
        rest = rest[size:]
    found += splitter.end()
    numbered = [(number, text if len(text) <= 10 else None) for number, text in enumerate(texts, 1) if text.strip()]
    assert found == numbered


def test_a_line_without_end_takes_no_memory() -> None:
    splitter = Splitter(1000)
    for _ in range(10_000):
        assert splitter.feed(b"x" * 1000) == []
        assert len(splitter._begun) <= 1000
    assert splitter.feed(b"\n{}\n") == [(1, None), (2, b"{}")]


def sent_until_cut_off(client: socket.socket, body: bytes) -> int:
    """Bytes that a service takes from a client that reads nothing."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 10**9:
            sent += client.send(body)
    return sent


def test_a_client_that_does_not_read_is_cut_off(models: Path, payments: Records) -> None:
    body = lines(payments)
    with running(models, environment={"SURPRISAL_WRITE_IDLE_SECONDS": "0.3"}) as (_, url), httpx.Client() as watching:
        host, port = url.removeprefix("http://").split(":")
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(60)
            deaf.connect((host, int(port)))
            deaf.sendall(b"POST /score?samples=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n")
            deaf.sendall(b"Content-Length: 10000000000\r\n\r\n")
            # What the buffers of two sockets hold, and not what the service would.
            assert sent_until_cut_off(deaf, body) < 50 * 2**20
        until(lambda: in_progress(watching, url) == 0)
        assert 'surprisal_rejected_total{reason="client-not-reading"} 1.0' in watching.get(f"{url}/metrics").text
        assert httpx.post(f"{url}/score", json={"records": payments[:1]}).status_code == 200


def test_a_client_that_leaves_stops_everything(server: str, payments: Records) -> None:
    with httpx.Client() as watching:
        for read in (False, True):
            upload = Upload(server)
            upload.send(lines(payments) * 3)
            if read:
                upload.answer().readline()
            upload.close()
            until(lambda: in_progress(watching, server) == 0)


def test_a_stream_that_outlives_the_grace_is_told(models: Path, payments: Records) -> None:
    limits = {"SURPRISAL_DRAIN_SECONDS": "0", "SURPRISAL_GRACE_SECONDS": "1"}
    with running(models, environment=limits) as (process, url), contextlib.closing(Upload(url)) as upload:
        upload.send(lines(payments[:1]))
        answer = upload.answer()
        assert "elbo" in orjson.loads(answer.readline())
        process.send_signal(signal.SIGTERM)
        assert "going away" in orjson.loads(answer.readline())["error"]
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        assert process.wait(timeout=30) == 0
