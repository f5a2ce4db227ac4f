"""One request whose path is known, and what all of them share."""

from dataclasses import dataclass, field
from typing import NamedTuple

from service.models.registry import Models
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.stages import Stages
from service.wire.asgi import Headers, Receive, Send
from service.wire.body import BodyReader
from service.wire.memory_budget import Budget
from service.wire.threads import Threads


@dataclass(frozen=True, slots=True)
class Resources:
    """What all exchanges of a worker share.

    Args:
        models: What is in service.
        settings: Limits and the default deadline.
        metrics: Where requests are timed and counted.
        budget: The memory that requests may take.
        bodies: What reads bodies.
        decoding: Threads that large bodies are decoded on.
        encoding: Threads that large answers are written on.
    """

    models: Models
    settings: Settings
    metrics: Metrics
    budget: Budget
    bodies: BodyReader
    decoding: Threads
    encoding: Threads
    stages: Stages = field(init=False)
    """Times what lies before and behind the batcher."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", Stages(self.metrics))


class Exchange(NamedTuple):
    """One request whose path is known, and where its answer goes.

    Args:
        name: The model that the path names, or None for the default.
        version: The version that it names, or None for the one in service.
        query: The query string.
        headers: By lower-case name.
        receive: Where its body comes from.
        send: Where the answer goes.
        arrived: When it did, on `time.monotonic`, in seconds.
    """

    name: str | None
    version: str | None
    query: bytes
    headers: Headers
    receive: Receive
    send: Send
    arrived: float
