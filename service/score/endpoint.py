"""`POST /score`: bytes to tensors, tensors to scores, scores to bytes; no framework in between."""

from dataclasses import dataclass
from functools import lru_cache

from bundle.contents.manifest import Manifest
from service.codecs import footprint
from service.engine.question import Question
from service.engine.request import Admission, ScoreRequest, admitted
from service.engine.verdicts import Verdicts
from service.errors import ServiceError
from service.exchange.answering import answer
from service.exchange.dialect import Answer, Spent
from service.exchange.exchange import Exchange, Resources
from service.exchange.routing import Route, with_version
from service.models.served_model import ServedModel
from service.score import negotiation
from service.score.negotiation import Codec
from service.score.stream import Stream
from service.wire.body import inflater
from service.wire.deadline import seconds_allowed
from service.wire.upload import Upload


@dataclass(frozen=True, slots=True)
class Negotiated:
    """The `Dialect` of `POST /score`: formats that the client named, and the question of its query string.

    Args:
        decoder: Reads the body.
        encoder: Writes the answer.
        query: The query string.
    """

    decoder: Codec
    encoder: Codec
    query: bytes

    @property
    def becomes(self) -> int:
        """See `Dialect`."""
        return footprint.DECODED[self.decoder.MEDIA_TYPE]

    @property
    def keeps_body(self) -> bool:
        """See `Dialect`."""
        return self.decoder.MEDIA_TYPE in footprint.VIEWED

    @property
    def written(self) -> str:
        """See `Dialect`."""
        return self.encoder.MEDIA_TYPE

    def question(self, model: ServedModel) -> Question:
        """See `Dialect`."""
        return model.question.worded(self.query, model.manifest)

    def bound(self, body: bytes, manifest: Manifest, max_records: int) -> int:
        """See `Dialect`."""
        return self.decoder.bound(body, manifest, max_records)

    def decode(
        self, body: bytes, manifest: Manifest, max_records: int, question: Question, admission: Admission = admitted
    ) -> ScoreRequest:
        """See `Dialect`."""
        return self.decoder.decode(body, manifest, max_records, question, admission)

    def write(self, model: ServedModel, request: ScoreRequest, verdicts: Verdicts) -> Answer:
        """See `Dialect`."""
        content = self.encoder.encode(model.name, model.version, request.question, verdicts)
        head = _said_by(model.name, model.version, request.question, model.manifest.explained)
        return Answer(content, self.encoder.MEDIA_TYPE.encode(), head)

    def answered(self, model: ServedModel, spent: Spent) -> None:
        """Nothing is counted here that the gate and the stages do not count."""

    def failed(self, model: ServedModel, seconds: float) -> None:
        """See `answered`."""


class ScoreEndpoint:
    """Answers a request for scores in the format that the client speaks.

    Args:
        resources: What answers it.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        paths = ("/score", *with_version("/models/{name}/score"))
        self.routes = [Route(path, "POST", self._answer) for path in paths]

    async def _answer(self, exchange: Exchange) -> None:
        decoder = negotiation.decoder(exchange.headers)
        encoder = negotiation.encoder(exchange.headers, decoder)
        if decoder is encoder is negotiation.NDJSON:
            await self._stream(exchange)
        else:
            await answer(exchange, Negotiated(decoder, encoder, exchange.query), self._resources)

    async def _stream(self, exchange: Exchange) -> None:
        seconds = seconds_allowed(exchange.headers, self._resources.settings)
        upload = Upload(exchange.receive)
        try:
            model = self._resources.models.get(exchange.name, exchange.version)
            question = model.question.worded(exchange.query, model.manifest)
            said_by = _said_by(model.name, model.version, question, model.manifest.explained)
            media_type = (b"content-type", negotiation.NDJSON.MEDIA_TYPE.encode())
            head = {"type": "http.response.start", "status": 200, "headers": [media_type, *said_by]}
            stream = Stream(model, question, seconds, head, self._resources)
            await stream.run(upload, inflater(exchange.headers), exchange.send)
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
