"""Images as clients send them: every form gives the same levels, and what is no image says what is expected."""

import base64
import contextlib
import tracemalloc
import zlib
from io import BytesIO
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin, PngImagePlugin
from pydantic import ValidationError

from bundle.errors import InvalidRecords
from bundle.record import images
from bundle.record.fields import ImageField, NumericField
from bundle.record.images import NotAnImage, decode, encode, png
from bundle.record.records import encode_columns, encode_records
from bundle.record.schema import ImageSchema, schema_of

GREY = ImageField(name="scan", height=5, width=4, channels=1)
COLOUR = ImageField(name="photo", height=5, width=4, channels=3)
RANDOM = np.random.default_rng(0)
PIXELS = {field: RANDOM.integers(0, 256, field.shape).astype(np.uint8) for field in (GREY, COLOUR)}


def file(levels: np.ndarray[Any, Any], kind: str = "PNG", **options: Any) -> bytes:
    content = BytesIO()
    Image.fromarray(levels.squeeze()).save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("field", [GREY, COLOUR])
def test_every_form_gives_the_same_levels(field: ImageField) -> None:
    pixels = PIXELS[field]
    content = file(pixels)
    text = base64.b64encode(content).decode()
    forms = [pixels.tolist(), pixels, content, text, f"data:image/png;base64,{text}", pixels.tobytes(), png(pixels)]
    if field.channels == 1:
        forms.append(pixels[..., 0].tolist())
    schema = ImageSchema(fields=(field,))
    expected = np.stack([pixels] * len(forms))
    for records in ([{field.name: form} for form in forms], [[form] for form in forms]):
        tensors = encode_records(schema, records)
        assert list(tensors) == ["image"]
        np.testing.assert_array_equal(tensors["image"], expected)
    np.testing.assert_array_equal(encode_columns(schema, {field.name: expected}, len(forms))["image"], expected)


def test_a_jpeg_is_what_pillow_makes_of_it() -> None:
    content = file(PIXELS[COLOUR], "JPEG", quality=90)
    np.testing.assert_array_equal(decode(COLOUR, content), np.asarray(Image.open(BytesIO(content))))


def test_a_grey_file_is_a_colour_image_whose_channels_agree() -> None:
    found = decode(COLOUR, file(PIXELS[GREY]))
    np.testing.assert_array_equal(found, np.repeat(PIXELS[GREY], 3, axis=-1))


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def bomb() -> bytes:
    """A PNG of a few kilobytes whose head says 30 000 by 30 000."""
    head = (30_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    )


