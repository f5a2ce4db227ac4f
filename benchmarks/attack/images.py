"""Image files that are small on the wire and large, or long at work, once they are decoded."""

import base64
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import orjson
import pyarrow as pa
from PIL import Image

from benchmarks.attack import arrow
from benchmarks.attack.bodies import repeated
from benchmarks.attack.case import ARROW, JSON, NDJSON, Case, Shape, sends
from benchmarks.attack.exchange import Request, packed

MEBIBYTE = 2**20
_PNG = b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN = b"\xff\xda"
_END = b"\xff\xd9"


def png(width: int, height: int, *, bits: int = 1, between: bytes = b"", interlaced: bool = False) -> bytes:
    """A black grey-scale PNG file of any size, its rows well compressed; chunks may stand before them."""
    row = 1 + (width * bits + 7) // 8
    packer = zlib.compressobj(9)
    blocks, rest = divmod(row * height, MEBIBYTE)
    rows = b"".join([*(packer.compress(bytes(MEBIBYTE)) for _ in range(blocks)), packer.compress(bytes(rest))])
    rows += packer.flush()
    head = _head(width, height, bits, interlaced=interlaced)
    return _PNG + head + between + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def jpeg(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG file whose first scan stands in it so many times."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width), np.uint8)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    start = content.index(_START_OF_SCAN)
    end = content.index(b"\xff", start + 2)
    while content[end + 1] == 0:
        end = content.index(b"\xff", end + 2)
    return content[:start] + content[start:end] * scans + content[end:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _head(width: int, height: int, bits: int, *, interlaced: bool = False) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, int(interlaced)))


def _text_bomb(kind: bytes) -> bytes:
    before = {b"zTXt": b"a\0\0", b"iCCP": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}[kind]
    return _chunk(kind, before + zlib.compress(bytes(60 * MEBIBYTE), 9))


def _with_head_of(side: int, file: bytes) -> bytes:
    head = _PNG + _head(side, side, 8)
    return head + file[len(head) :]


FILES: dict[str, Callable[[], bytes]] = {
    "a PNG of 30 000 by 30 000": lambda: png(30_000, 30_000),
    "a PNG of 2^31 by 2^31": lambda: _PNG + _head(2**31 - 1, 2**31 - 1, 8),
    "a PNG of a row": lambda: png(500_000_000, 1),
    "a PNG of a column": lambda: png(1, 4_000_000),
    "an interlaced PNG": lambda: png(8_000, 8_000, bits=8, interlaced=True),
    "a PNG of 28 by 28 with a text of 60 MiB": lambda: png(28, 28, bits=8, between=_text_bomb(b"zTXt")),
    "a PNG of 28 by 28 with a profile of 60 MiB": lambda: png(28, 28, bits=8, between=_text_bomb(b"iCCP")),
    "a PNG of 28 by 28 with words of 60 MiB": lambda: png(28, 28, bits=8, between=_text_bomb(b"iTXt")),
    "a PNG of 28 by 28 with a million chunks": lambda: png(28, 28, bits=8, between=_chunk(b"tEXt", b"a\0") * 700_000),
    "a PNG of 28 by 28 with rows too many": lambda: _with_head_of(28, png(28, 60 * MEBIBYTE // 29, bits=8)),
    "a JPEG of 60 000 by 60 000": lambda: jpeg(28, 28, 1).replace(
        struct.pack(">HH", 28, 28), struct.pack(">HH", 60_000, 60_000), 1
    ),
    "a JPEG of 28 by 28 with 100 000 scans": lambda: jpeg(28, 28, 100_000),
    "a JPEG of 4 000 by 4 000 with 1 000 scans": lambda: jpeg(4_000, 4_000, 1_000),
}  # fmt: skip
"""Files by what is wrong with them."""


def in_json(files: list[bytes]) -> Request:
    """A request that holds each file in base64."""
    records = [{"image": base64.b64encode(file).decode()} for file in files]
    return Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": records}))


def in_arrow(files: list[bytes]) -> Request:
    """The same as a column of bytes."""
    return Request("/score", {"Content-Type": ARROW}, arrow.stream(pa.table({"image": pa.array(files, pa.binary())})))


def in_lines(files: list[bytes]) -> Request:
    """The same as a stream of lines."""
    lines = (orjson.dumps({"image": base64.b64encode(file).decode()}) for file in files)
    return Request("/score", {"Content-Type": NDJSON}, b"\n".join(lines))


def _fitting(file: bytes, size: int = 60 * MEBIBYTE) -> list[bytes]:
    """The file as often as the largest body holds it in base64, and a request takes records."""
    return [file] * max(1, min(10_000, size * 3 // 4 // (len(file) + 30)))


def _once(make: Callable[[], bytes], form: Callable[[list[bytes]], Request]) -> Request:
    return packed(form([make()]))


def often(make: Callable[[], bytes], form: Callable[[list[bytes]], Request]) -> Request:
    """A request that holds a file as often as it may."""
    return packed(form(_fitting(make())))


def _cases() -> Iterator[Case]:
    for name, make in FILES.items():
        yield sends(f"image {name}", partial(_once, make, in_json), images=True)
        for called, form in {"JSON": in_json, "Arrow": in_arrow, "lines": in_lines}.items():
            yield sends(f"image {name}, as often as {called} may", partial(often, make, form), images=True)
    for name, unit in {"numbers": b"0,", "rows": b"[0],", "empty rows": b"[],", "texts": b'"aaaa",'}.items():
        body = repeated(b'{"records":[{"image":[', unit, b"0]}]}")
        shape = Shape(f"image of {name}", "/score", {"Content-Type": JSON}, body)
        yield sends(shape.name, partial(_packed, shape), images=True)


def _packed(shape: Shape) -> Request:
    return packed(shape.request(60 * MEBIBYTE))


CASES: tuple[Case, ...] = tuple(_cases())
