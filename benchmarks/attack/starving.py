"""Other clients beside one that sends the largest valid requests: what is left to them."""

import multiprocessing
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import orjson

from benchmarks.attack import arrow, images
from benchmarks.attack.case import ARROW, JSON, NDJSON, RECORD, Act, Case
from benchmarks.attack.exchange import Answer, Request, ask, packed
from benchmarks.attack.server import Server

ATTACKERS, VICTIMS = 12, 4
"""Connections of each."""
ALONE_SECONDS, BESIDE_SECONDS = 5.0, 12.0
PAUSE_SECONDS = 0.02
"""That a victim takes between an answer and its next request."""
_BEGIN_SECONDS = 1.5
_KEYS = ("the-key-of-the-attacker", "the-key-of-the-victim")
_TWO_KEYS = {"SURPRISAL_KEYS": ",".join(f"score {key}" for key in _KEYS)}
_ELSEWHERE = "127.0.0.2"
_IMAGE = 28


@dataclass(frozen=True)
class Client:
    """Who asks.

    Args:
        headers: That say who it is.
        source: Address that it asks from.
    """

    headers: dict[str, str]
    source: str | None = None

    def asks(self, request: Request) -> Request:
        """The same request in its name."""
        return Request(request.path, request.headers | self.headers, request.body, request.method)


PAIRS = {
    "another key": (Client({"Authorization": f"Bearer {_KEYS[0]}"}), Client({"Authorization": f"Bearer {_KEYS[1]}"})),
    "another address": (Client({}), Client({}, _ELSEWHERE)),
    "the same address": (Client({}), Client({})),
}
"""Attacker and victim by what tells them apart."""


class Crowd:
    """Connections that ask one thing over and over, from a process of their own, for as long as the block lasts.

    Args:
        port: Of the service.
        request: What is asked.
        source: Address to ask from.
        connections: How many.
        pause: Seconds between an answer and the next request.
    """

    def __init__(self, port: int, request: Request, source: str | None, connections: int, pause: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends = context.Event()
        self._answers, there = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_crowd, args=(port, request, source, connections, pause, self._ends, there)
        )

    def __enter__(self) -> "Crowd":
        self._process.start()
        self._answers.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self.answers: list[Answer] = self._answers.recv()
        self._process.join()


def _crowd(
    port: int, request: Request, source: str | None, connections: int, pause: float, ends: Event, there: Connection
) -> None:
    answers: list[Answer] = []

    def run() -> None:
        while not ends.is_set():
            answer = ask(port, request, source=source)
            answers.append(Answer(answer.status, b"", answer.seconds))
            time.sleep(pause)

    threads = [threading.Thread(target=run) for _ in range(connections)]
    for thread in threads:
        thread.start()
    there.send(None)
    for thread in threads:
        thread.join()
    there.send(answers)


def in_words(answers: Sequence[Answer]) -> str:
    """Statuses and times of a crowd."""
    times = sorted(answer.seconds for answer in answers) or [0.0]
    statuses = Counter(answer.status for answer in answers)
    counted = ", ".join(f"{status} x{count}" for status, count in sorted(statuses.items()))
    p99 = times[int(len(times) * 0.99)]
    return f"{counted}; p50 {statistics.median(times) * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, max {times[-1]:.2f} s"


def _rate(answers: Sequence[Answer], seconds: float) -> float:
    return sum(answer.status == 200 for answer in answers) / seconds


def beside(
    attack: Request, single: Request, pair: str, alone: float, together: float, server: Server
) -> Iterator[int | str]:
    """Measure a victim by itself, then beside the attacker."""
    attacker, victim = PAIRS[pair]
    crowd = partial(Crowd, server.port, victim.asks(single), victim.source, VICTIMS, PAUSE_SECONDS)
    with crowd() as before:
        time.sleep(alone)
    with Crowd(server.port, attacker.asks(attack), attacker.source, ATTACKERS, 0.0) as attackers:
        time.sleep(_BEGIN_SECONDS)
        with crowd() as meanwhile:
            time.sleep(together)
    ratio = _rate(meanwhile.answers, together) / max(_rate(before.answers, alone), 1e-9)
    yield f"throughput {ratio:.2f} of that alone"
    yield f"victim alone {in_words(before.answers)}"
    yield f"beside {in_words(meanwhile.answers)}"
    yield f"attacker {in_words(attackers.answers)}"


def _largest(samples: int) -> Request:
    return packed(Request(f"/score?samples={samples}", {"Content-Type": ARROW}, arrow.good(10_000)))


def _explanations() -> Request:
    return Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": [RECORD] * 400, "explain": True}))


def _stream() -> Request:
    lines = (orjson.dumps(RECORD) + b"\n") * 4_000
    return packed(Request("/score?samples=256", {"Content-Type": NDJSON}, lines))


def _get(path: str) -> Request:
    return Request(path, method="GET")


ATTACKS: dict[str, Callable[[], Request]] = {
    "256 draws": partial(_largest, 256),
    "one draw": partial(_largest, 1),
    "explanations": _explanations,
    "streams": _stream,
    "statistics": partial(_get, "/v2/models/stats"),
    "metrics": partial(_get, "/metrics"),
    "documents": partial(_get, "/openapi.json"),
}
"""What is asked of a model of tables."""
BOMBS: dict[str, Callable[[], Request]] = {
    "JPEG of many scans": partial(images.often, images.FILES["a JPEG of 28 by 28 with 100 000 scans"], images.in_json),
    "large JPEG": partial(images.often, images.FILES["a JPEG of 4 000 by 4 000 with 1 000 scans"], images.in_arrow),
    "PNG of 30 000 by 30 000": partial(images.often, images.FILES["a PNG of 30 000 by 30 000"], images.in_json),
    "good PNG": partial(images.often, partial(images.png, _IMAGE, _IMAGE, bits=8), images.in_arrow),
}
"""What is asked of a model of images."""


def _prepare(make: Callable[[], Request], single: Request, pair: str) -> Act:
    return partial(beside, make(), single, pair, ALONE_SECONDS, BESIDE_SECONDS)


def _cases() -> Iterator[Case]:
    record = Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": [RECORD]}))
    image = images.in_json([images.png(_IMAGE, _IMAGE, bits=8)])
    for pair in PAIRS:
        environment = _TWO_KEYS if pair == "another key" else {}
        for attacks, single, of_images in ((ATTACKS, record, False), (BOMBS, image, True)):
            for name, make in attacks.items():
                prepare = partial(_prepare, make, single, pair)
                yield Case(f"victims of {name}, by {pair}", prepare, 2, environment, of_images)


CASES: tuple[Case, ...] = tuple(_cases())
