"""Bodies that are sent compressed: what they hold arrives, and nothing makes the service hold more than it may."""

import gzip
import itertools
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import BodyMalformed, BodyTooLarge
from service.settings import Settings
from service.wire.body import PIECE, BodyReader, Inflater
from service.wire.memory_budget import Budget, Lease
from service.wire.threads import Threads
from tests.conftest import in_process
from tests.service.score.test_score import PAYMENT


def bare(data: bytes) -> bytes:
    """Deflate without zlib's head and checksum."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def members(data: bytes) -> bytes:
    """Gzip in two members and an empty one."""
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(b"") + gzip.compress(data[half:])


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "members": ("x-gzip", members),
    "zlib": ("deflate", zlib.compress),
    "bare deflate": ("Deflate", bare),
}
coded = pytest.mark.parametrize(("coding", "compress"), CODINGS.values(), ids=CODINGS)
BODY = orjson.dumps({"records": [PAYMENT] * 3})


async def read(coding: str, body: bytes, limit: int = 2**20, expanded: int | None = None) -> bytes:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    threads, budget = Threads("test", 2), Budget(2**30)
    reader = BodyReader(limit, limit if expanded is None else expanded, threads)
    try:
        with Lease(budget, "") as lease:
            content = await reader.read({b"content-encoding": coding.encode()}, receive, lease, 60.0)
            assert lease.size >= len(content)
    finally:
        threads.close()
    assert budget.reserved == 0
    return content


@coded
async def test_what_is_compressed_is_scored(models: Path, coding: str, compress: Callable[[bytes], bytes]) -> None:
    async with in_process(Settings(models=models)) as (client, _):
        plain = (await client.post("/score", content=BODY, headers={"Content-Encoding": "identity"})).json()
        response = await client.post("/score", content=compress(BODY), headers={"Content-Encoding": coding})
        assert response.json() == plain
        assert len(plain["results"]) == 3


@coded
@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=300), repeats=st.integers(0, 2000), cuts=st.lists(st.integers(0, 4000), max_size=6))
def test_a_body_may_arrive_in_any_pieces(
    coding: str, compress: Callable[[bytes], bytes], data: bytes, repeats: int, cuts: list[int]
) -> None:
    content = data * repeats
    body = compress(content)
    inflater = Inflater("gzip" in coding)
    places = sorted({0, *(min(cut, len(body)) for cut in cuts), len(body)})
    pieces = [piece for first, last in itertools.pairwise(places) for piece in inflater.feed(body[first:last])]
    inflater.close()
    assert b"".join(pieces) == content
    assert all(0 < len(piece) <= PIECE for piece in pieces)


@coded
async def test_what_is_damaged_is_400(coding: str, compress: Callable[[bytes], bytes]) -> None:
    whole = compress(BODY * 50)
    assert await read(coding, whole) == BODY * 50
    flipped = bytearray(whole)
    flipped[-5] ^= 0xFF
    broken = [b"", whole[:1], whole[:-1], whole[: len(whole) // 2], whole + b"more", whole + whole[:9], BODY]
    if coding != "Deflate":  # which has no checksum
        broken.append(bytes(flipped))
    for body in broken:
        with pytest.raises(BodyMalformed):
            await read(coding, body)


@coded
async def test_a_bomb_is_413_and_never_held(coding: str, compress: Callable[[bytes], bytes]) -> None:
    limit = 4 * 2**20
    bomb = compress(bytes(100 * 2**20))
    assert len(bomb) < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge, match=str(limit)):
            await read(coding, bomb, expanded=limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * limit
    assert len(await read(coding, compress(bytes(limit)), expanded=limit)) == limit
    with pytest.raises(BodyTooLarge):
        await read(coding, compress(bytes(limit + 1)), expanded=limit)


@coded
@pytest.mark.parametrize(
    ("content_type", "filling"),
    [
        ("application/json", b" "),
        ("text/csv", b"\n"),
        ("application/vnd.apache.arrow.stream", b"\0"),
        ("application/x-ndjson", b"{}\n"),
    ],
)
async def test_a_bomb_in_any_format_is_413(
    models: Path, coding: str, compress: Callable[[bytes], bytes], content_type: str, filling: bytes
) -> None:
    async with in_process(Settings(models=models, max_expanded_bytes=2**20)) as (client, _):
        headers = {"Content-Type": content_type, "Content-Encoding": coding, "Accept": "application/json"}
        response = await client.post("/score", content=compress(filling * (2**21 // len(filling))), headers=headers)
        assert (response.status_code, response.json()["type"]) == (413, "body-too-large")
        assert (await client.post("/score", content=BODY)).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
async def test_json_that_parses_to_thirty_times_its_size_is_413(models: Path, content_type: str) -> None:
    async with in_process(Settings(models=models)) as (client, _):
        headers = {"Content-Type": content_type, "Content-Encoding": "gzip", "Accept": "application/json"}
        for filling in (b"[],", b"{},", b"1,"):
            body = gzip.compress(b"[" + filling * 2_000_000 + b"1]")
            response = await client.post("/score", content=body, headers=headers)
            assert (response.status_code, response.json()["type"]) == (413, "too-many-records")


async def test_the_limit_on_what_is_sent_comes_first() -> None:
    with pytest.raises(BodyTooLarge, match="over 10 bytes"):
        await read("gzip", gzip.compress(BODY), limit=10, expanded=2**20)
    with pytest.raises(BodyTooLarge, match="expands to over 50 bytes"):
        await read("gzip", gzip.compress(bytes(1000)), limit=50)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate;q=1", "gzip\xff"])
async def test_other_codings_are_415_with_those_that_are_read(models: Path, coding: str) -> None:
    async with in_process(Settings(models=models)) as (client, _):
        for content_type in ("application/json", "application/x-ndjson"):
            headers = [(b"content-encoding", coding.encode("latin-1")), (b"content-type", content_type.encode())]
            response = await client.post("/score", content=BODY, headers=headers)
            assert (response.status_code, response.json()["type"]) == (415, "unsupported-content-encoding")
            assert "gzip, deflate, identity" in response.json()["detail"]
