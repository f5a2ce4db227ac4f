"""Requests that hypothesis makes: valid ones that were damaged, and the attacks' shapes in any size."""

from collections.abc import Callable

import orjson
import pyarrow as pa
from hypothesis import strategies as st

from benchmarks.attack import arrow, bodies
from benchmarks.attack.case import ARROW, CSV, INFER, JSON, NDJSON, RECORD
from benchmarks.attack.exchange import Request, deflated, gzipped, unfinished

MEBIBYTE = 2**20
LARGEST = 24 * MEBIBYTE
"""Bytes of a body once inflated."""
LINES = 2000
"""Of a stream."""
_SENT = 12 * MEBIBYTE  # what is sent as it is
_VALUES = list(RECORD.values())
_TENSOR = {"name": "numeric", "shape": [2, 6], "datatype": "FP64", "data": [0.5] * 12}
VALID: dict[str, Request] = {
    "JSON objects": Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": [RECORD] * 3})),
    "JSON arrays": Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": [_VALUES] * 3, "samples": 2})),
    "NDJSON": Request("/score", {"Content-Type": NDJSON}, (orjson.dumps(RECORD) + b"\n") * 3),
    "NDJSON, whole": Request("/score", {"Content-Type": NDJSON, "Accept": JSON}, (orjson.dumps(_VALUES) + b"\n") * 3),
    "CSV": Request("/score", {"Content-Type": CSV}, f"{','.join(RECORD)}\n{','.join(map(str, _VALUES))}\n".encode()),
    "Arrow": Request("/score", {"Content-Type": ARROW}, arrow.good(3)),
    "Arrow with a dictionary": Request(
        "/score",
        {"Content-Type": ARROW},
        arrow.stream(pa.table({"country": arrow.dictionary(pa.array(["SE", "PL"]), [0, 1, 1])})),
    ),
    "infer, JSON": Request(INFER, {"Content-Type": JSON}, orjson.dumps({"inputs": [_TENSOR]})),
    "infer, binary": dict(bodies.binary_requests(960))["v2 binary numbers"],
    "index": Request("/v2/repository/index", {"Content-Type": JSON}, b'{"ready":true}'),
    "load": Request("/v2/repository/models/none/load", {"Content-Type": JSON}, b'{"parameters":{"x":[1]}}'),
}
"""Right ones, but for a model to load that is not there."""
_SHAPES = {shape.name: shape for shape in (*bodies.SHAPES, *arrow.SHAPES)}
_TOKENS = (
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\n", b"\r", b" ", b"\0", b"0", b"-", b"1e5", b"true", b"null"),
    *(b'"amount":', b'"records":', b'"inputs":', b'"data":', b'"ab"', b"[],", b"{},", b"\xff", b"\xf0\x9f\x98\x80"),
)
_PLACES = {
    JSON: (b"", b'{"records":[', b'{"records":[{"amount":', b'{"inputs":[{"data":[', b'{"parameters":{"x":['),
    NDJSON: (b"", b"[", b'{"amount":1}\n'),
    CSV: (b"", b"amount\n", b"country,amount\n", b'country\n"'),
}
_PATHS = {JSON: ("/score", INFER, "/v2/repository/index"), NDJSON: ("/score",), CSV: ("/score",)}


def bearable(request: Request) -> Request:
    """The request, or its first lines where it is a stream: each takes its time, and none of them memory for long."""
    if request.headers.get("Content-Type") != NDJSON or "Accept" in request.headers:
        return request
    first = b"\n".join(request.body.split(b"\n", LINES)[:LINES])
    return Request(request.path, request.headers, first, request.method)


