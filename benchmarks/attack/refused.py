"""Requests that are refused, one after another: what is left of them in memory."""

from collections.abc import Iterator
from functools import partial
from itertools import cycle, islice

import orjson
import pyarrow as pa

from benchmarks.attack import arrow
from benchmarks.attack.case import ARROW, CSV, INFER, JSON, NDJSON, OCTETS, RECORD, Act, Case
from benchmarks.attack.exchange import Request, ask
from benchmarks.attack.memory import MEBIBYTE
from benchmarks.attack.server import Server

_ARRAY = list(RECORD.values())
_WRONG = ["x", *_ARRAY[1:]]
_RECORDS = MEBIBYTE // len(orjson.dumps(_ARRAY) + b",")


def requests() -> dict[str, Request]:
    """Requests of about a MiB that are refused, by what is wrong with them."""
    right = orjson.dumps({"records": [_ARRAY] * _RECORDS, "samples": 1})
    wrong = orjson.dumps({"records": [*[_ARRAY] * _RECORDS, _WRONG]})
    columns = (",".join(RECORD) + ",extra\n").encode() + b"1\n" * (MEBIBYTE // 2)
    lines = (orjson.dumps(RECORD) + b"\n") * 4000 + orjson.dumps(_WRONG) + b"\n"
    tensor = {"name": "numeric", "shape": [2**17, 1], "datatype": "FP64", "parameters": {"binary_data_size": MEBIBYTE}}
    head = orjson.dumps({"inputs": [tensor]})
    binary = {"Content-Type": OCTETS, "Inference-Header-Content-Length": str(len(head))}
    infer = orjson.dumps(
        {"inputs": [{"name": "no-tensor", "shape": [1], "datatype": "BYTES", "data": ["a" * MEBIBYTE]}]}
    )
    return {
        "a wrong value": Request("/score", {"Content-Type": JSON}, wrong),
        "no object": Request("/score", {"Content-Type": JSON}, b'["' + b"a" * MEBIBYTE + b'"]'),
        "no JSON": Request("/score", {"Content-Type": JSON}, right[:-1]),
        "an unknown field": Request("/score", {"Content-Type": JSON}, b'{"records":[{"' + b"a" * MEBIBYTE + b'":1}]}'),
        "a wrong line": Request("/score", {"Content-Type": NDJSON, "Accept": JSON}, lines),
        "a line too long": Request("/score", {"Content-Type": NDJSON}, b"[" + b" " * (MEBIBYTE + 1)),
        "a column too many": Request("/score", {"Content-Type": CSV}, columns),
        "no Arrow": Request("/score", {"Content-Type": ARROW}, arrow.good(12_000)[:-100_000]),
        "an unknown column": Request(
            "/score", {"Content-Type": ARROW}, arrow.stream(pa.table({"no-field": ["a" * MEBIBYTE]}))
        ),
        "no such tensor": Request(INFER, {"Content-Type": JSON}, infer),
        "a wrong tensor": Request(INFER, binary, head + bytes(MEBIBYTE)),
        "no such model": Request("/models/none/score", {"Content-Type": JSON}, right),
        "an unknown type": Request("/score", {"Content-Type": "text/plain"}, right),
        "no gzip": Request("/score", {"Content-Type": JSON, "Content-Encoding": "gzip"}, right),
        "no draws": Request("/score?samples=0", {"Content-Type": JSON}, right),
        "no time": Request("/score?samples=256", {"Content-Type": JSON, "X-Deadline-Ms": "1"}, right),
    }


def growth(server: Server, first: int, later: int, wanted: list[Request] | None = None) -> tuple[list[int], int]:
    """Statuses of all requests, in turn of each kind, and the bytes that the later ones left behind."""
    asked = cycle(wanted or requests().values())
    statuses = [ask(server.port, request).status for request in islice(asked, first)]
    before = server.memory.kept()
    statuses += [ask(server.port, request).status for request in islice(asked, later)]
    return statuses, server.memory.kept() - before


def _act(wanted: list[Request], first: int, later: int, server: Server) -> Iterator[int | str]:
    statuses, left = growth(server, first, later, wanted)
    yield from statuses
    yield f"the last {later} left {left / MEBIBYTE:.1f} MiB"


def prepare(name: str | None, first: int, later: int) -> Act:
    """Make the requests ready; `name` is that of one kind, or None for all in turn."""
    made = requests()
    return partial(_act, list(made.values()) if name is None else [made[name]], first, later)


CASES: tuple[Case, ...] = (
    Case("refused 10 000 of all kinds", partial(prepare, None, 1000, 9000)),
    *(Case(f"refused {name}", partial(prepare, name, 20, 180)) for name in requests()),
)
