"""`POST /score`: bytes to tensors, tensors to scores, scores to bytes; no framework in between."""

import asyncio
import gzip
import time
from collections.abc import Callable
from functools import lru_cache

from bundle.manifest import Manifest
from service import negotiation
from service.asgi import Headers, Receive, Scope, Send, respond
from service.body import inflater, read_body
from service.codecs import json, ndjson
from service.codecs.request import ScoreRequest
from service.decoding import takes_long
from service.errors import BodyTooSlow, Fault, RequestInvalid, ServiceError, TooManyRecords
from service.metrics import Metrics
from service.models import Models
from service.negotiation import Codec
from service.question import Question
from service.served_model import ServedModel
from service.settings import Settings
from service.stages import Stages
from service.stream import Stream, Upload
from service.verdicts import Verdicts

THREAD_RECORDS = 1024
"""Answers of more records are encoded on a thread; of a quarter of them where they are compressed, of any with
explanations."""
COMPRESSED_BYTES = 2**10
"""Answers above this are compressed where the client asks for it."""

_COMPRESSED = ((b"content-encoding", b"gzip"),)
_SLACK = 4  # commas and brackets that text may hold, for each that JSON needs
_MOST_ROWS = 2**21
"""Arrays in a body of images: a hundred bytes each once parsed, where the numbers in them take eight."""


class ScoreEndpoint:
    """Answers a request for scores in the format that the client speaks.

    Args:
        models: What is in service.
        settings: Limits and the default deadline.
        metrics: Where the stages are timed.
    """

    def __init__(self, models: Models, settings: Settings, metrics: Metrics) -> None:
        self._models = models
        self._settings = settings
        self._metrics = metrics
        self._stages = Stages(metrics)
        self._decoding = asyncio.Semaphore(1)

    async def __call__(
        self, scope: Scope, headers: Headers, receive: Receive, send: Send, name: str | None, version: str | None
    ) -> None:
        """Answer one request; every refusal is raised as a `ServiceError`.

        Args:
            scope: The request's.
            headers: Its headers, by lower-case name.
            receive: Where its body comes from.
            send: Where the answer goes.
            name: The model that the path names, or None for the default.
            version: The version that it names, or None for the one in service.
        """
        seconds = seconds_allowed(headers, self._settings)
        deadline = time.monotonic() + seconds
        decoder = negotiation.decoder(headers)
        encoder = negotiation.encoder(headers, decoder)
        if decoder is encoder is negotiation.NDJSON:
            await self._stream(scope, headers, receive, send, name, version, seconds)
            return
        self._models.get(name, version).refuse_if_full()
        model, request, again = await self._read(scope, headers, receive, decoder, name, version, seconds)
        verdicts, timing = await model.score(request.tensors, request.question, deadline)
        started = time.perf_counter()
        compress = b"accept-encoding" in headers and negotiation.gzip_wanted(headers)
        records = len(verdicts.table)
        said = (encoder, model, request.question, verdicts, compress)
        many = THREAD_RECORDS // 4 if compress else THREAD_RECORDS
        if records > many or verdicts.explanations is not None:
            answer, coding = await asyncio.to_thread(_encoded, *said)
        else:
            answer, coding = _encoded(*said)
        self._stages.encoded(started)
        stages = f"queue;dur={timing.queue * 1e3:.3f}, infer;dur={timing.infer * 1e3:.3f}"
        if request.question.explain:
            stages += f", explain;dur={timing.explain * 1e3:.3f}"
        said_by = _said_by(model.name, model.version, request.question, model.manifest.explained)
        answer_headers = [(b"server-timing", stages.encode()), *said_by, *coding]
        await respond(send, 200, answer, encoder.MEDIA_TYPE.encode(), answer_headers)
        if again is not None and model.shadow is not None:
            model.shadow.offer(again)

    async def _read(
        self,
        scope: Scope,
        headers: Headers,
        receive: Receive,
        decoder: Codec,
        name: str | None,
        version: str | None,
        seconds: float,
    ) -> tuple[ServedModel, ScoreRequest, Callable[[Manifest], ScoreRequest] | None]:
        """What is asked, of which model, and how to read it once more where that has a shadow.

        Otherwise nothing holds on to the body, which is larger than its tensors.
        """
        settings = self._settings
        try:
            async with asyncio.timeout(seconds):
                body = await read_body(headers, receive, settings.max_body_bytes, settings.max_expanded_bytes)
        except TimeoutError:
            raise BodyTooSlow("the body did not arrive within the deadline", close=True) from None
        # Asked again: by now there may be another version.
        model = self._models.get(name, version)
        started = time.perf_counter()
        question = model.question.worded(scope["query_string"], model.manifest)
        limit = model.largest_request
        if takes_long(model.schema, len(body)):
            # One at a time: threads that decode side by side keep the event loop from its turn, and are no faster.
            async with self._decoding:
                request = await asyncio.to_thread(_decode_large, decoder, body, model.manifest, limit, question)
        else:
            request = decoder.decode(body, model.manifest, limit, question)
        self._stages.decoded(started)
        if model.shadow is None:
            return model, request, None
        return model, request, lambda manifest: _decode_large(decoder, body, manifest, limit, question)

    async def _stream(
        self,
        scope: Scope,
        headers: Headers,
        receive: Receive,
        send: Send,
        name: str | None,
        version: str | None,
        seconds: float,
    ) -> None:
        upload = Upload(receive)
        try:
            model = self._models.get(name, version)
            question = model.question.worded(scope["query_string"], model.manifest)
            said_by = _said_by(model.name, model.version, question, model.manifest.explained)
            media_type = (b"content-type", negotiation.NDJSON.MEDIA_TYPE.encode())
            head = {"type": "http.response.start", "status": 200, "headers": [media_type, *said_by]}
            stream = Stream(model, question, seconds, head, self._settings, self._metrics)
            await stream.run(upload, inflater(headers), send)
        except ServiceError as error:
            await upload.drain()
            error.close = not upload.ended
            raise


