"""NumPy's npy format, read without belief: the shape is known before, and nothing is allocated by what it claims."""

import math
import re

import numpy as np
import numpy.typing as npt

_TYPE = np.dtype("<f4")
# NumPy itself evaluates a header as an expression of Python, which takes any amount of memory and raises what it likes.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([^']{1,20})', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9, ]{0,99})\), \} *\n",
    re.DOTALL,
)
_BEFORE_LENGTH = 10


def size(shape: tuple[int, ...]) -> int:
    """Most bytes that a file of so many float32 may have: a header takes under 1 KiB."""
    return 1024 + _bytes(shape)


def read(content: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An array of float32.

    Args:
        content: The bytes of the file.
        shape: What it has to be.

    Returns:
        The array, of that shape.

    Raises:
        ValueError: It is no such file, or of another shape or type; or it does not end where the array does.
    """
    header = _HEADER.match(content)
    if header is None or int.from_bytes(header[1], "little") != header.end() - _BEFORE_LENGTH:
        raise ValueError("it is no array as NumPy writes one (npy, version 1.0)")
    kind, by_columns = header[2].decode("ascii", "replace"), header[3] == b"True"
    found = tuple(int(each) for each in header[4].split(b",") if each.strip())
    if kind != _TYPE.str or found != shape:
        raise ValueError(f"it is an array of {kind} {found}; {_TYPE.str} {shape} is expected")
    values = content[header.end() :]
    if len(values) != _bytes(shape):
        raise ValueError(f"it holds {len(values)} bytes of an array {shape}")
    return np.array(np.frombuffer(values, _TYPE).reshape(shape, order="F" if by_columns else "C"), np.float32)


def _bytes(shape: tuple[int, ...]) -> int:
    return _TYPE.itemsize * math.prod(shape)
