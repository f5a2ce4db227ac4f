"""`POST /score`: bytes to tensors, tensors to scores, scores to bytes; no framework in between."""

import gzip
import time
from functools import lru_cache

from service.codecs import footprint
from service.codecs.thread_limits import THREAD_RECORDS, takes_long
from service.engine.question import Question
from service.engine.request import ScoreRequest
from service.engine.verdicts import Verdicts
from service.errors import ServiceError
from service.models.registry import Models
from service.models.served_model import ServedModel
from service.models.shadow import Body
from service.score import negotiation
from service.score.negotiation import Codec
from service.score.stream import Stream
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.stages import Stages
from service.wire import client
from service.wire.asgi import Headers, Receive, Scope, Send, respond
from service.wire.body import BodyReader, inflater
from service.wire.budget import Budget, Lease
from service.wire.deadline import seconds_allowed
from service.wire.threads import Threads
from service.wire.upload import Upload

COMPRESSED_BYTES = 2**10
"""Answers above this are compressed where the client asks for it."""

_COMPRESSED = ((b"content-encoding", b"gzip"),)


class ScoreEndpoint:
    """Answers a request for scores in the format that the client speaks.

    Args:
        models: What is in service.
        settings: Limits and the default deadline.
        metrics: Where the stages are timed.
        budget: The memory that requests may take.
        bodies: What reads bodies.
        decoding: Threads that large bodies are decoded on.
        encoding: Threads that large answers are written on.
    """

    def __init__(
        self,
        models: Models,
        settings: Settings,
        metrics: Metrics,
        budget: Budget,
        bodies: BodyReader,
        decoding: Threads,
        encoding: Threads,
    ) -> None:
        self._models = models
        self._settings = settings
        self._metrics = metrics
        self._budget = budget
        self._bodies = bodies
        self._decoding = decoding
        self._encoding = encoding
        self._stages = Stages(metrics)

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
        with Lease(self._budget, client.CURRENT.get()) as lease:
            body = await self._bodies.read(headers, receive, lease, seconds, footprint.DECODED[decoder.MEDIA_TYPE])
            # Asked again: by now there may be another version.
            model = self._models.get(name, version)
            asked = model.question.worded(scope["query_string"], model.manifest)
            request = await self._decoded(model, decoder, body, asked, lease, deadline)
            compress = b"accept-encoding" in headers and negotiation.gzip_wanted(headers)
            records, question = request.records, request.question
            # Otherwise nothing holds on to the body, which is larger than its tensors.
            again = None if model.shadow is None else _again(decoder, body, model.largest_request, asked)
            if records > 1 or question.explain or again is not None:  # what one record takes is reserved already
                held = request.tensor_bytes + footprint.of_answer(
                    encoder.MEDIA_TYPE, model.manifest, records, explain=question.explain, compressed=compress
                )
                if again is not None or decoder.MEDIA_TYPE in footprint.VIEWED:
                    held += len(body)
                lease.settle(held)
            del body
            verdicts, timing = await model.score(request.tensors, question, deadline)
            del request
            started = time.perf_counter()
            said = (encoder, model, question, verdicts, compress)
            many = THREAD_RECORDS // 4 if compress else THREAD_RECORDS
            if records > many or verdicts.explanations is not None:
                answer, coding = await self._encoding.run(_encoded, *said)
            else:
                answer, coding = _encoded(*said)
            del verdicts, said
            self._stages.encoded(started)
            stages = f"queue;dur={timing.queue * 1e3:.3f}, infer;dur={timing.infer * 1e3:.3f}"
            if question.explain:
                stages += f", explain;dur={timing.explain * 1e3:.3f}"
            said_by = _said_by(model.name, model.version, question, model.manifest.explained)
            answer_headers = [(b"server-timing", stages.encode()), *said_by, *coding]
            await respond(send, 200, answer, encoder.MEDIA_TYPE.encode(), answer_headers)
            if again is not None and model.shadow is not None:
                model.shadow.offer(again, self._budget)

    async def _decoded(
        self, model: ServedModel, decoder: Codec, body: bytes, question: Question, lease: Lease, deadline: float
    ) -> ScoreRequest:
        """What a body holds; its parser is entered only once all that it may make is reserved."""
        started = time.perf_counter()
        asked = (body, model.manifest, model.largest_request)
        admission = model.admission(deadline)
        if takes_long(model.schema, len(body)):
            lease.need(len(body) + await self._decoding.run(decoder.bound, *asked))
            request = await self._decoding.run(decoder.decode, *asked, question, admission)
        else:
            lease.need(len(body) + decoder.bound(*asked))
            request = decoder.decode(*asked, question, admission)
        self._stages.decoded(started)
        return request

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
            working = (self._budget, self._decoding, self._encoding)
            stream = Stream(model, question, seconds, head, self._settings, self._metrics, *working)
            await stream.run(upload, inflater(headers), send)
        except ServiceError as error:
            await upload.drain()
            error.close = not upload.ended
            raise


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


def _again(decoder: Codec, body: bytes, most_records: int, question: Question) -> Body:
    """What reads a body once more."""
    return Body(
        len(body),
        lambda manifest: decoder.bound(body, manifest, most_records),
        lambda manifest: decoder.decode(body, manifest, most_records, question),
    )


def _encoded(
    encoder: Codec, model: ServedModel, question: Question, verdicts: Verdicts, compress: bool
) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """The body of an answer, and the header that says how it is compressed."""
    answer = encoder.encode(model.name, model.version, question, verdicts)
    if not compress or len(answer) <= COMPRESSED_BYTES:
        return answer, ()
    return gzip.compress(answer, 1, mtime=0), _COMPRESSED