def seconds_allowed(headers: Headers, settings: Settings) -> float:
    """How long a request may take: the service's deadline, or less where `X-Deadline-Ms` says so.

    Raises:
        RequestInvalid: The header is no number of milliseconds.
    """
    wanted = headers.get(b"x-deadline-ms")
    if wanted is None:
        return settings.deadline_ms / 1e3
    if not wanted.isdigit() or len(wanted) > 9 or int(wanted) < 1:
        raise RequestInvalid([Fault("", "X-Deadline-Ms: a whole number of milliseconds is expected")])
    return min(settings.deadline_ms, int(wanted)) / 1e3


@lru_cache(256)
def _said_by(name: str, version: int, question: Question, explained: str) -> tuple[tuple[bytes, bytes], ...]:
    """What the head of every answer says of what gave it, and of what decided how it looks."""
    explains = ((b"surprisal-explains", explained.encode()),) if question.explain else ()
    return (
        *explains,
        (b"surprisal-model", name.encode()),
        (b"surprisal-version", str(version).encode()),
        (b"surprisal-samples", str(question.samples).encode()),
        (b"surprisal-score", question.score.encode()),
        (b"surprisal-false-alarm-rate", repr(question.false_alarm_rate).encode()),
        (b"vary", b"accept, accept-encoding"),
    )


def _decode_large(
    decoder: Codec, body: bytes, manifest: Manifest, max_records: int, question: Question
) -> ScoreRequest:
    """Decode a body that may have been made to do harm.

    JSON such as `[[],[],[],` takes thirty times its size once parsed, and seconds that no other thread gets.
    """
    if decoder.MEDIA_TYPE in (json.MEDIA_TYPE, ndjson.MEDIA_TYPE):
        nested = body.count(b"[") + body.count(b"{")
        if manifest.record.image:
            if nested > _MOST_ROWS or body.count(b",") > max_records * (manifest.record.image[0].dimensions + 2):
                raise TooManyRecords("more numbers than a request may hold; send fewer images, or files in base64")
        elif nested + body.count(b",") > _SLACK * max_records * (len(manifest.record.names) + 2):
            raise TooManyRecords(f"more values than {max_records} records hold, which is the most of a request")
    return decoder.decode(body, manifest, max_records, question)


def _encoded(
    encoder: Codec, model: ServedModel, question: Question, verdicts: Verdicts, compress: bool
) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """The body of an answer, and the header that says how it is compressed."""
    answer = encoder.encode(model.name, model.version, question, verdicts)
    if not compress or len(answer) <= COMPRESSED_BYTES:
        return answer, ()
    return gzip.compress(answer, 1, mtime=0), _COMPRESSED
