"""Images as the bodies of requests, in every form that a client may send them in."""

import base64
import csv
import io
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from PIL import Image

from bundle.record.images import in_base64, png
from tests.service.score.test_formats import ARROW, CSV, JSON, NDJSON, stream

Levels = npt.NDArray[np.uint8]
Body = tuple[str, bytes]
"""Media type and content."""


def file(image: Image.Image, kind: str = "PNG") -> bytes:
    """An image as a file."""
    content = BytesIO()
    image.save(content, kind)
    return content.getvalue()


def text(content: bytes) -> str:
    """A file as a record of JSON may hold it."""
    return base64.b64encode(content).decode()


def in_json(values: list[Any]) -> bytes:
    return orjson.dumps({"records": [{"image": value} for value in values]})


def in_csv(values: list[str]) -> bytes:
    target = io.StringIO(newline="")
    csv.writer(target).writerows([["image"], *([value] for value in values)])
    return target.getvalue().encode()


def in_arrow(column: Any) -> bytes:
    """A column as a stream of batches of three rows."""
    return stream(pa.table({"image": column}), 3)


def lists(images: Levels) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), images[0].size)


def tensors(images: Levels) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(images)


FORMS: dict[str, Callable[[Levels], Body]] = {
    "JSON numbers": lambda images: (JSON, in_json(images.tolist())),
    "JSON numbers without channels": lambda images: (JSON, in_json(images[..., 0].tolist())),
    "JSON records in field order": lambda images: (
        JSON,
        orjson.dumps({"records": [[image] for image in images.tolist()]}),
    ),
    "JSON files": lambda images: (JSON, in_json([in_base64(image) for image in images])),
    "JSON data URIs": lambda images: (JSON, in_json([f"data:image/png;base64,{in_base64(each)}" for each in images])),
    "NDJSON files and numbers": lambda images: (
        NDJSON,
        b"\n".join(
            orjson.dumps({"image": in_base64(image) if row % 2 else image.tolist()}) for row, image in enumerate(images)
        ),
    ),
    "CSV files": lambda images: (CSV, in_csv([in_base64(image) for image in images])),
    "Arrow files": lambda images: (ARROW, in_arrow(pa.array(map(png, images), pa.binary()))),
    "Arrow files in views": lambda images: (ARROW, in_arrow(pa.array(map(png, images), pa.binary_view()))),
    "Arrow levels": lambda images: (ARROW, in_arrow(pa.array([each.tobytes() for each in images], pa.large_binary()))),
    "Arrow text": lambda images: (ARROW, in_arrow(pa.array(map(in_base64, images), pa.large_string()))),
    "Arrow tensors": lambda images: (ARROW, in_arrow(tensors(images))),
    "Arrow tensors without channels": lambda images: (ARROW, in_arrow(tensors(images[..., 0]))),
    "Arrow lists": lambda images: (ARROW, in_arrow(lists(images))),
}
"""Ways to send grey images."""
