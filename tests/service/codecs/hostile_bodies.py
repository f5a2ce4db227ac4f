"""Bodies that are made to cost more than they weigh, of every format; see `test_bounds.py`."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa

SIZE = 6 * 2**20
Hostile = Callable[[], tuple[str, bytes]]
"""What makes a body: its route, and its bytes."""


def repeated(before: bytes, unit: bytes, after: bytes, size: int = SIZE) -> bytes:
    """A body of about so many bytes."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


def stream(*batches: Any, schema: Any = None, **options: Any) -> bytes:
    """Record batches as an IPC stream."""
    target = BytesIO()
    with pa.ipc.new_stream(target, schema or batches[0].schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return target.getvalue()


def columns(**arrays: Any) -> Any:
    """A record batch."""
    return pa.record_batch(arrays)


def indexed(dictionary: Any, rows: int = 1) -> bytes:
    """A stream of one column that refers to the first entry of a dictionary."""
    return stream(columns(country=pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), dictionary)))


def shared(names: list[str]) -> bytes:
    """Columns of text that all show the same bytes: the offsets of the later buffers are overwritten."""
    text = "a" * 2**20
    batch = columns(**{name: pa.array([text]) for name in names})
    body = bytearray(stream(batch))
    # Every buffer of a megabyte is a pair (offset, 2**20) in the head; all are given the first one's offset.
    size = (2**20).to_bytes(8, "little")
    first, place = None, body.find(size)
    while 0 <= place < 2**16:
        first = body[place - 8 : place] if first is None else first
        body[place - 8 : place] = first
        place = body.find(size, place + 8)
    return bytes(body)


def deltas(count: int) -> bytes:
    """A dictionary that every batch adds an entry of some kilobytes to."""
    kind = pa.dictionary(pa.int32(), pa.string())
    entries = [str(number).zfill(3000) for number in range(count)]
    batches = [
        pa.record_batch(
            [pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array(entries[:some]))], ["country"]
        )
        for some in range(1, count)
    ]
    return stream(*batches, schema=pa.schema([("country", kind)]), emit_dictionary_deltas=True)


