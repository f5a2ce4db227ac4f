"""What a protocol adds to an exchange: how a body is read, and how the answer is written."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeVar

from bundle.contents.manifest import Manifest
from service.engine.question import Question
from service.engine.request import Admission, ScoreRequest, admitted
from service.engine.verdicts import Verdicts
from service.models.served_model import ServedModel, Timing

Asked = TypeVar("Asked", bound=ScoreRequest)
"""What a body holds."""


class Answer(NamedTuple):
    """A whole answer.

    Args:
        body: Not compressed.
        media_type: Of the body.
        headers: That are the protocol's own.
    """

    body: bytes
    media_type: bytes
    headers: Iterable[tuple[bytes, bytes]]


class Spent(NamedTuple):
    """Where the seconds between a request's body and its answer's went.

    Args:
        decoding: From the body to tensors.
        scoring: In the queue, in batches, and in explaining.
        encoding: From verdicts to the body.
        total: All of it.
    """

    decoding: float
    scoring: Timing
    encoding: float
    total: float


class Dialect(Protocol[Asked]):
    """How one request is read and answered in a protocol; it holds nothing of the body."""

    @property
    def becomes(self) -> int:
        """What an honest body becomes while it is decoded, in times its size."""

    @property
    def keeps_body(self) -> bool:
        """Whether tensors may be views of the body, which then lives as long as they do."""

    @property
    def written(self) -> str:
        """The media type whose answers take as much memory as these; see `service.codecs.footprint`."""

    def question(self, model: ServedModel) -> Question:
        """What is asked of each record unless the body asks something else.

        Raises:
            RequestInvalid: Nothing that the model can answer.
        """

    def bound(self, body: bytes, manifest: Manifest, max_records: int) -> int:
        """Most bytes that `decode` makes of a body; see `service.score.negotiation.Codec.bound`."""

    def decode(
        self, body: bytes, manifest: Manifest, max_records: int, question: Question, admission: Admission = admitted
    ) -> Asked:
        """Read a body; see `service.score.negotiation.Codec.decode`."""

    def write(self, model: ServedModel, request: Asked, verdicts: Verdicts) -> Answer:
        """Write the answer; called by any thread."""

    def answered(self, model: ServedModel, spent: Spent) -> None:
        """Told of a request whose answer is ready to be sent."""

    def failed(self, model: ServedModel, seconds: float) -> None:
        """Told of a request that was refused or went wrong so many seconds after its body was read."""
