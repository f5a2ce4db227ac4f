"""What is no image of the model's is refused by its place and never quoted, and costs no more than it weighs."""

import base64
import json
import logging
import zlib
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bundle.record.images import in_base64, png
from service.settings import Settings
from service.telemetry import logs
from tests.conftest import in_process, simulate_images
from tests.service.score.image_bodies import file, in_arrow, in_csv, in_json, lists, tensors, text
from tests.service.score.test_formats import ARROW, CSV, JSON, NDJSON, stream

MARK = "S3CRET"
GOOD = simulate_images(2, seed=11)
IMAGE = GOOD[0]
GREY = Image.fromarray(IMAGE[..., 0])


@pytest.fixture
async def client(image_models: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with in_process(Settings(models=image_models)) as (client, _):
        yield client


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def bomb(side: int) -> bytes:
    """A small PNG file of a square so many pixels wide."""
    head = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    rows = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def transparent() -> bytes:
    """Of the right size and grey, with one level that is to be seen through."""
    content = png(IMAGE)
    return content[:33] + chunk(b"tRNS", b"\x00\x07") + content[33:]


FILES: dict[str, tuple[bytes, str]] = {
    "a bomb": (bomb(30_000), "no PNG or JPEG file that can be read"),
    "a smaller bomb": (bomb(4000), "this one is 4000 by 4000"),
    "another size": (file(GREY.resize((9, 8))), "this one is 9 by 8"),
    "its head alone": (png(IMAGE)[:40], "no PNG or JPEG file that can be read"),
    "half of it": (png(IMAGE)[: len(png(IMAGE)) // 2], "broken"),
    "a broken checksum": (png(IMAGE)[:45] + b"\x00\x01\x02" + png(IMAGE)[48:], "broken"),
    "half a JPEG": (file(GREY, "JPEG")[:200], "no PNG or JPEG file that can be read"),
    "a GIF": (file(GREY, "GIF"), "no PNG or JPEG file that can be read"),
    "a TIFF": (file(GREY, "TIFF"), "no PNG or JPEG file that can be read"),
    "text": (MARK.encode(), "no PNG or JPEG file that can be read"),
    "colours": (file(GREY.convert("RGB")), "this one is RGB"),
    "alpha": (file(GREY.convert("LA")), "without transparency; this one is LA"),
    "transparency": (transparent(), "without transparency"),
    "16 bits": (file(Image.fromarray(IMAGE[..., 0].astype(np.uint16) * 257)), "8 bits a channel"),
    "nothing": (b"", "no PNG or JPEG file that can be read"),
}


@pytest.mark.parametrize("name", FILES)
async def test_a_file_that_is_no_image_of_the_field(client: httpx.AsyncClient, name: str) -> None:
    content, words = FILES[name]
    good = in_base64(IMAGE)
    bodies = {
        JSON: (in_json([good, text(content)]), "/records/1/image"),
        NDJSON: (b"\n".join(orjson.dumps({"image": each}) for each in (good, text(content))), "/2/image"),
        CSV: (in_csv([good, text(content)]), "/2/image"),
        ARROW: (in_arrow(pa.array([png(IMAGE), content], pa.binary())), "/2/image"),
    }
    for sent, (body, pointer) in bodies.items():
        response = await client.post("/score", content=body, headers={"Content-Type": sent, "Accept": JSON})
        refused(response, pointer)
        if content or sent != CSV:  # an empty cell is no text
            assert words in response.json()["errors"][0]["detail"]


def refused(response: httpx.Response, pointer: str, value: str = MARK) -> None:
    """A 422 that names a place, and does not say what stands there."""
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert [each["pointer"] for each in response.json()["errors"]] == [pointer]
    for said in (value, base64.b64encode(value.encode()).decode()[:10]):
        assert said not in response.text
    assert len(response.content) < 1000


FLAT = IMAGE[..., 0].tolist()


def changed(value: Any) -> list[list[Any]]:
    """The image with one other level."""
    rows = [list(row) for row in FLAT]
    rows[3][5] = value
    return rows


VALUES: dict[str, tuple[Any, str]] = {
    "too light": (changed(256), "whole numbers from 0 to 255"),
    "far too light": (changed(918273645), "whole numbers from 0 to 255"),
    "beyond 64 bits": (changed(10**25), "whole numbers from 0 to 255"),
    "negative": (changed(-1), "whole numbers from 0 to 255"),
    "a fraction": (changed(0.5), "whole numbers from 0 to 255"),
    "a hole": (changed(None), "whole numbers from 0 to 255"),
    "a flag among them": (changed(True), "whole numbers from 0 to 255"),
    "text among them": (changed(MARK), "whole numbers from 0 to 255"),
    "an object": ({MARK: 1}, "nested numbers or a PNG"),
    "a number": (918273645, "nested numbers or a PNG"),
    "null": (None, "an image is never missing"),
    "no base64": (f"{MARK}!", "base64"),
    "a data URI of nothing": ("data:image/png;base64", "no PNG or JPEG"),
    "no ASCII": ("é" * 20, "base64"),
    "an empty list": ([], "nested 8 by 8 by 1"),
    "a row less": (FLAT[:7], "nested 8 by 8 by 1"),
    "three channels": (np.zeros((8, 8, 3), int).tolist(), "nested 8 by 8 by 1"),
    "flat": (IMAGE.reshape(-1).tolist(), "nested 8 by 8 by 1"),
    "ragged": ([*FLAT[:7], [1]], "nested 8 by 8 by 1"),
    "too deep": ([[[[[[MARK]]]]]], "nested 8 by 8 by 1"),
}


@pytest.mark.parametrize("name", VALUES)
async def test_a_value_that_is_no_image(client: httpx.AsyncClient, name: str) -> None:
    value, words = VALUES[name]
    body, array, line = (
        json.dumps(each).encode()
        for each in (
            {"records": [{"image": FLAT}, {"image": value}]},
            {"records": [[FLAT], [value]]},
            {"image": value},
        )
    )
    for sent, content, pointer in (
        (JSON, body, "/records/1/image"),
        (JSON, array, "/records/1/0"),
        (NDJSON, b"\n" + line, "/2/image"),
    ):
        response = await client.post("/score", content=content, headers={"Content-Type": sent, "Accept": JSON})
        refused(response, pointer)
        assert words in response.json()["errors"][0]["detail"]
        assert "918273645" not in response.text


@pytest.mark.parametrize(
    ("records", "pointer"),
    [
        ([{"image": FLAT}, {}], "/records/1/image"),
        ([{"image": FLAT}, []], "/records/1"),
        ([{"image": FLAT}, {"image": FLAT, MARK: 1}], f"/records/1/{MARK}"),
        ([{"picture": FLAT}], "/records/0/picture"),
        ([FLAT], "/records/0"),
        ([MARK], "/records/0"),
    ],
)
async def test_a_record_that_is_not_one_image(client: httpx.AsyncClient, records: list[Any], pointer: str) -> None:
    response = await client.post("/score", json={"records": records})
    refused(response, pointer, value="unsaid")


def wrong_columns() -> dict[str, tuple[Any, str]]:
    first, second = (each.reshape(-1).tolist() for each in GOOD)
    hole = [first, [*second[:5], None, *second[6:]]]
    encoded = [in_base64(each) for each in GOOD]
    masked = pa.ExtensionArray.from_storage(tensors(GOOD).type, pa.array([first, None], pa.list_(pa.uint8(), 64)))
    return {
        "numbers": (pa.array([1, 2]), "/image"),
        "floats in lists": (pa.array([first, second], pa.list_(pa.float32(), 64)), "/image"),
        "16 bits in lists": (pa.array([first, second], pa.list_(pa.uint16(), 64)), "/image"),
        "lists of any length": (pa.array([first, second], pa.list_(pa.uint8())), "/image"),
        "lists of another length": (lists(simulate_images(2, seed=1)[:, 1:]), "/image"),
        "a null among lists": (pa.array([first, None], pa.list_(pa.uint8(), 64)), "/2/image"),
        "a null within a list": (pa.array(hole, pa.list_(pa.uint8(), 64)), "/2/image"),
        "tensors of another shape": (tensors(np.zeros((2, 8, 9, 1), np.uint8)), "/image"),
        "tensors of floats": (tensors(GOOD.astype(np.float32)), "/image"),
        "tensors with axes exchanged": (
            tensors(GOOD[..., 0].transpose(0, 2, 1)),
            "/image",
        ),
        "a null among tensors": (masked, "/2/image"),
        "a null among files": (pa.array([png(GOOD[0]), None], pa.binary()), "/2/image"),
        "a null among texts": (pa.array([encoded[0], None]), "/2/image"),
        "files of another width": (pa.array([GOOD[0].tobytes(), GOOD[1].tobytes()[:-1]], pa.binary()), "/2/image"),
        "a dictionary": (pa.array(encoded).dictionary_encode(), "/image"),
        "structs": (pa.array([{"bytes": each} for each in encoded]), "/image"),
    }


@pytest.mark.parametrize("name", wrong_columns())
async def test_a_column_that_holds_no_images(client: httpx.AsyncClient, name: str) -> None:
    column, pointer = wrong_columns()[name]
    response = await client.post("/score", content=in_arrow(column), headers={"Content-Type": ARROW, "Accept": JSON})
    refused(response, pointer)


async def test_every_row_that_is_wrong_is_named(client: httpx.AsyncClient) -> None:
    holes = pa.array([None if row % 2 else [7] * 64 for row in range(6)], pa.list_(pa.uint8(), 64))
    response = await client.post("/score", content=in_arrow(holes), headers={"Content-Type": ARROW})
    assert [each["pointer"] for each in response.json()["errors"]] == ["/2/image", "/4/image", "/6/image"]


@pytest.mark.parametrize("sent", [JSON, ARROW])
async def test_a_body_that_is_none_is_a_400(client: httpx.AsyncClient, sent: str) -> None:
    body = in_json(GOOD.tolist()) if sent == JSON else in_arrow(tensors(GOOD))
    response = await client.post("/score", content=body[: len(body) // 2], headers={"Content-Type": sent})
    assert (response.status_code, response.json()["type"]) == (400, "malformed-body")


async def test_views_that_show_the_same_file_many_times(client: httpx.AsyncClient) -> None:
    view = pa.array([png(IMAGE)], pa.binary_view())
    one, content = view.buffers()[1].to_pybytes(), view.buffers()[2]
    repeated = pa.Array.from_buffers(pa.binary_view(), 3000, [None, pa.py_buffer(one * 3000), content])
    body = stream(pa.table({"image": repeated}))
    response = await client.post("/score", content=body, headers={"Content-Type": ARROW})
    assert response.status_code == 400
    assert "show the same bytes more than once" in response.json()["detail"]


async def test_views_of_many_batches_count_together(client: httpx.AsyncClient) -> None:
    view = pa.array([png(IMAGE) + bytes(10_000)], pa.binary_view())
    one, content = view.buffers()[1].to_pybytes(), view.buffers()[2]
    several = pa.Array.from_buffers(pa.binary_view(), 10, [None, pa.py_buffer(one * 10), content])
    batch = pa.record_batch({"image": several})
    target = BytesIO()
    with pa.ipc.new_stream(target, batch.schema) as writer:
        for _ in range(20):
            writer.write_batch(batch)
    # Ten times ten kilobytes are less than the body of twenty such batches.
    assert 10 * 10_000 < len(target.getvalue()) < 20 * 10 * 10_000
    response = await client.post("/score", content=target.getvalue(), headers={"Content-Type": ARROW})
    assert response.status_code == 400
    assert "show the same bytes more than once" in response.json()["detail"]


async def test_a_long_text_among_short_ones_is_no_image(client: httpx.AsyncClient) -> None:
    refused(await client.post("/score", content=in_json([["a" * 300_000, *[""] * 70_000]])), "/records/0/image")


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_what_a_file_says_is_in_no_log(
    client: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], level: str
) -> None:
    exif = Image.Exif()
    exif[0x010E] = MARK
    content = BytesIO()
    GREY.save(content, "JPEG", exif=exif)
    notes = PngInfo()
    notes.add_text("note", MARK)
    root = logging.getLogger()
    before, quiet = (root.handlers, root.level), logging.getLogger("PIL").level
    try:
        logs.configure(level)
        response = await client.post("/score", content=in_json([text(content.getvalue()), text(file_with(notes))]))
    finally:
        root.handlers, root.level = before
        logging.getLogger("PIL").setLevel(quiet)
    assert response.status_code == 200
    said = capfd.readouterr().err
    assert MARK not in said
    assert "STREAM" not in said


async def test_texts_in_a_file_are_not_unpacked(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty kilobytes of them would grow to sixty megabytes, and Pillow refuses more."""
    notes = PngInfo()
    for number in range(80):
        notes.add_text(f"note {number}", "n" * 2**20, zip=True)
    content = text(with_notes := file_with(notes))
    assert len(with_notes) < 200_000
    unpacked = Mock(return_value=b"")
    monkeypatch.setattr("PIL.PngImagePlugin._safe_zlib_decompress", unpacked)
    response = await client.post("/score", content=in_json([content, in_base64(IMAGE)]))
    first, second = (result["anomaly_score"] for result in response.json()["results"])
    assert first == pytest.approx(second, abs=1e-5)  # the last bit depends on the place in the batch
    assert not unpacked.called


def file_with(notes: PngInfo) -> bytes:
    content = BytesIO()
    GREY.save(content, "PNG", pnginfo=notes)
    return content.getvalue()


async def test_too_many_to_be_explained_at_a_time(client: httpx.AsyncClient) -> None:
    many = in_json([in_base64(IMAGE)] * 1500)
    assert (await client.post("/score?samples=256", content=many)).status_code == 200
    response = await client.post("/score?samples=256&explain=true", content=many)
    refused(response, "/explain")
    assert "at most 1024 records" in response.json()["errors"][0]["detail"]