WRONG = {
    "nothing": (None, "an image is never missing"),
    "a number": (7, "nested numbers or a PNG or JPEG file"),
    "ragged rows": ([[1, 2, 3, 4], [1, 2]], "nested 5 by 4 by 1"),
    "another size": (np.zeros((4, 5), int).tolist(), "nested 5 by 4 by 1"),
    "too bright": (np.full((5, 4), 256).tolist(), "from 0 to 255"),
    "negative": (np.full((5, 4), -1).tolist(), "from 0 to 255"),
    "enormous": ([[10**400] * 4] * 5, "from 0 to 255"),
    "rows that are texts": (["1234"] * 5, "nested 5 by 4 by 1"),
    "a cell of its own": ([[[1]] * 3 + [2]] * 5, "nested 5 by 4 by 1"),
    "fractions": (np.full((5, 4), 0.5).tolist(), "whole numbers"),
    "one boolean": ([[0] * 4] * 4 + [[1, 0, True, 0]], "whole numbers"),
    "booleans": (np.ones((5, 4), bool).tolist(), "whole numbers"),
    "texts": ([["1"] * 4] * 5, "whole numbers"),
    "holes": ([[None] * 4] * 5, "whole numbers"),
    "no base64": ("not base64!", "base64 of a PNG or JPEG"),
    "no file": (base64.b64encode(b"hello").decode(), "no PNG or JPEG file"),
    "empty": ("", "no PNG or JPEG file"),
    "a GIF": (file(PIXELS[GREY], "GIF"), "no PNG or JPEG file"),
    "a larger file": (file(np.zeros((50, 40), np.uint8)), "this one is 40 by 50"),
    "a colour file": (file(PIXELS[COLOUR]), "this one is RGB"),
    "16 bits": (file(np.zeros((5, 4), np.uint16)), "this one is 16 bits"),
    "half a file": (file(RANDOM.integers(0, 256, (5, 4)).astype(np.uint8))[:-30], "broken|can be read"),
    "a bomb": (bomb(), "30000 by 30000|can be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_image_of_the_field_is_said(name: str) -> None:
    value, words = WRONG[name]
    with pytest.raises(NotAnImage, match=words):
        decode(GREY, value)
    good = PIXELS[GREY].tolist()
    with pytest.raises(InvalidRecords) as refused:
        encode_records(ImageSchema(fields=(GREY,)), [{"scan": good}, {"scan": value}])
    (problem,) = refused.value.problems
    assert (problem.row, problem.field) == (1, "scan")


def test_a_long_text_among_many_short_ones_takes_no_more_memory_than_it_has() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(NotAnImage, match="nested 5 by 4 by 1"):
            decode(GREY, ["a" * 300_000, *[""] * 70_000])
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_sixteen_bits_of_a_colour_are_not_thrown_away() -> None:
    head = (4).to_bytes(4, "big") + (5).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    rows = zlib.compress(b"".join(b"\0" + bytes([0x12, 0xFF] * 12) for _ in range(5)))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert Image.open(BytesIO(content)).mode == "RGB", "which is what Pillow says of it"
    with pytest.raises(NotAnImage, match="8 bits a channel without transparency; this one is 16 bits"):
        decode(COLOUR, content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_of_as_many_bytes_as_there_are_levels_is_a_file(kind: str) -> None:
    field = ImageField(name="photo", height=40, width=30, channels=3)
    plain = file(np.full(field.shape, 90, np.uint8), kind)
    missing = field.dimensions - len(plain)
    if kind == "PNG":
        content = plain[:33] + chunk(b"teXt", b"n" * (missing - 12)) + plain[33:]
    else:
        content = plain[:2] + b"\xff\xfe" + (missing - 2).to_bytes(2, "big") + b"n" * (missing - 4) + plain[2:]
    assert len(content) == field.dimensions
    np.testing.assert_array_equal(decode(field, content), decode(field, plain))
    # Levels that happen to begin like one are levels.
    levels = np.frombuffer(b"\xff\xd8\xff" + bytes(field.dimensions - 3), np.uint8).reshape(field.shape)
    np.testing.assert_array_equal(decode(field, levels.tobytes()), levels)


def test_what_a_jpeg_tells_about_itself_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def segment(kind: int, content: bytes) -> bytes:
        return bytes([0xFF, kind]) + (len(content) + 2).to_bytes(2, "big") + content

    plain = file(PIXELS[COLOUR], "JPEG", quality=90)
    told = segment(0xE1, b"Exif\0\0" + b"x" * 10) + segment(0xE2, b"MPF\0" + b"y" * 9) + segment(0xFE, b"note")
    seen: list[int] = []
    handlers = JpegImagePlugin.MARKER
    for kind in (0xFFE1, 0xFFE2, 0xFFFE):
        name, about, _ = handlers[kind]
        monkeypatch.setitem(handlers, kind, (name, about, lambda image, kind: seen.append(kind)))
    content = plain[:2] + told * 100 + b"\xff" + plain[2:]
    np.testing.assert_array_equal(decode(COLOUR, content), decode(COLOUR, plain))
    assert not seen
    with contextlib.suppress(OSError):
        Image.open(BytesIO(content))
    assert seen, "who looks at them"
    # What stands where no segment should is not passed on either.
    for hidden in (b"junk" + told, segment(0xD8, b"")[:2] + told):
        seen.clear()
        with contextlib.suppress(NotAnImage):
            decode(COLOUR, plain[:2] + hidden + plain[2:])
        assert not seen


@pytest.mark.parametrize("orientation", [1, 6])
def test_an_image_is_taken_as_it_is_stored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = file(PIXELS[COLOUR], "JPEG", quality=90, exif=exif)
    np.testing.assert_array_equal(decode(COLOUR, turned), decode(COLOUR, file(PIXELS[COLOUR], "JPEG", quality=90)))


def test_after_a_hundred_that_are_no_images_nothing_more_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Mock(wraps=images.decode)
    monkeypatch.setattr(images, "decode", looked)
    seen: list[int] = []
    encode(GREY, ["?"] * 500, lambda row, detail: seen.append(row))
    assert seen == list(range(100))
    assert looked.call_count == 100


def test_transparency_is_not_thrown_away() -> None:
    picture = Image.new("RGBA", (4, 5), (10, 20, 30, 40))
    content = BytesIO()
    picture.save(content, "PNG")
    with pytest.raises(NotAnImage, match="without transparency; this one is RGBA"):
        decode(COLOUR, content.getvalue())


@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(st.data())
def test_whatever_the_bytes_it_is_an_image_or_refused(data: st.DataObject) -> None:
    content = bytearray(file(PIXELS[COLOUR], data.draw(st.sampled_from(["PNG", "JPEG"]))))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NotAnImage):
        assert decode(COLOUR, bytes(content)).shape == COLOUR.shape


def test_an_image_is_a_record_by_itself() -> None:
    table = NumericField(name="n", missing_rate=0.1, mean=0.0, scale=1.0)
    with pytest.raises(ValidationError, match="a record by itself"):
        schema_of([GREY, table])
    schema = ImageSchema(fields=(GREY,))
    assert schema.field == GREY
    assert schema.dtypes == {"image": np.dtype(np.uint8)}
    assert schema.by_input == {"image": (GREY,)}


def test_rows_that_are_no_images_are_reported_and_left_black() -> None:
    seen: list[tuple[int, str]] = []
    found = encode(GREY, [PIXELS[GREY], "?", PIXELS[GREY]], lambda row, detail: seen.append((row, detail)))
    assert [row for row, _ in seen] == [1]
    np.testing.assert_array_equal(found[[0, 2]], np.stack([PIXELS[GREY]] * 2))
    assert not found[1].any()


def test_what_is_no_pixels_of_a_png_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("note", "n" * 2**20, zip=True)
    content = file(PIXELS[COLOUR], pnginfo=notes, icc_profile=b"p" * 2**16)
    unpacked = Mock(return_value=b"")
    monkeypatch.setattr(PngImagePlugin, "_safe_zlib_decompress", unpacked)
    np.testing.assert_array_equal(decode(COLOUR, content), PIXELS[COLOUR])
    assert not unpacked.called
    Image.open(BytesIO(content)).load()
    assert unpacked.called, "which it is that unpacks them"


def test_the_pixels_of_a_png_may_stand_in_several_chunks_and_in_a_palette() -> None:
    random = np.random.default_rng(1).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    wide = ImageField(name="photo", height=40, width=30, channels=3)
    content = file(random, compress_level=0)
    at = content.index(b"IDAT") - 4
    size = int.from_bytes(content[at : at + 4], "big")
    pixels = content[at + 8 : at + 8 + size]
    split = b"".join(chunk(b"IDAT", pixels[start : start + 1000]) for start in range(0, size, 1000))
    np.testing.assert_array_equal(decode(wide, content[:at] + split + content[at + 12 + size :]), random)
    few = Image.fromarray(random).quantize(16)
    palette = BytesIO()
    few.save(palette, "PNG")
    np.testing.assert_array_equal(decode(wide, palette.getvalue()), np.asarray(few.convert("RGB")))


def progressive(extra: int) -> bytes:
    """A progressive JPEG file, its last scan as often again."""
    content = file(PIXELS[COLOUR], "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * extra + content[-2:]


def test_a_progressive_file_has_some_scans_and_not_hundreds() -> None:
    usual = progressive(0)
    scans = usual.count(b"\xff\xda")
    assert scans > 5
    assert decode(COLOUR, usual).shape == COLOUR.shape
    decode(COLOUR, progressive(16 - scans))
    for more in (17 - scans, 500):
        with pytest.raises(NotAnImage, match="at most 16 scans"):
            decode(COLOUR, progressive(more))


@pytest.mark.parametrize("kind", [0xC3, 0xC5, 0xC9, 0xCA, 0xCF])
def test_other_codings_of_jpeg_are_not_tried(kind: int) -> None:
    content = file(PIXELS[COLOUR], "JPEG")
    place = content.index(b"\xff\xc0")
    with pytest.raises(NotAnImage, match="baseline or progressive"):
        decode(COLOUR, content[: place + 1] + bytes([kind]) + content[place + 2 :])


def test_a_file_of_parts_without_end_is_refused() -> None:
    jpeg, png = file(PIXELS[COLOUR], "JPEG"), file(PIXELS[COLOUR])
    for content in (
        jpeg[:2] + b"\xff\xe1\x00\x02" * 10_000 + jpeg[2:],
        jpeg[:2] + b"\xff" * 10_000 + jpeg[2:],
        png[:33] + chunk(b"tEXt", b"") * 10_000 + png[33:],
    ):
        with pytest.raises(NotAnImage, match="no more parts than an image takes"):
            decode(COLOUR, content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_that_is_far_larger_than_its_pixels_is_refused(kind: str) -> None:
    content = file(PIXELS[COLOUR], kind)
    if kind == "PNG":
        large = content[:-12] + b"".join([chunk(b"IDAT", bytes(2**14))] * 8) + content[-12:]
    else:
        large = content[:-2] + bytes(2**17) + content[-2:]
    with pytest.raises(NotAnImage, match="more than the pixels of one"):
        decode(COLOUR, large)


@pytest.mark.parametrize("quality", [75, 100])
def test_noise_of_any_quality_is_no_larger_than_a_file_may_be(quality: int) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    field = ImageField(name="photo", height=120, width=160, channels=3)
    for content in (
        file(noise, "JPEG", quality=quality, subsampling=0),
        file(noise, "JPEG", quality=quality, subsampling=0, progressive=True),
        file(noise, compress_level=0),
    ):
        assert decode(field, content).shape == field.shape
