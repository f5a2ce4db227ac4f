"""A stream message by message: what it takes and says when, and how it ends."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest

from bundle.record.fields import Tensors
from service.engine.question import Question
from service.engine.verdicts import Verdicts
from service.errors import InferenceFailed, QueueFull
from service.front.app import Application
from service.models.served_model import ServedModel, Timing
from service.score import stream, waiting_lines
from service.settings import Settings
from service.wire.asgi import Message
from tests.conftest import in_process
from tests.service.score.test_stream import TYPE, Records, lines


class Exchange:
    """One request to an application, message by message."""

    def __init__(self, app: Application, headers: dict[bytes, bytes], query: bytes) -> None:
        self.sent: list[Message] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.received = 0
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        given = {b"host": b"localhost", b"content-type": TYPE, **headers}
        scope = {"type": "http", "method": "POST", "path": "/score", "query_string": query}
        scope["headers"] = list(given.items())
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        message = await self._inbox.get()
        self.received += 1
        return message

    async def _send(self, message: Message) -> None:
        await self.reading.wait()
        self.sent.append(message)

    def put(self, body: bytes, more: bool = True) -> None:
        self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def answers(self) -> Records:
        body = b"".join(message["body"] for message in self.sent[1:])
        return [orjson.loads(line) for line in body.splitlines()]

    @property
    def complete(self) -> bool:
        return not self.sent[-1].get("more_body", False)


@pytest.fixture
async def app(models: Path) -> AsyncIterator[Application]:
    async with in_process(Settings(models=models, write_idle_seconds=0.2)) as (_, app):
        yield app


@pytest.fixture
async def exchange(app: Application) -> AsyncIterator[Callable[..., Exchange]]:
    begun: list[Exchange] = []

    def begin(query: bytes = b"samples=1", **headers: bytes) -> Exchange:
        begun.append(Exchange(app, {name.replace("_", "-").encode(): value for name, value in headers.items()}, query))
        return begun[-1]

    yield begin
    for each in begun:
        each.task.cancel()
    await asyncio.gather(*(each.task for each in begun), return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.002)


def failing(model: ServedModel, monkeypatch: pytest.MonkeyPatch, *failures: Exception | None) -> list[int]:
    """Have a model fail in its next calls; None is a call that does not. Returns the records of each call."""
    real, left, calls = model.score, list(failures), []

    async def score(tensors: Tensors, question: Question, deadline: float) -> tuple[Verdicts, Timing]:
        calls.append(len(next(iter(tensors.values()))))
        if left and (failure := left.pop(0)) is not None:
            raise failure
        return await real(tensors, question, deadline)

    monkeypatch.setattr(model, "score", score)
    return calls


async def test_a_full_queue_refuses_the_first_lines(
    app: Application, exchange: Callable[..., Exchange], monkeypatch: pytest.MonkeyPatch, payments: Records
) -> None:
    failing(app.models.get(), monkeypatch, *[QueueFull("full")] * 9)
    refused = exchange()
    refused.put(lines(payments), more=False)
    await refused.task
    assert (refused.status, refused.complete) == (429, True)
    assert b"connection" not in refused.headers


async def test_later_lines_wait_for_room(
    app: Application, exchange: Callable[..., Exchange], monkeypatch: pytest.MonkeyPatch, payments: Records
) -> None:
    full = QueueFull("full")
    calls = failing(app.models.get(), monkeypatch, None, full, full, full)
    begun = exchange()
    begun.put(lines(payments[:1]))
    await until(lambda: len(begun.answers) == 1 if begun.sent else False)
    begun.put(lines(payments[:2]), more=False)
    await begun.task
    assert (begun.status, len(begun.answers), begun.complete) == (200, 3, True)
    assert calls == [1, 2, 2, 2, 2]


async def test_what_goes_wrong_for_all_is_the_last_line_and_no_end(
    app: Application, exchange: Callable[..., Exchange], monkeypatch: pytest.MonkeyPatch, payments: Records
) -> None:
    failing(app.models.get(), monkeypatch, None, InferenceFailed("the graph has burst"))
    begun = exchange()
    begun.put(lines(payments[:3]))
    await until(lambda: len(begun.sent) > 1)
    begun.put(lines(payments[:2]), more=False)
    await begun.task
    assert begun.answers[3:] == [{"error": "the graph has burst"}]
    assert not begun.complete


async def test_a_version_that_goes_out_of_service_says_so(
    app: Application, exchange: Callable[..., Exchange], payments: Records
) -> None:
    begun = exchange()
    begun.put(lines(payments[:3]))
    await until(lambda: len(begun.sent) > 1)
    await app.models.get().aclose(1.0)
    begun.put(lines(payments[:2]), more=False)
    await begun.task
    assert "send again what has no answer yet" in begun.answers[3]["error"]
    assert not begun.complete


@pytest.mark.parametrize("begun_well", [True, False])
async def test_a_body_that_turns_out_damaged(
    exchange: Callable[..., Exchange], payments: Records, begun_well: bool
) -> None:
    begun = exchange(content_encoding=b"gzip")
    if begun_well:
        begun.put(gzip.compress(lines(payments[:3])))
        await until(lambda: len(begun.sent) > 1)
    begun.put(b"damage", more=False)
    await begun.task
    if begun_well:
        assert (begun.status, len(begun.answers), begun.complete) == (200, 4, False)
        assert "damaged" in begun.answers[3]["error"]
    else:
        assert (begun.status, begun.complete) == (400, True)


async def test_a_body_that_is_refused_is_read_only_so_far(exchange: Callable[..., Exchange]) -> None:
    short = exchange(b"samples=3")
    short.put(b"{}\n")
    short.put(b"{}\n", more=False)
    endless = exchange(b"samples=3")
    for _ in range(100):
        endless.put(b"{}\n" * 10_000)
    await asyncio.gather(short.task, endless.task)
    assert (short.status, endless.status) == (422, 422)
    assert b"connection" not in short.headers
    assert endless.headers[b"connection"] == b"close"
    assert endless.received < 50


async def test_a_client_that_does_not_read_is_not_read_either(
    exchange: Callable[..., Exchange], app: Application, payments: Records
) -> None:
    begun = exchange()
    begun.put(lines(payments[:1]))
    await until(lambda: len(begun.sent) > 1)
    begun.reading.clear()
    for _ in range(1000):
        begun.put(lines(payments[:100]))
    await begun.task
    assert begun.received < 50
    assert not begun.complete
    assert app.metrics.in_progress == 0


async def test_nothing_is_scored_for_a_client_that_has_left(
    exchange: Callable[..., Exchange], app: Application, monkeypatch: pytest.MonkeyPatch, payments: Records
) -> None:
    model = app.models.get()
    calls = failing(model, monkeypatch, *[None] + [QueueFull("full")] * 10_000)
    begun = exchange()
    begun.put(lines(payments[:1]))
    await until(lambda: len(begun.sent) > 1)
    begun.put(lines(payments[:2]))
    await until(lambda: len(calls) > 2)
    begun.leave()
    await begun.task
    assert not begun.complete
    assert not [task for task in asyncio.all_tasks() if "Stream." in repr(task)]


async def test_lines_are_scored_together_as_they_come(
    exchange: Callable[..., Exchange], app: Application, monkeypatch: pytest.MonkeyPatch, payments: Records
) -> None:
    calls = failing(app.models.get(), monkeypatch)
    begun = exchange()
    begun.put(lines(payments), more=False)
    await begun.task
    assert calls == [stream.CHUNK_LINES, len(payments) - stream.CHUNK_LINES]
    # Long lines are fewer at a time.
    calls.clear()
    long = exchange()
    padded = orjson.dumps(payments[0]) + b" " * (waiting_lines.CHUNK_BYTES // 4) + b"\n"
    long.put(padded * 40, more=False)
    await long.task
    assert len(long.answers) == sum(calls) == 40
    assert max(calls) <= 5