EMPTY = pa.array([], pa.float64())
DATA = b'{"inputs":[{"name":"numeric","shape":[1,6],"datatype":"FP64","data":['
JSON: dict[str, Hostile] = {
    "empty arrays": lambda: ("json", repeated(b'{"records":[', b"[],", b"[]]}")),
    "few empty arrays": lambda: ("json", repeated(b'{"records":[', b"[],", b"[]]}", 30_000)),
    "empty objects": lambda: ("json", repeated(b'{"records":[', b"{},", b"{}]}", 30_000)),
    "numbers": lambda: ("json", repeated(b'{"records":[[', b"0,", b"0]]}", 200_000)),
    "floats": lambda: ("json", repeated(b'{"records":[[', b"1.5,", b"0]]}", 400_000)),
    "short texts": lambda: ("json", repeated(b'{"records":[[', b'"ab",', b"0]]}", 500_000)),
    "wide short texts": lambda: ("json", repeated(b'{"records":[[', '"ŏ",'.encode(), b"0]]}", 500_000)),
    "nested in texts": lambda: ("json", repeated(b'{"records":[["', b"[,{", b'"]]}', 100_000)),
    "deep": lambda: ("json", b'{"records":' + b"[" * SIZE + b"]" * SIZE + b"}"),
    "white space": lambda: ("json", repeated(b'{"records":[', b" ", b"]}")),
    "a long text": lambda: ("json", repeated(b'{"records":[["', b"a", b'"]]}')),
    "escapes": lambda: ("json", repeated(b'{"records":[["', b"\\u00e9", b'"]]}')),
    "one wide character": lambda: ("json", repeated('{"records":[["\U0001f600'.encode(), b"a", b'"]]}')),
    "one wide escape": lambda: ("json", repeated(b'{"records":[["\\ud83d\\ude00', b"a", b'"]]}')),
    "wide and broken off": lambda: ("json", repeated('{"records":[["\U0001f600'.encode(), b"a", b"")),
    "digits": lambda: ("json", repeated(b'{"records":[[', b"1", b"]]}")),
    "keys": lambda: ("json", b'{"records":[{' + b",".join(b'"%07d":1' % key for key in range(60_000)) + b"}]}"),
    "a long key": lambda: ("json", repeated(b'{"records":[{"', b"k", b'":1}]}')),
    "members": lambda: ("json", b"{" + b",".join(b'"%07d":1' % key for key in range(60_000)) + b"}"),
    "objects of a key": lambda: ("json", repeated(b'{"records":[', b'{"a":0},', b"{}]}", 300_000)),
}
LINES: dict[str, Hostile] = {
    "empty arrays": lambda: ("ndjson", repeated(b"", b"[[],[],[],[],[],[],[]]\n", b"")),
    "blank": lambda: ("ndjson", b"\n" * SIZE),
    "bare numbers": lambda: ("ndjson", b"1\n" * 9_000),
    "a line of empty arrays": lambda: ("ndjson", repeated(b"[", b"[],", b"[]]\n", 100_000)),
    "no JSON": lambda: ("ndjson", b"?\n" * 9_000),
    "quotes": lambda: ("ndjson", b'"\n' * 9_000),
    "one wide character a line": lambda: ("ndjson", ('"\U0001f600' + "a" * 500 + '"\n').encode() * 9_000),
}
CSV: dict[str, Hostile] = {
    "rows": lambda: ("csv", b"amount\n" + b"1\n" * 3_000_000),
    "rows of text": lambda: ("csv", b"country\n" + b"DE\n" * 9_999),
    "other rows of text": lambda: ("csv", b"country\n" + b"".join(b"%04d\n" % row for row in range(9_999))),
    "empty lines": lambda: ("csv", repeated(b"amount\n", b"\n", b"")),
    "a long line": lambda: ("csv", repeated(b"country\n", b"D", b"")),
    "a wide long line": lambda: ("csv", repeated("country\n\U0001f600".encode(), b"D", b"")),
    "a long row": lambda: ("csv", repeated(b"amount\n", b"1,", b"\n")),
    "a row that is just too long": lambda: ("csv", repeated(b"amount\n", b"1,", b"\n", 100_000)),
    "quotes": lambda: ("csv", repeated(b"country\n", b'"",', b"\n")),
    "columns": lambda: ("csv", repeated(b"", b"amount,", b"\n1\n")),
    "wrong numbers": lambda: ("csv", b"amount,hour\n" + b"1,2\n" * 9_000 + b"x,y\n"),
}
ARROW: dict[str, Hostile] = {
    "empty batches": lambda: ("arrow", stream(*[columns(amount=EMPTY)] * 20_000)),
    "many batches": lambda: ("arrow", stream(*[columns(amount=[1.0])] * 2_000)),
    "zeros": lambda: ("arrow", bytes(SIZE)),
    "rows of nulls": lambda: ("arrow", stream(columns(amount=pa.nulls(2**31 - 1)))),
    "a dictionary of 2**31 nulls": lambda: ("arrow", indexed(pa.nulls(2**31 - 2))),
    "a dictionary of nulls": lambda: ("arrow", indexed(pa.nulls(9_000))),
    "a dictionary of flags": lambda: (
        "arrow",
        indexed(pa.Array.from_buffers(pa.bool_(), 40_000_000, [None, pa.py_buffer(bytes(5_000_000))])),
    ),
    "a dictionary of bytes": lambda: ("arrow", indexed(pa.array(np.zeros(SIZE, np.int8)))),
    "a dictionary of empty texts": lambda: ("arrow", indexed(pa.array([""] * 10**6))),
    "a long text of many rows": lambda: ("arrow", indexed(pa.array(["a" * SIZE]), 9_999)),
    "a long wide text": lambda: ("arrow", stream(columns(country=["\U0001f600" + "a" * SIZE]))),
    "short texts": lambda: ("arrow", stream(columns(country=[f"{row:05d}" for row in range(9_999)]))),
    "wide decimals": lambda: (
        "arrow",
        stream(columns(amount=pa.array([1] * 9_999).cast(pa.decimal256(60, 2)))),
    ),
    "replaced dictionaries": lambda: (
        "arrow",
        stream(
            *[
                columns(
                    country=pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array([str(i % 2) * 3000]))
                )
                for i in range(1500)
            ]
        ),
    ),
    "growing dictionaries": lambda: ("arrow", deltas(300)),
    "columns of the same bytes": lambda: ("arrow", shared(["merchant_category", "country", "channel"])),
    "nested types": lambda: ("arrow", stream(columns(amount=_nested(60)))),
    "metadata": lambda: (
        "arrow",
        stream(columns(amount=[1.0]), schema=pa.schema([("amount", pa.float64())], {"k": "v" * SIZE})),
    ),
}
INFER: dict[str, Hostile] = {
    "empty arrays": lambda: ("infer", repeated(DATA, b"[],", b"[]]}]}")),
    "few empty arrays": lambda: ("infer", repeated(DATA, b"[],", b"[]]}]}", 60_000)),
    "numbers": lambda: ("infer", repeated(DATA, b"0,", b"0]}]}")),
    "bare NaN": lambda: ("infer", repeated(DATA, b"NaN,", b"0]}]}", 400_000)),
    "parameters": lambda: ("infer", repeated(b'{"parameters":{"x":[', b"{},", b'{}]},"inputs":[]}')),
    "few parameters": lambda: ("infer", repeated(b'{"parameters":{"x":[', b"{},", b'{}]},"inputs":[]}', 30_000)),
    "outputs": lambda: ("infer", repeated(b'{"outputs":[', b"{},", b'{}],"inputs":[]}')),
    "inputs": lambda: (
        "infer",
        repeated(b'{"inputs":[', b'{"name":"amount","shape":[1],"datatype":"FP64","data":[1]},', b"{}]}", 500_000),
    ),
    "a wide text": lambda: (
        "infer",
        repeated(
            '{"inputs":[{"name":"country","shape":[1],"datatype":"BYTES","data":["\U0001f600'.encode(), b"a", b'"]}]}'
        ),
    ),
}


def _nested(depth: int) -> Any:
    array = pa.array([1.0])
    for _ in range(depth):
        array = pa.StructArray.from_arrays([array], ["a"])
    return array
