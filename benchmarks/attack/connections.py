"""Many connections that are each within every limit: unfinished, never read, or all at once."""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import orjson

from benchmarks.attack import arrow
from benchmarks.attack.bodies import array, repeated
from benchmarks.attack.case import ARROW, CSV, INFER, JSON, MODEL, NDJSON, RECORD, Act, Case
from benchmarks.attack.exchange import (
    Request,
    ask,
    begun,
    chunk,
    connect,
    gzipped,
    on_the_wire,
    packed,
    status_of,
    unfinished,
)
from benchmarks.attack.memory import MEBIBYTE
from benchmarks.attack.server import HOST, Server

HOLD_SECONDS = 35.0
"""How long connections are held, which is longer than an answer waits to be read."""
_LOOK_SECONDS = 5.0
_SEND_SECONDS = 0.2  # after which a service that takes in no more is left alone
_MOST_RECORDS = 10_000
_EXPANDED = 63 * MEBIBYTE

Content = Callable[[int], bytes]
"""From the service's port to what is sent on a connection."""


def _coded(media_type: str) -> dict[str, str]:
    return {"Content-Type": media_type, "Content-Encoding": "gzip"}


def _body_without_end(media_type: str, content: bytes, port: int, *, path: str = "/score") -> bytes:
    return begun(Request(path, _coded(media_type), unfinished(content)), port)


def _one_byte_short(media_type: str, content: bytes, port: int) -> bytes:
    return on_the_wire(Request("/score", {"Content-Type": media_type}, content), port, announced=len(content) + 1)


def _head_without_end(port: int) -> bytes:
    return f"POST /score HTTP/1.1\r\nHost: {HOST}:{port}\r\nX-Long: ".encode() + b"a" * 60_000


def _largest(records: int, accept: str, query: str, port: int) -> bytes:
    headers = {"Content-Type": ARROW, "Accept": accept}
    return on_the_wire(packed(Request(f"/score?{query}", headers, arrow.good(records))), port)


def _pipelined(port: int) -> bytes:
    body = orjson.dumps({"records": [RECORD] * 100, "samples": 1})
    return on_the_wire(Request("/score", {"Content-Type": JSON}, body), port) * 100


def _lines(port: int) -> bytes:
    line = orjson.dumps(RECORD) + b"\n"
    return begun(Request("/score?samples=1", _coded(NDJSON), gzipped(line * 100_000)), port) + b"0\r\n\r\n"