def _damaged(request: Request, draw: st.DrawFn) -> Request:
    body = request.body
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(body)))
        piece = body[place : place + draw(st.integers(1, 64))]
        kind = draw(st.sampled_from(("repeat", "cut", "insert", "set")))
        if kind == "repeat" and piece:
            times = min(draw(st.sampled_from((2, 100, 10_000, 2_000_000))), LARGEST // len(piece))
            body = body[:place] + piece * times + body[place:]
        elif kind == "cut":
            body = body[:place] + body[place + len(piece) :]
        elif kind == "insert":
            body = body[:place] + draw(st.sampled_from(_TOKENS)) + body[place:]
        else:
            number = draw(st.sampled_from((0, 1, 2**31 - 1, 2**40, 2**63 - 1))).to_bytes(8, "little")
            body = body[:place] + number[: len(piece)] + body[place + min(8, len(piece)) :]
    return Request(request.path, request.headers, body[:LARGEST], request.method)


@st.composite
def damaged(draw: st.DrawFn) -> Request:
    """A valid request that was cut, doubled over and over, or overwritten."""
    return _damaged(VALID[draw(st.sampled_from(sorted(VALID)))], draw)


@st.composite
def filled(draw: st.DrawFn) -> Request:
    """Some tokens over and over, in a place of a format in text."""
    media_type = draw(st.sampled_from(sorted(_PLACES)))
    unit = b"".join(draw(st.lists(st.sampled_from(_TOKENS), min_size=1, max_size=6)))
    make = bodies.repeated(draw(st.sampled_from(_PLACES[media_type])), unit, draw(st.sampled_from((b"", b"]}", b"\n"))))
    headers = {"Content-Type": media_type}
    if draw(st.booleans()):
        headers["Accept"] = JSON
    return Request(draw(st.sampled_from(_PATHS[media_type])), headers, make(draw(_sizes)))


@st.composite
def shaped(draw: st.DrawFn) -> Request:
    """An attack's shape in another size."""
    return _SHAPES[draw(st.sampled_from(sorted(_SHAPES)))].request(draw(_sizes))


@st.composite
def claimed(draw: st.DrawFn) -> Request:
    """A stream or a tensor that claims what it does not hold, and may be damaged besides."""
    if draw(st.booleans()):
        body = arrow.CLAIMS[draw(st.sampled_from(sorted(arrow.CLAIMS)))]()
        return _damaged(Request("/score", {"Content-Type": ARROW}, body), draw)
    made = dict(bodies.binary_requests(draw(st.sampled_from((960, 2**16, 4 * MEBIBYTE)))))
    return made[draw(st.sampled_from(sorted(made)))]


@st.composite
def columns(draw: st.DrawFn) -> Request:
    """Arrow columns of any kind and length, as they are or in a dictionary, in batches of any size."""
    size = draw(st.sampled_from((64, 4096, MEBIBYTE, 8 * MEBIBYTE)))
    fields = draw(st.lists(st.sampled_from((*RECORD, "no-field")), min_size=1, max_size=3, unique=True))
    rows = draw(st.sampled_from((1, 3, 1000, 20_000)))
    made = {}
    for name in fields:
        kinds: dict[str, Callable[[], pa.Array]] = {
            **arrow.of_little(size),
            **_nothing(draw(st.sampled_from((1, 2**27, arrow.MOST)))),
        }
        values = kinds[draw(st.sampled_from(sorted(kinds)))]()
        made[name] = arrow.dictionary(values, [0] * rows, draw(st.sampled_from((pa.int8(), pa.int32(), pa.int64()))))
    table = pa.table(made)
    return Request("/score", {"Content-Type": ARROW}, arrow.stream(table, rows=draw(st.sampled_from((None, 7)))))


def _nothing(entries: int) -> dict[str, Callable[[], pa.Array]]:
    def giving(array: pa.Array) -> Callable[[], pa.Array]:
        return lambda: array

    return {name: giving(array) for name, array in arrow.of_nothing(entries).items() if "run" not in name}


_sizes = st.sampled_from((100, 10_000, MEBIBYTE, 6 * MEBIBYTE, LARGEST))
_CODED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzipped(body, level=1),
    "deflate": lambda body: deflated(body, level=1),
    "gzip, unfinished": unfinished,
}


class Made:
    """A request that hypothesis tells as the request tells itself; of a dataclass it would tell the whole body."""

    def __init__(self, request: Request) -> None:
        self.request = request

    def __repr__(self) -> str:
        return repr(self.request)


@st.composite
def requests(draw: st.DrawFn) -> Made:
    """Any of them, plain or compressed."""
    request = bearable(draw(st.one_of(damaged(), filled(), shaped(), claimed(), columns())))
    coding = draw(st.sampled_from((None, *_CODED)))
    if coding is None and len(request.body) <= _SENT:
        return Made(request)
    coding = coding or "gzip"
    headers = {**request.headers, "Content-Encoding": coding.partition(",")[0]}
    return Made(Request(request.path, headers, _CODED[coding](request.body), request.method))
