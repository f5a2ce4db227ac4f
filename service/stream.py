"""NDJSON answered line by line while it is still being sent, in constant memory."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from functools import partial

import orjson

from bundle.errors import Problem
from bundle.fields import Tensors
from bundle.manifest import Manifest
from service.asgi import ClientGone, Message, Receive, Send
from service.body import Inflater
from service.codecs import ndjson
from service.codecs.ndjson import Line
from service.codecs.request import ScoreRequest
from service.decoding import takes_long
from service.errors import BodyMalformed, BodyTooSlow, Fault, QueueFull, RequestInvalid, ServiceError, ShuttingDown
from service.metrics import Metrics
from service.question import Question
from service.served_model import ServedModel
from service.settings import Settings
from service.stages import Stages
from service.trace import CURRENT
from service.verdicts import Verdicts

CHUNK_LINES = 512
"""Most lines that are scored together; fewer when fewer have arrived."""
CHUNK_BYTES = 2**20
"""No line is added to a chunk of so many bytes."""
IN_FLIGHT = 2
"""Chunks between being read and having been sent: one is scored while the other is decoded or sent."""
SENT_BYTES = 2**16
"""Most bytes sent at a time, so that a slow reader is told from one that does not read."""
ROOM_SECONDS = 0.02
"""How long a chunk that finds the queue full waits before it tries again."""
DRAINED_BYTES = 2**20
DRAINED_SECONDS = 1.0
"""What is still read of a body that is refused, so that ordinary clients see the answer."""

log = logging.getLogger("surprisal.stream")


class Upload:
    """A body that arrives while it is answered.

    Args:
        receive: Its ASGI channel.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def read(self) -> bytes:
        """What has arrived since the last time.

        Raises:
            ClientGone: The client has left.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    async def until_gone(self) -> None:
        """Read on, for nothing; return once the client has left, or the response is complete."""
        with contextlib.suppress(ClientGone):
            while True:
                await self.read()

    async def drain(self) -> None:
        """Read on for a while; `ended` says afterwards whether that was all."""
        left = DRAINED_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAINED_SECONDS):
                while not self.ended and left > 0:
                    left -= len(await self.read())

    def abort(self) -> None:
        """Break the connection off, with all that is still to be sent: closing it would wait for the client to read."""
        # ASGI has no message for it; this is uvicorn's transport.
        transport = getattr(getattr(self._receive, "__self__", None), "transport", None)
        if transport is not None:
            transport.abort()


class Stream:
    """Scores one body of lines.

    Args:
        model: What scores them, from the first line to the last.
        question: What is asked of each line.
        seconds: Deadline of each chunk.
        head: The head of the answer.
        settings: Limits.
        metrics: Where bad lines and stages are counted.
    """

    def __init__(
        self,
        model: ServedModel,
        question: Question,
        seconds: float,
        head: Message,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._model = model
        self._question = question
        self._seconds = seconds
        self._head: Message | None = head
        self._idle_seconds = settings.idle_seconds
        self._write_idle_seconds = settings.write_idle_seconds
        self._rejected = metrics.rejected
        self._stages = Stages(metrics)
        self._splitter = ndjson.Splitter(settings.max_line_bytes)
        self._too_long = Problem(0, None, f"the line is over {settings.max_line_bytes} bytes")
        self._waiting = _Waiting(min(CHUNK_LINES, model.most_records(question)))
        self._answers: asyncio.Queue[asyncio.Task[bytes | ServiceError] | None] = asyncio.Queue()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._complete = False

    async def run(self, upload: Upload, inflater: Inflater | None, send: Send) -> None:
        """Answer every line, in order.

        Args:
            upload: The body.
            inflater: Of its content encoding.
            send: Where the answer goes.

        Raises:
            ServiceError: Before the first byte of the answer; later ones are its last line.
            ClientGone: The client has left, or does not read what it asks for.
        """
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(upload, inflater))
                scoring = group.create_task(self._score(group))
                await self._write(upload, send)
                reading.cancel()
                scoring.cancel()
                while not self._answers.empty():
                    if (answering := self._answers.get_nowait()) is not None:
                        answering.cancel()
        except BaseExceptionGroup as error:
            raise error.exceptions[0] from None
        except asyncio.CancelledError:
            if self._head is not None:
                raise
            # The server's grace is over.
            await self._break_off(ShuttingDown("the service is shutting down"), upload, send)
            return
        if not self._complete:
            # Now the server closes the connection, without the end that would make the answer seem whole.
            await upload.drain()

    async def _read(self, upload: Upload, inflater: Inflater | None) -> None:
        try:
            while not upload.ended:
                async with asyncio.timeout(self._idle_seconds):
                    body = await upload.read()
                for piece in (body,) if inflater is None else inflater.feed(body):
                    self._waiting.add(self._splitter.feed(piece))
                    await self._waiting.room()
            if inflater is not None:
                inflater.close()
        except BodyMalformed as error:
            self._waiting.end(error)
        except TimeoutError:
            self._waiting.end(BodyTooSlow(f"nothing came for {self._idle_seconds:g} seconds", close=True))
        else:
            self._waiting.add(self._splitter.end())
            self._waiting.end(None)
        await upload.until_gone()
        if not self._complete:
            raise ClientGone

    async def _score(self, group: asyncio.TaskGroup) -> None:
        patient = False
        while True:
            # The slot first and the chunk second: what arrives while it waits makes the chunk larger.
            await self._slots.acquire()
            lines = await self._waiting.take()
            if not lines:
                break
            self._answers.put_nowait(group.create_task(self._answer(lines, patient)))
            patient = True
        self._answers.put_nowait(None)

    async def _answer(self, lines: list[Line], patient: bool) -> bytes | ServiceError:
        """The answer to some lines, or why there is none to any of them."""
        started = time.perf_counter()
        texts = [text or b"" for _, text in lines]
        asked = (self._model.schema, texts, len(texts) + 1)
        if takes_long(self._model.schema, sum(map(len, texts))):
            records = await asyncio.to_thread(ndjson.parse, *asked)
        else:
            records = ndjson.parse(*asked)
        self._stages.decoded(started)
        results: list[bytes] = []
        if records.tensors is not None:
            try:
                verdicts = await self._verdicts(records.tensors, patient)
            except ServiceError as error:
                return error
            started = time.perf_counter()
            explains = verdicts.explanations is not None
            results = await asyncio.to_thread(ndjson.lines, verdicts) if explains else ndjson.lines(verdicts)
            self._stages.encoded(started)
            if self._model.shadow is not None:
                self._model.shadow.offer(partial(_records, [text for _, text in lines if text], self._question))
        if not records.problems:
            return b"".join(results)
        self._rejected.labels("invalid-line").inc(len(records.problems))
        result = iter(results)
        answers = []
        for place, (number, text) in enumerate(lines):
            problems = records.problems.get(place)
            if problems is None:
                answers.append(next(result))
            else:
                answers.append(_error_line(problems if text is not None else [self._too_long], number))
        return b"".join(answers)

    async def _verdicts(self, tensors: Tensors, patient: bool) -> Verdicts:
        while True:
            try:
                verdicts, _ = await self._model.score(tensors, self._question, time.monotonic() + self._seconds)
            except QueueFull:
                if not patient:
                    raise
                await asyncio.sleep(ROOM_SECONDS)
            else:
                return verdicts

    async def _write(self, upload: Upload, send: Send) -> None:
        while (answering := await self._answers.get()) is not None:
            answer = await answering
            if isinstance(answer, ServiceError):
                return await self._break_off(answer, upload, send)
            await self._send(answer, upload, send)
            self._slots.release()
        if self._waiting.error is not None:
            return await self._break_off(self._waiting.error, upload, send)
        self._complete = True
        await self._send(b"", upload, send)
        return None

    async def _break_off(self, error: ServiceError, upload: Upload, send: Send) -> None:
        """Say in one last line what concerns all that would have followed."""
        if self._head is not None:
            raise error
        self._rejected.labels(error.slug).inc()
        if (trace := CURRENT.get()) is not None:
            trace.error = error.slug
        detail = error.detail
        if isinstance(error, ShuttingDown):
            detail = "the service, or this version of the model, is going away; send again what has no answer yet"
        log.warning("a stream was broken off: %s", detail)
        await self._send(orjson.dumps({"error": detail}, option=orjson.OPT_APPEND_NEWLINE), upload, send)

    async def _send(self, content: bytes, upload: Upload, send: Send) -> None:
        """Send a part of the answer, or its end; the client must keep reading.

        Raises:
            ClientGone: It does not.
        """
        messages: list[Message] = []
        if self._head is not None:
            messages.append(self._head)
            self._head = None
        for start in range(0, len(content), SENT_BYTES):
            part = content[start : start + SENT_BYTES]
            messages.append({"type": "http.response.body", "body": part, "more_body": True})
        if self._complete:
            messages.append({"type": "http.response.body", "body": b"", "more_body": False})
        try:
            for message in messages:
                async with asyncio.timeout(self._write_idle_seconds):
                    await send(message)
        except TimeoutError:
            self._rejected.labels("client-not-reading").inc()
            log.warning("a stream was ended: its client read nothing for %g seconds", self._write_idle_seconds)
            upload.abort()
            raise ClientGone from None


class _Waiting:
    """Lines that have been read and wait to be scored.

    Args:
        most: Lines that are taken at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: deque[Line] = deque()
        self._bytes = 0
        self._ended = False
        self._changed = asyncio.Event()
        self.error: ServiceError | None = None

    def add(self, lines: list[Line]) -> None:
        """Append lines."""
        if lines:
            self._lines.extend(lines)
            self._bytes += sum(len(text or b"") for _, text in lines)
            self._changed.set()

    def end(self, error: ServiceError | None) -> None:
        """No more lines will come, and why they do not if the body did not simply end."""
        self._ended = True
        self.error = error
        self._changed.set()

    async def room(self) -> None:
        """Return once more lines may be read; others have their turn in any case."""
        await asyncio.sleep(0)
        while len(self._lines) > self._most or self._bytes > CHUNK_BYTES:
            self._changed.clear()
            await self._changed.wait()

    async def take(self) -> list[Line]:
        """The next lines, as soon as there is one; empty when none will come."""
        while not self._lines and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        taken: list[Line] = []
        size = 0
        while self._lines and len(taken) < self._most and size < CHUNK_BYTES:
            taken.append(self._lines.popleft())
            size += len(taken[-1][1] or b"")
        self._bytes -= size
        self._changed.set()
        return taken


def _records(texts: list[bytes], question: Question, manifest: Manifest) -> ScoreRequest:
    """Those lines that are records of a manifest's fields; the others are the client's mistakes, said elsewhere."""
    records = ndjson.parse(manifest.record, texts, enough=len(texts) + 1)
    if records.tensors is None:
        raise RequestInvalid([Fault("", "no line is a record of these fields")])
    return ScoreRequest(records.tensors, question)


def _error_line(problems: list[Problem], number: int) -> bytes:
    first = problems[0]
    detail = first.detail if first.field is None else f"{first.field}: {first.detail}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return orjson.dumps({"line": number, "error": detail + more}, option=orjson.OPT_APPEND_NEWLINE)