UNFINISHED: dict[str, Content] = {
    "lines of a MiB": partial(_body_without_end, NDJSON, b"[" + b" " * (MEBIBYTE - 100)),
    "lines of a MiB of arrays": partial(_body_without_end, NDJSON, b"[" + b"[]," * (MEBIBYTE // 3 - 40)),
    "lines of a MiB, not compressed": lambda port: begun(
        Request("/score", {"Content-Type": NDJSON}, b"[" + b" " * (MEBIBYTE - 100)), port
    ),
    "JSON bodies": partial(_body_without_end, JSON, repeated(b'{"records":[', b" ")(_EXPANDED)),
    "JSON bodies of arrays": partial(_body_without_end, JSON, repeated(b'{"records":[', b"[],")(_EXPANDED)),
    "JSON bodies, not compressed": partial(_one_byte_short, JSON, b" " * (15 * MEBIBYTE)),
    "CSV bodies": partial(_body_without_end, CSV, repeated(b"amount\n", b"1\n")(_EXPANDED)),
    "Arrow bodies": partial(_body_without_end, ARROW, bytes(_EXPANDED)),
    "bodies of infer": partial(_body_without_end, JSON, b" " * _EXPANDED, path=INFER),
    "bodies of load": partial(
        _body_without_end, JSON, b" " * _EXPANDED, path=f"/v2/repository/models/{MODEL}-none/load"
    ),
    "bodies for no route": partial(_body_without_end, JSON, b" " * _EXPANDED, path="/none"),
    "heads": _head_without_end,
}
"""What is not sent to its end."""
UNREAD: dict[str, Content] = {
    "JSON": partial(_largest, _MOST_RECORDS, JSON, "samples=1"),
    "CSV": partial(_largest, _MOST_RECORDS, CSV, "samples=1"),
    "Arrow": partial(_largest, _MOST_RECORDS, ARROW, "samples=1"),
    "explanations": partial(_largest, 400, JSON, "samples=1&explain=true"),
    "streams": _lines,
    "pipelined": _pipelined,
}
"""Whose answers nobody reads."""


def opened(server: Server, content: Content, count: int, *, slow: bool) -> list[socket.socket]:
    """So many connections, on each of which the same was sent, or as much of it as the service took in."""
    sent = content(server.port)
    clients = []
    for _ in range(count):
        client = connect(server.port, slow=slow)
        clients.append(client)
        client.settimeout(_SEND_SECONDS)
        with contextlib.suppress(OSError):
            client.sendall(sent)
    return clients


def answered(clients: list[socket.socket]) -> Counter[int]:
    """How many connections have the beginning of an answer, by its status."""
    return Counter(status for client in clients if (status := status_of(client)))


def _hold(content: Content, count: int, drip: bytes, slow: bool, server: Server) -> Iterator[int | str]:
    clients = opened(server, content, count, slow=slow)
    ends = time.monotonic() + HOLD_SECONDS
    single = Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": [RECORD]}))
    beside: Counter[int] = Counter()
    while time.monotonic() < ends:
        time.sleep(_LOOK_SECONDS)
        beside[ask(server.port, single).status] += 1
        for client in clients if drip else []:
            with contextlib.suppress(OSError):
                client.sendall(drip)
    for status, number in answered(clients).items():
        yield f"{number} answered {status}"
    yield f"{server.memory.kept() / MEBIBYTE:.0f} MiB held at the end"
    for client in clients:
        client.close()
    for status, number in beside.items():
        yield f"{number} others {status}"


def _holding(name: str, content: Content, count: int, *, drip: bytes = b"", slow: bool = False) -> Case:
    def prepare() -> Act:
        content(0)
        return partial(_hold, content, count, drip, slow)

    return Case(name, prepare)


def _at_once(request: Request, count: int, server: Server) -> Iterator[int | str]:
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(ask(server.port, request).status)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield from statuses


def _together(name: str, make: Callable[[], Request], count: int) -> Case:
    def prepare() -> Act:
        return partial(_at_once, packed(make()), count)

    return Case(name, prepare)


def _filled(media_type: str, unit: bytes, path: str = "/score") -> Callable[[], Request]:
    make = array(b'{"records":', unit, b"}") if media_type == JSON else repeated(b"amount\n", unit)
    return lambda: Request(path, {"Content-Type": media_type}, make(_EXPANDED))


CASES: tuple[Case, ...] = (
    *(
        _holding(f"connections unfinished {name}", content, 400 if "lines" in name else 100, drip=chunk(b""))
        for name, content in UNFINISHED.items()
    ),
    *(_holding(f"connections unread {name}", content, 80, slow=True) for name, content in UNREAD.items()),
    _holding("connections idle", lambda _: b"", 2000),
    _together("connections 16 of spaces at once", _filled(JSON, b" "), 16),
    _together("connections 64 of arrays at once", _filled(JSON, b"[],"), 64),
    _together("connections 64 of infer at once", _filled(JSON, b"[],", INFER), 64),
    _together("connections 64 of CSV at once", _filled(CSV, b"1\n"), 64),
    _together(
        "connections 64 of Arrow at once", lambda: Request("/score", {"Content-Type": ARROW}, bytes(_EXPANDED)), 64
    ),
    _together(
        "connections 64 of good records at once",
        lambda: Request("/score?samples=1", {"Content-Type": ARROW}, arrow.good(_MOST_RECORDS)),
        64,
    ),
)
