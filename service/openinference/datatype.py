"""The protocol's tensor datatypes, and what each is in numpy."""

from typing import Any, Literal

import numpy as np

BYTES = "BYTES"
BOOL = "BOOL"

Group = Literal["text", "boolean", "integer", "float"]

# BOOL travels as bytes 0 and 1; FP16 and the other widths cost nothing to take. BF16 has no dtype in numpy.
DTYPES: dict[str, np.dtype[Any]] = {
    BOOL: np.dtype("u1"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Those of fixed size, as they travel: little-endian, row-major, without padding."""

NAMES = (*DTYPES, BYTES)


def group(datatype: str) -> Group:
    """What the elements of a datatype are.

    >>> [group(datatype) for datatype in ("BYTES", "BOOL", "UINT8", "FP64")]
    ['text', 'boolean', 'integer', 'float']
    """
    if datatype == BYTES:
        return "text"
    if datatype == BOOL:
        return "boolean"
    return "float" if DTYPES[datatype].kind == "f" else "integer"
