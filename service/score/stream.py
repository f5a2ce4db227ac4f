"""NDJSON answered line by line while it is still being sent, in memory that is reserved before it is used.

A stream reserves `TEXT_BYTES` and `CHUNK_BASE_BYTES` before it begins, with which it can always go on, however slowly.
Longer lines and larger chunks take more where there is more. What it has read waits for nothing but the stream's own
lines before it.
"""

import asyncio
import logging
import time
from dataclasses import dataclass

import orjson

from bundle.contents.manifest import Manifest
from bundle.errors import Problem
from bundle.record.fields import Tensors
from service.codecs import footprint, ndjson
from service.codecs.ndjson import Line
from service.codecs.thread_limits import takes_long
from service.engine.question import Question
from service.engine.request import ScoreRequest
from service.engine.verdicts import Verdicts
from service.errors import Fault, MemoryFull, QueueFull, RequestInvalid, ServiceError, ShuttingDown
from service.exchange.exchange import Resources
from service.models.served_model import ServedModel
from service.models.shadow import Body
from service.score.line_reader import TEXT_BYTES, LineReader
from service.score.waiting_lines import WaitingLines
from service.wire import client
from service.wire.asgi import ClientGone, Message, Send
from service.wire.body import Inflater
from service.wire.memory_budget import Lease
from service.wire.trace import CURRENT
from service.wire.upload import Upload

CHUNK_LINES = 512
"""Most lines that are scored together; fewer when fewer have arrived."""
IN_FLIGHT = 2
"""Chunks between being read and having been sent: one is scored while the other is decoded or sent."""
SENT_BYTES = 2**16
"""Most bytes sent at a time, so that a slow reader is told from one that does not read."""
ROOM_SECONDS = 0.02
"""How long a chunk that finds the queue full waits before it tries again."""
CHUNK_BASE_BYTES = 3 * 2**18
"""Reserved for one of its chunks, however small that is."""

log = logging.getLogger("surprisal.stream")


@dataclass(slots=True)
class _Chunk:
    """Lines that are answered together.

    Args:
        lines: Their numbers and texts.
        lease: What answering them takes beyond what the stream has reserved.
        answer: The answer, or why there is none to any of them.
    """

    lines: list[Line]
    lease: Lease
    answer: "asyncio.Task[bytes | ServiceError]"


