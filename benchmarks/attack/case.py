"""A case: what one attack does to a server, and the row that is said of it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from benchmarks.attack.exchange import Request, ask, packed
from benchmarks.attack.server import Server

MODEL = "transactions"
"""The model of tables that is attacked: `surprisal demo` trains it."""
INFER = f"/v2/models/{MODEL}/infer"
JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
OCTETS = "application/octet-stream"
RECORD: dict[str, object] = {
    "amount": 400.0,
    "hour": 17,
    "merchant_category": "cash",
    "country": "PL",
    "channel": "atm",
    "card_present": True,
    "new_merchant": False,
    "distance_km": 84.0,
    "minutes_since_last": 12,
    "transactions_24h": 8,
    "average_amount_30d": 29.8,
}
"""A payment that is in order."""
LARGEST = 64 * 2**20 - 64
"""Bytes of the largest body that is inflated by default."""

Act = Callable[[Server], Iterator[int | str]]
"""Does it, and yields each status or remark as it comes."""


@dataclass(frozen=True)
class Case:
    """One attack.

    Args:
        name: What the table calls it.
        prepare: Makes ready what is sent; what it gives does the deed, and only that is watched.
        workers: Of the service.
        environment: Its settings.
        images: Whether it is a model of images that is attacked.
    """

    name: str
    prepare: Callable[[], Act]
    workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    images: bool = False


@dataclass(frozen=True)
class Shape:
    """A kind of body that can be made in any size.

    Args:
        name: What the table calls it.
        path: Where it is sent.
        headers: That say what it is.
        make: From about how many bytes it should have, to those.
    """

    name: str
    path: str
    headers: dict[str, str]
    make: Callable[[int], bytes]

    def request(self, size: int) -> Request:
        """The request with a body of about so many bytes, not compressed."""
        return Request(self.path, self.headers, self.make(size))

    def case(self, size: int = LARGEST) -> Case:
        """The case that sends it once, compressed."""
        return sends(self.name, lambda: packed(self.request(size)))


def sends(name: str, make: Callable[[], Request], *, times: int = 1, images: bool = False) -> Case:
    """A case that sends one request, or the same one after another."""

    def prepare() -> Act:
        request = make()
        return lambda server: (ask(server.port, request).status for _ in range(times))

    return Case(name, prepare, images=images)


def in_words(seen: Counter[int | str]) -> str:
    """What a case has yielded, as the table puts it."""
    return ", ".join(str(each) if count == 1 else f"{each} x{count}" for each, count in seen.items()) or "nothing"
