"""From what a client sends as an image to levels: nested numbers, or a PNG or JPEG file, as bytes or in base64."""

import base64
import binascii
import struct
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.errors import MOST_PROBLEMS
from bundle.record.fields import ImageField

Levels = npt.NDArray[np.uint8]
Report = Callable[[int, str], None]
"""Called with the row and the detail of a value that does not fit."""

FORMATS = ("PNG", "JPEG")
"""What a client may send."""
FILE_FORMATS = (*FORMATS, "BMP", "TIFF", "WEBP")
"""What may lie in a folder."""
_DATA_URI = "data:image/"
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")  # its length and its kind; a checksum follows what it holds
_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_PNG_BITS = 24
"""Where a PNG says how many bits a channel has."""
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_SEGMENT = struct.Struct(">BBH")  # 255, its kind, and its length without the first two
_START_OF_SCAN = 0xDA
_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
"""Kinds of JPEG's segments that are nothing but their kind."""
_ENDS = frozenset((0xD8, 0xD9))
_TOLD = frozenset((*range(0xE1, 0xEE), 0xEF, 0xFE))
"""Kinds that tell about the image, as EXIF does; the first and the last but one of these sixteen tell its colours."""
_OTHER_FRAMES = frozenset((0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
"""Kinds of JPEG's segments that begin pixels which are neither baseline nor progressive: lossless, of several
resolutions, or coded arithmetically, which few programs write or read."""
_MOST_SCANS = 16
"""Of a JPEG file; each goes over all of the image, and may take a few bytes. Progressive files have about ten."""
_MOST_PARTS = 2**12
"""Segments or chunks of a file, besides one for every 256 bytes of it."""
_LEAST_FILE, _PIXEL_FILE = 2**16, 8
"""Bytes that the pixels of a file may take: so many, and so many a pixel. Noise has half of that."""
_PIXEL, _DECODER = 32, 2**20
"""Bytes that Pillow takes for a pixel, with the coefficients of all a progressive file's scans, and for itself."""
_MODES = {1: ("L", "1"), 3: ("RGB", "L", "1", "P")}
"""Pillow's modes that become grey or RGB without loss: transparency or 16 bits would be thrown away."""


class NotAnImage(ValueError):
    """A value that is no image of the field; says what is expected."""


def encode(
    field: ImageField, column: Sequence[object] | npt.NDArray[Any], report: Report, most: int = MOST_PROBLEMS
) -> Levels:
    """Turn images into levels.

    Args:
        field: What is expected.
        column: n images: an array (n, H, W, C) uint8 (or (n, H, W), if it is grey), or a sequence of values as `decode`
            takes them.
        report: Told about values that do not fit.
        most: After so many of them nothing more is looked at.

    Returns:
        (n, H, W, C) uint8; 0 where a value did not fit.
    """
    shape = (len(column), *field.shape)
    shapes = (shape, shape[:3]) if field.channels == 1 else (shape,)
    if isinstance(column, np.ndarray) and column.dtype == np.uint8 and column.shape in shapes:
        return column.reshape(shape)
    levels = np.zeros(shape, np.uint8)
    left = most
    for row, value in enumerate(column):
        try:
            levels[row] = decode(field, value)
        except NotAnImage as error:
            report(row, str(error))
            left -= 1
            if not left:
                break
    return levels


def bound(field: ImageField, images: int, size: int) -> int:
    """Most bytes that `encode` takes for a column, which may hold one image alone.

    Args:
        field: What is expected.
        images: n.
        size: Bytes of the largest value, as bytes or as text.
    """
    return images * field.dimensions + 3 * size + _PIXEL * field.height * field.width + _DECODER


def decode(field: ImageField, value: object) -> Levels:
    """One image.

    Args:
        field: What is expected.
        value: Nested sequences or an array of whole numbers from 0 to 255, (H, W, C), or (H, W) where it is grey; or
            a PNG or JPEG file, as bytes or as text in base64, with or without `data:image/…;base64,` before it; or
            H * W * C bytes that are no such file, the levels themselves, row by row.

    Returns:
        (H, W, C) uint8.

    Raises:
        NotAnImage: None of these, of another size, or broken.
    """
    if isinstance(value, str):
        return from_file(field, _from_base64(value))
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(value)
        # A small file may have as many bytes as the image has levels.
        if len(content) != field.dimensions or content.startswith(_PNG) or _is_jpeg(content):
            return from_file(field, content)
        return np.frombuffer(content, np.uint8).reshape(field.shape)
    if isinstance(value, list | tuple | np.ndarray):
        return _numbers(field, value)
    if value is None:
        raise NotAnImage("an image is never missing")
    raise NotAnImage(f"{_expected(field)}, as nested numbers or a PNG or JPEG file in base64")


def png(levels: Levels) -> bytes:
    """The bytes of a PNG file of (H, W, C) or (H, W) levels, C being 1 or 3."""
    from PIL import Image

    content = BytesIO()
    flat = levels[..., 0] if levels.ndim == 3 and levels.shape[-1] == 1 else levels
    Image.fromarray(flat).save(content, "PNG")
    return content.getvalue()


def in_base64(levels: Levels) -> str:
    """The same as text, as a record of JSON may hold it."""
    return base64.b64encode(png(levels)).decode("ascii")


def _expected(field: ImageField) -> str:
    kind = "a grey image" if field.channels == 1 else "an RGB image"
    return f"{kind} {field.width} wide and {field.height} high is expected"


def _numbers(field: ImageField, value: Sequence[object] | npt.NDArray[Any]) -> Levels:
    # Not by numpy: among nested texts it would make room for each as for the longest.
    flat: list[Any] = value.tolist() if isinstance(value, np.ndarray) else list(value)
    if len(flat) != field.height:
        raise _nested_otherwise(field)
    for size in field.shape[1:]:
        # A grey level may stand by itself; an image is never one pixel wide.
        bare = size == 1 and not any(isinstance(each, list | tuple) for each in flat)
        if not bare:
            if not all(isinstance(each, list | tuple) and len(each) == size for each in flat):
                raise _nested_otherwise(field)
            flat = list(chain.from_iterable(flat))
    # By type, because true is a 1 to Python, too.
    if set(map(type, flat)) != {int} or min(flat) < 0 or max(flat) > 255:
        raise NotAnImage("whole numbers from 0 to 255 are expected")
    return np.frombuffer(bytes(flat), np.uint8).reshape(field.shape)


def _nested_otherwise(field: ImageField) -> NotAnImage:
    return NotAnImage(f"{_expected(field)}: nested {field.height} by {field.width} by {field.channels}")


def _from_base64(text: str) -> bytes:
    if text.startswith(_DATA_URI):
        text = text.partition(",")[2]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # binascii's own, and text beyond ASCII
        raise NotAnImage("base64 of a PNG or JPEG file is expected") from error


def from_file(field: ImageField, content: bytes, formats: Sequence[str] = FORMATS) -> Levels:
    """One image from the bytes of a file.

    Its first frame as it is stored: neither EXIF's rotation nor a colour profile is applied.

    Args:
        field: What is expected.
        content: The file's.
        formats: Which it may be of, as Pillow names them.

    Returns:
        (H, W, C) uint8.

    Raises:
        NotAnImage: No such file, of another size, of another kind, or broken.
    """
    with warnings.catch_warnings():
        # Pillow's warnings would quote the file where all else is logged.
        warnings.simplefilter("ignore")
        return _opened(field, content, formats)


def _opened(field: ImageField, content: bytes, formats: Sequence[str]) -> Levels:
    # Here, because workers that serve tables alone have no need of its three megabytes.
    from PIL import Image, UnidentifiedImageError

    if content.startswith(_PNG):
        pixels_alone = _chunks(content)
    else:
        pixels_alone = _segments(content) if formats == FORMATS or content.startswith(_JPEG) else content
    if len(pixels_alone) > _LEAST_FILE + _PIXEL_FILE * field.height * field.width:
        raise NotAnImage(f"{_expected(field)}; this file holds more than the pixels of one")
    try:
        # The size stands in the head; nothing is unpacked before it is known to be right.
        opened = Image.open(BytesIO(pixels_alone), formats=list(formats))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise NotAnImage(f"{_expected(field)}; this is no {_either(formats)} file that can be read") from error
    with opened:
        if opened.size != (field.width, field.height):
            raise NotAnImage(f"{_expected(field)}; this one is {opened.width} by {opened.height}")
        # Of colours Pillow would drop the lower eight bits and say nothing.
        deep = opened.format == "PNG" and pixels_alone[_PNG_BITS] > 8
        if opened.mode not in _MODES[field.channels] or "transparency" in opened.info or deep:
            kind = f"{pixels_alone[_PNG_BITS]} bits" if deep else opened.mode
            raise NotAnImage(f"{_expected(field)}, 8 bits a channel without transparency; this one is {kind}")
        try:
            pixels = opened.convert("L" if field.channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, MemoryError) as error:
            raise NotAnImage(f"{_expected(field)}; this file is broken") from error
    return np.asarray(pixels, np.uint8).reshape(field.shape)


def _either(formats: Sequence[str]) -> str:
    return f"{', '.join(formats[:-1])} or {formats[-1]}"


def _is_jpeg(content: bytes) -> bool:
    return content.startswith(_JPEG) and content.endswith(_JPEG_END)


def _segments(content: bytes) -> bytes:
    """A JPEG file without the segments that are no pixels, up to the first that no JPEG file has.

    Pillow would join those of EXIF one by one: three megabytes of them take it five seconds.

    Raises:
        NotAnImage: It has more segments or scans than an image takes, or another kind of coding.
    """
    kept, start, parts = [content[:2]], 2, 0
    while start + _SEGMENT.size <= len(content):
        parts = _one_more(parts, content)
        mark, kind, length = _SEGMENT.unpack_from(content, start)
        if mark != 0xFF or kind in _ENDS:
            break
        if kind in _OTHER_FRAMES:
            raise NotAnImage("a baseline or progressive JPEG file is expected")
        if kind == _START_OF_SCAN:
            # Nothing between the scans looks like the start of one but that.
            if content.count(bytes((0xFF, _START_OF_SCAN)), start) > _MOST_SCANS:
                raise NotAnImage(f"a JPEG file of at most {_MOST_SCANS} scans is expected")
            kept.append(content[start:])
            break
        if kind == 0xFF:  # filling
            start += 1
        elif kind in _ALONE:
            start += 2
        else:
            if kind not in _TOLD:
                kept.append(content[start : start + 2 + length])
            start += 2 + length
    return b"".join(kept)


def _chunks(content: bytes) -> bytes:
    """A PNG file without the chunks that are no pixels.

    Pillow would unpack texts and profiles with them, which grow a thousandfold: 60 KB take it half a second.

    Raises:
        NotAnImage: It has more chunks than an image takes.
    """
    kept, start, parts = [_PNG], len(_PNG), 0
    while start + _CHUNK.size <= len(content):
        parts = _one_more(parts, content)
        length, kind = _CHUNK.unpack_from(content, start)
        end = start + _CHUNK.size + length + 4
        if kind in _PIXELS:
            kept.append(content[start:end])
        start = end
    return b"".join(kept)


def _one_more(parts: int, content: bytes) -> int:
    if parts >= _MOST_PARTS + len(content) // 256:
        raise NotAnImage("a file is expected that has no more parts than an image takes")
    return parts + 1
