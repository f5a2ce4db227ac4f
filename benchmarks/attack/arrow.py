"""Arrow streams whose lengths claim what their bytes do not hold."""

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.attack.case import ARROW, RECORD, Case, Shape, sends
from benchmarks.attack.exchange import Request, packed

MEBIBYTE = 2**20
MOST = 2**31 - 2
"""Entries: the most that an array of 32-bit offsets or indices takes."""
_HEADERS = {"Content-Type": ARROW}
_ROWS = 12_345


def stream(table: pa.Table, *, rows: int | None = None, compression: str | None = None) -> bytes:
    """A table as a stream, in batches of so many rows; the buffers compressed where a codec is named."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def good(records: int, **options: Any) -> bytes:
    """A stream of payments that are in order."""
    return stream(pa.table({name: pa.array([value] * records) for name, value in RECORD.items()}), **options)


def of_nothing(entries: int) -> dict[str, pa.Array]:
    """Arrays of so many entries that take no bytes for them."""
    ends = pa.array([entries], pa.int32())
    return {
        "nulls": pa.nulls(entries),
        "structs without fields": pa.Array.from_buffers(pa.struct([]), entries, [None]),
        "lists of nothing": pa.Array.from_buffers(
            pa.list_(pa.float64(), 0), entries, [None], children=[pa.array([], pa.float64())]
        ),
        "binaries of nothing": pa.Array.from_buffers(pa.binary(0), entries, [None, pa.py_buffer(b"")]),
        "one run": pa.RunEndEncodedArray.from_arrays(ends, pa.array([1.0])),
        "one run of a text": pa.RunEndEncodedArray.from_arrays(ends, pa.array(["a"])),
    }


def of_little(size: int) -> dict[str, Callable[[], pa.Array]]:
    """Arrays of about so many bytes, of as many entries as those can be."""
    return {
        "bits": lambda: pa.Array.from_buffers(pa.bool_(), size * 8, [None, pa.py_buffer(bytes(size))]),
        "bytes": lambda: pa.array(np.zeros(size, np.int8)),
        "numbers": lambda: pa.array(np.zeros(size // 8)),
        "empty texts": lambda: pa.Array.from_buffers(
            pa.string(), size // 4 - 1, [None, pa.py_buffer(bytes(size)), pa.py_buffer(b"")]
        ),
        "empty views": lambda: pa.Array.from_buffers(pa.string_view(), size // 16, [None, pa.py_buffer(bytes(size))]),
        "decimals": lambda: pa.Array.from_buffers(
            pa.decimal128(3), size // 16, [None, pa.py_buffer(bytes(size // 16 * 16))]
        ),
        "dates": lambda: pa.array(np.zeros(size // 4, "datetime64[D]")),
        "one text": lambda: pa.array(["a" * size]),
        "lists": lambda: pa.Array.from_buffers(
            pa.list_(pa.float64()), size // 4 - 1, [None, pa.py_buffer(bytes(size))], children=[pa.array([0.0])]
        ),
    }


def dictionary(values: pa.Array, indices: list[int], kind: pa.DataType | None = None) -> pa.Array:
    """A column of indices into given values."""
    return pa.DictionaryArray.from_arrays(pa.array(indices, kind or pa.int32()), values, safe=False)


def _of_one(column: pa.Array, name: str) -> bytes:
    return stream(pa.table({name: column}))


def _nothing(name: str, field: str, *, in_dictionary: bool = False) -> bytes:
    column = of_nothing(MOST)[name]
    return _of_one(dictionary(column, [0]) if in_dictionary else column, field)


def _little(name: str, field: str, size: int, *, in_dictionary: bool = False) -> bytes:
    column = of_little(size)[name]()
    return _of_one(dictionary(column, [0]) if in_dictionary else column, field)


def _request(make: Callable[[], bytes]) -> Request:
    return Request("/score", _HEADERS, make())


def repeated_batches(size: int, columns: dict[str, pa.Array]) -> bytes:
    """A stream of the same batch as often as fits."""
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        head = sink.tell()
        writer.write_batch(batch)
        one = sink.tell() - head
    content: bytes = sink.getvalue().to_pybytes()
    made: bytes = content[:head] + content[head : head + one] * max(1, (size - head) // one) + content[head + one :]
    return made


def _dictionary_batches(size: int, *, deltas: bool) -> bytes:
    schema = pa.schema([("country", pa.dictionary(pa.int32(), pa.string()))])
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
    entries: list[str] = []
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for number in range(max(2, min(9000, size // 7000))):
            entries = [*entries, str(number) * 1000] if deltas and number < 200 else [str(number % 2) * 6000]
            writer.write_batch(pa.record_batch([dictionary(pa.array(entries), [0])], schema=schema))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _aliased_views(size: int, rows: int = 10_000) -> bytes:
    view = struct.pack("<i4sii", size, b"aaaa", 0, 0)
    buffers = [None, pa.py_buffer(view * rows), pa.py_buffer(b"a" * size)]
    return _of_one(pa.Array.from_buffers(pa.string_view(), rows, buffers), "country")


def _deep(levels: int) -> bytes:
    kind: pa.DataType = pa.float64()
    for _ in range(levels):
        kind = pa.list_(kind)
    return stream(pa.schema([("amount", kind)]).empty_table(), rows=1)


def _structs(entries: int) -> pa.Array:
    kind = pa.struct([("a", pa.null())])
    return pa.Array.from_buffers(kind, entries, [None], children=[pa.nulls(entries)])


def _forged(old: int, new: int, **options: Any) -> bytes:
    """A stream of a column in which a 64-bit number is replaced wherever it stands."""
    content = stream(pa.table({"amount": np.full(_ROWS, 7.0)}), **options)
    return content.replace(struct.pack("<q", old), struct.pack("<q", new))


def _shapes() -> Iterator[Shape]:
    for name in of_little(64):
        for field in ("country", "amount"):
            yield Shape(
                f"arrow a dictionary of {name} for {field}", "/score", _HEADERS,
                partial(_little, name, field, in_dictionary=True),
            )  # fmt: skip
        yield Shape(
            f"arrow a column of {name}", "/score", _HEADERS,
            partial(_little, name, "country"),
        )  # fmt: skip
    for name, make in _OTHERS.items():
        yield Shape(f"arrow {name}", "/score", _HEADERS, make)


def _columns(size: int) -> bytes:
    return stream(pa.table({f"c{number}": [0.0] for number in range(max(1, size // 400))}))


def _with_metadata(metadata: dict[str, str]) -> bytes:
    return stream(pa.table({"amount": [0.0]}).replace_schema_metadata(metadata))


def _zeros(size: int, compression: str) -> bytes:
    return stream(pa.table({"amount": np.zeros(size // 8)}), compression=compression)


_NO_NUMBERS = {"amount": pa.array([], pa.float64())}
_NO_RECORDS = {name: pa.array([value])[:0] for name, value in RECORD.items()}
_OTHERS: dict[str, Callable[[int], bytes]] = {
    "empty batches": lambda size: repeated_batches(size, _NO_NUMBERS),
    "wide empty batches": lambda size: repeated_batches(size, _NO_RECORDS),
    "batches of a row": lambda size: repeated_batches(size, {"amount": pa.array([0.0])}),
    "replaced dictionaries": lambda size: _dictionary_batches(size, deltas=False),
    "growing dictionaries": lambda size: _dictionary_batches(size, deltas=True),
    "a long text ten thousand times": lambda size: _of_one(dictionary(pa.array(["a" * size]), [0] * 10_000), "country"),
    "views of the same bytes": _aliased_views,
    "columns": _columns,
    "metadata": lambda size: _with_metadata({"a": "b" * size}),
    "many metadata": lambda size: _with_metadata({str(number): "" for number in range(size // 40)}),
    "zeros": bytes,
    "zeros behind a stream": lambda size: good(1) + bytes(size),
    "compressed by zstd": lambda size: _zeros(size, "zstd"),
    "compressed by lz4": lambda size: _zeros(size, "lz4"),
    "too many good records": lambda size: good(max(1, size // 90)),
}


def _claims() -> Iterator[tuple[str, Callable[[], bytes]]]:
    for name in of_nothing(1):
        for field in ("amount", "country"):
            yield f"arrow 2^31 {name} for {field}", partial(_nothing, name, field)
            if "run" not in name:
                yield (
                    f"arrow a dictionary of 2^31 {name} for {field}",
                    partial(_nothing, name, field, in_dictionary=True),
                )
    yield "arrow a dictionary of 2^31 structs of nulls", lambda: _of_one(dictionary(_structs(MOST), [0]), "country")
    yield "arrow small indices into 2^31 nulls", lambda: _of_one(dictionary(pa.nulls(MOST), [0], pa.int8()), "country")
    yield "arrow an index beyond its dictionary", lambda: _of_one(dictionary(pa.array(["a"]), [2**30]), "country")
    yield "arrow an unknown column of 2^31 nulls", lambda: _of_one(pa.nulls(MOST), "no-field")
    for name, length in {"2^40": 2**40, "2^62": 2**62, "fewer than none": -1}.items():
        yield f"arrow rows said to be {name}", partial(_forged, _ROWS, length)
        yield f"arrow bytes said to be {name}", partial(_forged, _ROWS * 8, length)
    yield "arrow compressed bytes said to be 2^40", lambda: _forged(_ROWS * 8, 2**40, compression="zstd")
    for levels in (60, 2000):
        yield f"arrow lists {levels} deep", partial(_deep, levels)
    yield "arrow a message of 2^31 bytes", lambda: b"\xff\xff\xff\xff" + struct.pack("<i", 2**31 - 8) + bytes(64)


CLAIMS: dict[str, Callable[[], bytes]] = dict(_claims())
"""Streams of some hundred bytes that claim 2^31 entries, or a length that is not theirs."""
SHAPES: tuple[Shape, ...] = tuple(_shapes())
CASES: tuple[Case, ...] = (
    *(sends(name, partial(_request, make)) for name, make in CLAIMS.items()),
    *(shape.case(60 * MEBIBYTE) for shape in SHAPES),
    sends("arrow rows in a column of a thousand streams", lambda: packed(Request("/score", _HEADERS, good(1) * 1000))),
)