class Stream:
    """Scores one body of lines.

    Args:
        model: What scores them, from the first line to the last.
        question: What is asked of each line.
        seconds: Deadline of each chunk.
        head: The head of the answer.
        resources: What scores them.
    """

    def __init__(
        self,
        model: ServedModel,
        question: Question,
        seconds: float,
        head: Message,
        resources: Resources,
    ) -> None:
        settings, budget = resources.settings, resources.budget
        self._model = model
        self._question = question
        self._seconds = seconds
        self._head: Message | None = head
        self._write_idle_seconds = settings.write_idle_seconds
        self._most_bad = settings.max_records
        self._bad = 0  # lines in a row
        self._rejected = resources.metrics.rejected
        self._stages = resources.stages
        self._budget = budget
        self._decoding = resources.decoding
        self._encoding = resources.encoding
        self._client = client.CURRENT.get()
        self._text, self._base = Lease(budget, self._client), Lease(budget, self._client)
        self._too_long = Problem(0, None, f"the line is over {settings.max_line_bytes} bytes")
        self._waiting = WaitingLines(min(CHUNK_LINES, model.most_records(question)))
        self._reader = LineReader(self._waiting, self._text, settings, seconds)
        self._answers: asyncio.Queue[_Chunk | None] = asyncio.Queue()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._based = asyncio.Lock()
        """Held while a chunk is answered with what the stream has reserved for one."""
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
        with self._text, self._base:
            await self._text.reserve(TEXT_BYTES + CHUNK_BASE_BYTES)
            self._text.hand_over(CHUNK_BASE_BYTES, self._base)
            try:
                async with asyncio.TaskGroup() as group:
                    reading = group.create_task(self._read(upload, inflater))
                    scoring = group.create_task(self._score(group))
                    await self._write(upload, send)
                    reading.cancel()
                    scoring.cancel()
                    while not self._answers.empty():
                        if (chunk := self._answers.get_nowait()) is not None:
                            chunk.answer.cancel()
                            chunk.lease.close()
            except BaseExceptionGroup as error:
                raise error.exceptions[0] from None
            except asyncio.CancelledError:
                if self._head is not None:
                    raise
                # The server's grace is over.
                await self._break_off(ShuttingDown("the service is shutting down"), upload, send)
                return
            finally:
                self._release_chunks()
            if not self._complete:
                await upload.drain()
                await upload.close()

    async def _read(self, upload: Upload, inflater: Inflater | None) -> None:
        await self._reader.read(upload, inflater)
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
            lease = Lease(self._budget, self._client)
            try:
                size = self._footprint(lines)
                based = not lease.take(size)
                if based:
                    # Not together with another chunk, and of so few lines as what is reserved already suffices for.
                    await self._based.acquire()
                    lines = self._fewer(lines)
            except ServiceError as error:
                self._answers.put_nowait(_Chunk(lines, lease, group.create_task(_as_it_is(error))))
                return
            answer = group.create_task(self._answer(lines, patient))
            self._answers.put_nowait(_Chunk(lines, lease, answer))
            patient = True
        self._answers.put_nowait(None)

    def _footprint(self, lines: list[Line]) -> int:
        """Most bytes that answering some lines takes."""
        texts = [text or b"" for _, text in lines]
        answer = footprint.of_answer(
            ndjson.MEDIA_TYPE, self._model.manifest, len(lines), explain=self._question.explain, compressed=False
        )
        return ndjson.bound_lines(texts, self._model.schema) + answer

    def _fewer(self, lines: list[Line]) -> list[Line]:
        """As many of some lines as one chunk's reservation suffices for; the others wait on.

        Raises:
            MemoryFull: It does not even for one.
        """
        most = len(lines)
        while most and self._footprint(lines[:most]) > CHUNK_BASE_BYTES:
            most //= 2
        if not most:
            raise MemoryFull("other requests have the memory that so long a line takes; send it again soon")
        self._waiting.put_back(lines[most:])
        return lines[:most]

    def _answered(self, chunk: _Chunk) -> None:
        """Give back what a chunk took, its answer being sent."""
        if chunk.lease.size:
            chunk.lease.close()
        elif self._based.locked():
            self._based.release()
        self._slots.release()

    def _release_chunks(self) -> None:
        while not self._answers.empty():
            if (chunk := self._answers.get_nowait()) is not None:
                chunk.lease.close()

    async def _answer(self, lines: list[Line], patient: bool) -> bytes | ServiceError:
        """The answer to some lines, or why there is none to any of them."""
        started = time.perf_counter()
        texts = [text or b"" for _, text in lines]
        asked = (self._model.schema, texts, len(texts) + 1)
        if takes_long(self._model.schema, sum(map(len, texts))):
            records = await self._decoding.run(ndjson.parse, *asked)
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
            results = await self._encoding.run(ndjson.lines, verdicts) if explains else ndjson.lines(verdicts)
            self._stages.encoded(started)
            if self._model.shadow is not None:
                self._model.shadow.offer(_again([text for _, text in lines if text], self._question), self._budget)
        if not records.problems:
            self._bad = 0
            return b"".join(results)
        self._bad = self._bad + len(lines) if records.tensors is None else 0
        if self._bad > self._most_bad:
            return RequestInvalid([Fault("", f"over {self._most_bad} lines in a row are no records of these fields")])
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
        while (chunk := await self._answers.get()) is not None:
            try:
                answer = await chunk.answer
                if isinstance(answer, ServiceError):
                    return await self._break_off(answer, upload, send)
                await self._send(answer, upload, send)
            finally:
                self._answered(chunk)
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


def _again(texts: list[bytes], question: Question) -> Body:
    """What reads some lines once more."""
    return Body(
        sum(map(len, texts)),
        lambda manifest: ndjson.bound_lines(texts, manifest.record),
        lambda manifest: _records(texts, question, manifest),
    )


def _records(texts: list[bytes], question: Question, manifest: Manifest) -> ScoreRequest:
    """Those lines that are records of a manifest's fields; the others are the client's mistakes, said elsewhere."""
    records = ndjson.parse(manifest.record, texts, enough=len(texts) + 1)
    if records.tensors is None:
        raise RequestInvalid([Fault("", "no line is a record of these fields")])
    return ScoreRequest(records.tensors, question)


async def _as_it_is(error: ServiceError) -> bytes | ServiceError:
    return error


def _error_line(problems: list[Problem], number: int) -> bytes:
    first = problems[0]
    detail = first.detail if first.field is None else f"{first.field}: {first.detail}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return orjson.dumps({"line": number, "error": detail + more}, option=orjson.OPT_APPEND_NEWLINE)
