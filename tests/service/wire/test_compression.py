"""Whether an answer is compressed, and how."""

import gzip
import zlib

import pytest

from service.wire import compression
from service.wire.compression import Coding


@pytest.mark.parametrize(
    ("accepted", "wanted"),
    [
        (None, None),
        (b"", None),
        (b"gzip", "gzip"),
        (b"x-gzip", "gzip"),
        (b"gzip, deflate, br", "gzip"),
        (b"deflate, gzip", "gzip"),
        (b"GZIP;q=0.5", "gzip"),
        (b"gzip;q=0", None),
        (b"deflate", "deflate"),
        (b"deflate, gzip;q=0.5", "deflate"),
        (b"deflate;q=0.5, gzip", "gzip"),
        (b"gzip;q=0, deflate;q=0.1", "deflate"),
        (b"*", "gzip"),
        (b"*;q=0.5, gzip;q=0", None),
        (b"br", None),
        (b"identity", None),
        (b"identity, gzip", "gzip"),
        (b"identity;q=1, gzip;q=0.5", None),
        (b"identity;q=1, deflate;q=0.5", None),
        (b"gzip;q=nan", None),
        (b"gzip;q=never", None),
    ],
)
def test_compression_is_for_those_who_ask_for_it(accepted: bytes | None, wanted: Coding | None) -> None:
    assert compression.asked({} if accepted is None else {b"accept-encoding": accepted}) == wanted


def test_what_is_compressed_is_read_by_others() -> None:
    body = bytes(range(256)) * 40
    assert gzip.decompress(compression.compress(body, "gzip")) == body
    assert zlib.decompress(compression.compress(body, "deflate")) == body
    assert compression.compress(body, "gzip") == compression.compress(body, "gzip")
