"""Bodies in text that are small on the wire and large once parsed: JSON, NDJSON, CSV, and JSON of `/v2`."""

from collections.abc import Callable, Iterator
from functools import partial

import orjson

from benchmarks.attack.case import CSV, INFER, JSON, MODEL, NDJSON, OCTETS, RECORD, Case, Shape, sends
from benchmarks.attack.exchange import Request, deflated, gzipped

MEBIBYTE = 2**20
UNITS: dict[str, bytes] = {
    "empty arrays": b"[],",
    "empty objects": b"{},",
    "nested pairs": b"[[]],",
    "objects of a key": b'{"a":0},',
    "digits": b"0,",
    "floats": b"1e5,",
    "large numbers": b"18446744073709551615,",
    "nulls": b"null,",
    "truths": b"true,",
    "empty texts": b'"",',
    "texts": b'"ab",',
    "escaped texts": b'"\\u00e9",',
}
"""What a JSON array can be filled with."""
_JSON = {"Content-Type": JSON}
_LINES = {"Content-Type": NDJSON}
_WHOLE = {"Content-Type": NDJSON, "Accept": JSON}
_CSV = {"Content-Type": CSV}
_TENSOR = b'{"name":"numeric","shape":[1,6],"datatype":"FP64",'


def repeated(before: bytes, unit: bytes, after: bytes = b"") -> Callable[[int], bytes]:
    """Bodies that are one unit over and over, between a beginning and an end."""
    return lambda size: before + unit * max(1, (size - len(before) - len(after)) // len(unit)) + after


def array(before: bytes, unit: bytes, after: bytes) -> Callable[[int], bytes]:
    """The same, the unit without its last comma at the end."""
    return repeated(before + b"[", unit, unit.rstrip(b",") + b"]" + after)


def _around(unit: bytes, after: bytes) -> Callable[[int], bytes]:
    """As many openings as closings."""
    return lambda size: unit * (size // 2 // len(unit)) + after * (size // 2 // len(unit))


def _keys(size: int) -> bytes:
    return b'{"records":[{' + b",".join(b'"%07d":1' % number for number in range(size // 12)) + b"}]}"


def _json() -> Iterator[Shape]:
    for name, unit in UNITS.items():
        yield Shape(f"json {name} as records", "/score", _JSON, array(b'{"records":', unit, b"}"))
    for name in ("empty arrays", "digits", "texts", "empty objects"):
        unit = UNITS[name]
        yield Shape(f"json {name} in a record", "/score", _JSON, array(b'{"records":[', unit, b"]}"))
        yield Shape(f"json {name} beside the records", "/score", _JSON, array(b'{"records":[{}],"x":', unit, b"}"))
        yield Shape(f"json {name} as samples", "/score", _JSON, array(b'{"records":[{}],"samples":', unit, b"}"))
        yield Shape(f"json {name} at the top", "/score", _JSON, array(b"", unit, b""))
        yield Shape(f"json {name} without an end", "/score", _JSON, repeated(b'{"records":[', unit))
    yield Shape("json empty objects of a value", "/score", _JSON, array(b'{"records":[{"amount":', b"{},", b"}]}"))
    yield Shape("json deep arrays", "/score", _JSON, _around(b"[", b"]"))
    yield Shape("json deep objects", "/score", _JSON, lambda size: _around(b'{"a":', b"}")(size).replace(b":}", b":0}"))
    yield Shape("json spaces", "/score", _JSON, repeated(b'{"records":[', b" ", b"]}"))
    yield Shape("json one text", "/score", _JSON, repeated(b'{"records":[["', b"a", b'"]]}'))
    yield Shape("json one escaped text", "/score", _JSON, repeated(b'{"records":[["', b"\\u00e9", b'"]]}'))
    yield Shape("json one wide text", "/score", _JSON, repeated('{"records":[["\U0001f600'.encode(), b"a", b'"]]}'))
    yield Shape("json one number", "/score", _JSON, repeated(b'{"records":[[', b"1", b"]]}"))
    yield Shape("json one key", "/score", _JSON, repeated(b'{"records":[{"', b"a", b'":1}]}'))
    yield Shape("json many keys", "/score", _JSON, _keys)
    yield Shape("json the same key", "/score", _JSON, repeated(b'{"records":[{', b'"amount":1,', b'"amount":1}]}'))
    yield Shape("json records of it twice", "/score", _JSON, repeated(b"{", b'"records":[{}],', b'"records":[{}]}'))
    yield Shape("json brackets in a text", "/score", _JSON, repeated(b'{"records":[["', b"[],{}", b'"]]}'))
    yield Shape("json quotes in a text", "/score", _JSON, repeated(b'{"records":[["', b'\\"[],', b'"]]}'))
    yield Shape("json good records", "/score", _JSON, array(b'{"records":', orjson.dumps(RECORD) + b",", b"}"))
    yield Shape("json of a version", f"/models/{MODEL}/versions/1/score", _JSON, array(b'{"records":', b"[],", b"}"))
    yield Shape("json as no type", "/score", {}, array(b'{"records":', b"[],", b"}"))
    yield Shape("json as an unknown type", "/score", {"Content-Type": "text/plain"}, repeated(b"", b"[],"))


def _ndjson() -> Iterator[Shape]:
    for called, headers in (("a stream", _LINES), ("a whole", _WHOLE)):
        for name, unit in UNITS.items():
            line = b"[" + unit * 8 + b"0]\n"
            yield Shape(f"ndjson {name} on lines, as {called}", "/score", headers, repeated(b"", line))
        yield Shape(f"ndjson one line, as {called}", "/score", headers, array(b"", b"[],", b"\n"))
        yield Shape(f"ndjson no line, as {called}", "/score", headers, repeated(b"[", b" "))
        yield Shape(f"ndjson blank lines, as {called}", "/score", headers, repeated(b"", b"\n"))
        yield Shape(f"ndjson tiny lines, as {called}", "/score", headers, repeated(b"", b"1\n"))
        yield Shape(f"ndjson good lines, as {called}", "/score", headers, repeated(b"", orjson.dumps(RECORD) + b"\n"))
    full = b"[" + b"[]," * (MEBIBYTE // 3 - 8) + b"[]]\n"
    yield Shape("ndjson lines of a MiB", "/score", _LINES, repeated(b"", full))


def _csv() -> Iterator[Shape]:
    yield Shape("csv rows of a number", "/score", _CSV, repeated(b"amount\n", b"1\n"))
    yield Shape("csv rows of a text", "/score", _CSV, repeated(b"country\n", b"D\n"))
    yield Shape("csv empty rows", "/score", _CSV, repeated(b"amount\n", b"\n"))
    yield Shape("csv rows ended by returns", "/score", _CSV, repeated(b"amount\r", b"1\r"))
    yield Shape("csv one row", "/score", _CSV, repeated(b"country\n", b"D"))
    yield Shape("csv columns", "/score", _CSV, repeated(b"", b"amount,", b"hour\n1\n"))
    yield Shape("csv nameless columns", "/score", _CSV, repeated(b"amount", b",", b"\n1\n"))
    yield Shape("csv cells too many", "/score", _CSV, repeated(b"amount\n", b"1,", b"\n"))
    yield Shape("csv a column too many", "/score", _CSV, repeated(",".join(RECORD).encode() + b",extra\n", b"1\n"))
    yield Shape("csv empty quotes", "/score", _CSV, repeated(b"country\n", b'"",', b"\n"))
    yield Shape("csv an open quote", "/score", _CSV, repeated(b'country\n"', b"D\n"))
    yield Shape("csv doubled quotes", "/score", _CSV, repeated(b'country\n"', b'""', b'"\n'))
    yield Shape("csv zero bytes", "/score", _CSV, repeated(b"country\n", b"\0"))
    yield Shape("csv no header", "/score", _CSV, repeated(b"", b"1,2,3\n"))


def _inference() -> Iterator[Shape]:
    for name, unit in UNITS.items():
        yield Shape(f"v2 {name} as data", INFER, _JSON, array(b'{"inputs":[' + _TENSOR + b'"data":', unit, b"}]}"))
        places = {"parameters": b'{"inputs":[],"parameters":{"x":', "a member that is none": b'{"inputs":[],"x":{"x":'}
        for place, before in places.items():
            yield Shape(f"v2 {name} in {place}", INFER, _JSON, array(before, unit, b"}}"))
    for name in ("empty arrays", "digits", "objects of a key"):
        unit = UNITS[name]
        yield Shape(f"v2 {name} as inputs", INFER, _JSON, array(b'{"inputs":', unit, b"}"))
        yield Shape(f"v2 {name} as outputs", INFER, _JSON, array(b'{"inputs":[],"outputs":', unit, b"}"))
        yield Shape(f"v2 {name} as a shape", INFER, _JSON, array(b'{"inputs":[{"name":"x","shape":', unit, b"}]}"))
        yield Shape(
            f"v2 {name} in a tensor's parameters", INFER, _JSON,
            array(b'{"inputs":[' + _TENSOR + b'"parameters":{"x":', unit, b"}}]}"),
        )  # fmt: skip
        for action in ("load", "unload"):
            path = f"/v2/repository/models/none/{action}"
            yield Shape(f"v2 {name} to {action}", path, _JSON, array(b'{"parameters":', unit, b"}"))
        yield Shape(f"v2 {name} to the index", "/v2/repository/index", _JSON, array(b'{"x":', unit, b"}"))
    tensor = b'{"name":"amount","shape":[1],"datatype":"FP64","data":[1]},'
    yield Shape("v2 tensors", INFER, _JSON, array(b'{"inputs":', tensor, b"}"))
    yield Shape("v2 outputs by name", INFER, _JSON, array(b'{"inputs":[],"outputs":', b'{"name":"elbo"},', b"}"))
    yield Shape("v2 deep arrays", INFER, _JSON, _around(b"[", b"]"))
    yield Shape("v2 deep data", INFER, _JSON, lambda size: b'{"inputs":[{"data":' + _around(b"[", b"]")(size))
    yield Shape("v2 one text", INFER, _JSON, repeated(b'{"id":"', b"a", b'","inputs":[]}'))


def _binary(head: bytes, content: bytes, *, length: int | None = None) -> tuple[dict[str, str], bytes]:
    announced = len(head) if length is None else length
    return {"Content-Type": OCTETS, "Inference-Header-Content-Length": str(announced)}, head + content


def _tensor(datatype: str, shape: list[int], size: int, name: str = "numeric") -> dict[str, object]:
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}


def binary_requests(size: int) -> Iterator[tuple[str, Request]]:
    """Requests of the binary extension whose lengths and shapes claim what is not there, of about so many bytes."""
    inputs: dict[str, tuple[list[dict[str, object]], bytes]] = {
        "a shape of 2^62": ([_tensor("FP64", [2**31, 2**31], 48)], bytes(48)),
        "a shape without rows": ([_tensor("FP64", [0, 2**40], 0)], b""),
        "a shape of a thousand ranks": ([_tensor("FP64", [1] * 1000, 8)], bytes(8)),
        "a negative shape": ([_tensor("FP64", [-1, 6], 48)], bytes(48)),
        "more bytes than come": ([_tensor("FP64", [2**20, 6], 2**40)], bytes(48)),
        "negative bytes": ([_tensor("FP64", [1, 6], -48)], bytes(48)),
        "numbers": ([_tensor("FP64", [size // 48, 6], size // 48 * 48)], bytes(size // 48 * 48)),
        "one number in a row too many": ([_tensor("UINT8", [size, 1], size)], bytes(size)),
        "empty texts": ([_tensor("BYTES", [size // 4, 1], size // 4 * 4, "country")], bytes(size // 4 * 4)),
        "a text longer than the body": ([_tensor("BYTES", [1, 1], 8, "country")], b"\xff\xff\xff\xff" + bytes(4)),
        "one text": (
            [_tensor("BYTES", [1, 1], size, "country")],
            (size - 4).to_bytes(4, "little") + bytes(size - 4),
        ),
        "tensors of nothing": ([_tensor("FP64", [0], 0)] * (min(size, 16 * MEBIBYTE) // 100), b""),
    }
    for name, (tensors, content) in inputs.items():
        headers, body = _binary(orjson.dumps({"inputs": tensors}), content)
        yield f"v2 binary {name}", Request(INFER, headers, body)
    for name, length in {"beyond the body": 2**40, "of nothing": 0, "in the middle": 20}.items():
        headers, body = _binary(b'{"inputs":[]}', bytes(64), length=length)
        yield f"v2 binary a head {name}", Request(INFER, headers, body)
    headers, body = _binary(array(b'{"inputs":[],"x":', b"[],", b"}")(size), b"")
    yield "v2 binary a head of empty arrays", Request(INFER, headers, body)


def _binary_request(name: str) -> Request:
    return dict(binary_requests(15 * MEBIBYTE))[name]


def _coded(name: str, coding: str, pack: Callable[[], bytes]) -> Case:
    return sends(name, lambda: Request("/score", {**_JSON, "Content-Encoding": coding}, pack()))


def _codings() -> Iterator[Case]:
    bomb = array(b'{"records":', b"[],", b"}")
    spaces = repeated(b'{"records":[', b" ", b"]}")
    yield _coded("deflate of empty arrays", "deflate", lambda: deflated(bomb(60 * MEBIBYTE)))
    yield _coded("gzip over the limit", "gzip", lambda: gzipped(spaces(2000 * MEBIBYTE), level=9))
    yield _coded("gzip in gzip", "gzip, gzip", lambda: gzipped(gzipped(spaces(60 * MEBIBYTE))))
    yield _coded("gzip of many members", "gzip", lambda: gzipped(b" ") * (15 * MEBIBYTE // 21))
    yield _coded("gzip of empty members", "gzip", lambda: gzipped(b"") * (15 * MEBIBYTE // 20))
    yield _coded("gzip without an end", "gzip", lambda: gzipped(spaces(60 * MEBIBYTE))[:-12])
    yield _coded("gzip with a name of 15 MiB", "gzip", lambda: _named(15 * MEBIBYTE))
    yield _coded("gzip with more behind it", "gzip", lambda: gzipped(b'{"records":[{}]}') + bytes(15 * MEBIBYTE))
    yield _coded("gzip of empty blocks", "gzip", lambda: gzipped(b"")[:10] + b"\0\0\0\xff\xff" * (3 * MEBIBYTE))
    yield _coded("gzip that is none", "gzip", lambda: bytes(15 * MEBIBYTE))


def _named(size: int) -> bytes:
    whole = gzipped(b'{"records":[{}]}')
    return whole[:3] + b"\x08" + whole[4:10] + b"a" * size + b"\0" + whole[10:]


SHAPES: tuple[Shape, ...] = (*_json(), *_ndjson(), *_csv(), *_inference())
CASES: tuple[Case, ...] = (
    *(shape.case() for shape in SHAPES),
    *(sends(name, partial(_binary_request, name)) for name, _ in binary_requests(1000)),
    *_codings(),
)
