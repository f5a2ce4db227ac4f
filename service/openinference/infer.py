"""`POST /v2/models/NAME/infer`: tensors to scores, over the same batcher as `POST /score`."""

from dataclasses import dataclass

from bundle.contents.manifest import Manifest
from service.codecs import footprint, json
from service.engine.question import Question
from service.engine.request import Admission, admitted
from service.engine.verdicts import Verdicts
from service.exchange.dialect import Answer, Spent
from service.models.served_model import ServedModel
from service.openinference import outputs, request
from service.openinference.request import HEADER_LENGTH, InferRequest
from service.openinference.statistics import InferStatistics


@dataclass(frozen=True, slots=True)
class Infer:
    """The `Dialect` of `infer`.

    Args:
        header_length: The header `Inference-Header-Content-Length` of the request, if it has one.
        statistics: Where the requests are counted.
    """

    header_length: bytes | None
    statistics: InferStatistics

    becomes = footprint.DECODED[json.MEDIA_TYPE]
    keeps_body = True
    written = json.MEDIA_TYPE

    def question(self, model: ServedModel) -> Question:
        """See `Dialect`; the query string asks nothing here."""
        return model.question

    def bound(self, body: bytes, manifest: Manifest, max_records: int) -> int:
        """See `Dialect`."""
        return request.bound(body, self.header_length, manifest, max_records)

    def decode(
        self, body: bytes, manifest: Manifest, max_records: int, question: Question, admission: Admission = admitted
    ) -> InferRequest:
        """See `Dialect`."""
        return request.decode(body, self.header_length, manifest, max_records, question, admission)

    def write(self, model: ServedModel, asked: InferRequest, verdicts: Verdicts) -> Answer:
        """See `Dialect`."""
        columns = verdicts.columns()
        said = outputs.encode(model.name, model.version, asked.id, asked.question, columns, asked.outputs)
        head = [(b"vary", b"accept-encoding")]
        if said.header_length is not None:
            head.append((HEADER_LENGTH, str(said.header_length).encode()))
        return Answer(said.body, said.media_type, head)

    def answered(self, model: ServedModel, spent: Spent) -> None:
        """See `Dialect`."""
        self.statistics.succeeded(model, spent)

    def failed(self, model: ServedModel, seconds: float) -> None:
        """See `Dialect`."""
        self.statistics.failed(model, seconds)
