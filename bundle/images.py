"""From what a client sends as an image to levels: nested numbers, or a PNG or JPEG file, as bytes or in base64."""

import base64
import binascii
import struct
import warnings
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from bundle.fields import ImageField

Levels = npt.NDArray[np.uint8]
Report = Callable[[int, str], None]
"""Called with the row and the detail of a value that does not fit."""

FORMATS = ("PNG", "JPEG")
_DATA_URI = "data:image/"
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")  # its length and its kind; a checksum follows what it holds
_PIXELS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_MODES = {1: ("L", "1"), 3: ("RGB", "L", "1", "P")}
"""Pillow's modes that become grey or RGB without loss: transparency or 16 bits would be thrown away."""


class NotAnImage(ValueError):
    """A value that is no image of the field; says what is expected."""


def encode(field: ImageField, column: Sequence[object] | npt.NDArray[Any], report: Report) -> Levels:
    """Turn images into levels.

    Args:
        field: What is expected.
        column: n images: an array (n, H, W, C) uint8 (or (n, H, W), if it is grey), or a sequence of values as `decode`
            takes them.
        report: Told about values that do not fit.

    Returns:
        (n, H, W, C) uint8; 0 where a value did not fit.
    """
    shape = (len(column), *field.shape)
    shapes = (shape, shape[:3]) if field.channels == 1 else (shape,)
    if isinstance(column, np.ndarray) and column.dtype == np.uint8 and column.shape in shapes:
        return column.reshape(shape)
    levels = np.zeros(shape, np.uint8)
    for row, value in enumerate(column):
        try:
            levels[row] = decode(field, value)
        except NotAnImage as error:
            report(row, str(error))
    return levels


def decode(field: ImageField, value: object) -> Levels:
    """One image.

    Args:
        field: What is expected.
        value: Nested sequences or an array of whole numbers from 0 to 255, (H, W, C), or (H, W) where it is grey; or
            a PNG or JPEG file, as bytes or as text in base64, with or without `data:image/…;base64,` before it; or
            H * W * C bytes, the levels themselves, row by row.

    Returns:
        (H, W, C) uint8.

    Raises:
        NotAnImage: None of these, of another size, or broken.
    """
    if isinstance(value, str):
        return _file(field, _from_base64(value))
    if isinstance(value, bytes | bytearray | memoryview):
        content = bytes(value)
        if len(content) == np.prod(field.shape):
            return np.frombuffer(content, np.uint8).reshape(field.shape)
        return _file(field, content)
    if isinstance(value, list | tuple | np.ndarray):
        return _numbers(field, value)
    raise NotAnImage(f"{_expected(field)}, as nested numbers or a PNG or JPEG file in base64")


def png(levels: Levels) -> bytes:
    """The bytes of a PNG file of (H, W, C) or (H, W) levels, C being 1 or 3."""
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
    try:
        numbers = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise NotAnImage(f"{_expected(field)}: rows of one length") from error
    if numbers.shape != field.shape and not (field.channels == 1 and numbers.shape == field.shape[:2]):
        raise NotAnImage(f"{_expected(field)}: nested {field.height} by {field.width} by {field.channels}")
    if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > 255 or _holds_flag(value, numbers.ndim):
        raise NotAnImage("whole numbers from 0 to 255 are expected")
    return numbers.astype(np.uint8).reshape(field.shape)


def _holds_flag(value: Sequence[object] | npt.NDArray[Any], depth: int) -> bool:
    """Whether true or false is among nested numbers, which numpy takes for 1 and 0."""
    if isinstance(value, np.ndarray):
        return False
    flat: Iterable[Any] = value
    for _ in range(depth - 1):
        flat = chain.from_iterable(flat)
    return bool in set(map(type, flat))


def _from_base64(text: str) -> bytes:
    if text.startswith(_DATA_URI):
        text = text.partition(",")[2]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # binascii's own, and text beyond ASCII
        raise NotAnImage("base64 of a PNG or JPEG file is expected") from error


def _file(field: ImageField, content: bytes) -> Levels:
    try:
        # The size stands in the head; nothing is unpacked before it is known to be right.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(BytesIO(_pixels_alone(content)), formats=FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise NotAnImage(f"{_expected(field)}; this is no PNG or JPEG file that can be read") from error
    with opened:
        if opened.size != (field.width, field.height):
            raise NotAnImage(f"{_expected(field)}; this one is {opened.width} by {opened.height}")
        if opened.mode not in _MODES[field.channels] or "transparency" in opened.info:
            raise NotAnImage(f"{_expected(field)}, 8 bits a channel without transparency; this one is {opened.mode}")
        try:
            pixels = opened.convert("L" if field.channels == 1 else "RGB")
        except (OSError, ValueError, SyntaxError, MemoryError) as error:
            raise NotAnImage(f"{_expected(field)}; this file is broken") from error
    return np.asarray(pixels, np.uint8).reshape(field.shape)


def _pixels_alone(content: bytes) -> bytes:
    """A file, if it is a PNG without the chunks that are no pixels.

    Pillow would unpack texts and profiles with them, which grow a thousandfold: 60 KB take it half a second.
    """
    if not content.startswith(_PNG):
        return content
    kept, start = [_PNG], len(_PNG)
    while start + _CHUNK.size <= len(content):
        length, kind = _CHUNK.unpack_from(content, start)
        end = start + _CHUNK.size + length + 4
        if kind in _PIXELS:
            kept.append(content[start:end])
        start = end
    return b"".join(kept)
