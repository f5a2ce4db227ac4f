"""Images that try a model and its graphs: extreme ones, and those of golden records."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from bundle.record import images
from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema
from training.data import schema
from training.data.read import Data, Rows
from training.image.batch import ImagePreprocess
from training.network.batch import Record

_MOST = 100
_SIDE = 8  # pixels, of images that are compared
_ROWS = 1024  # in one pass


def extreme_images(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """(4, H, W, C) uint8: black, white, a chessboard of both, and noise.

    Args:
        shape: H, W, C.
    """
    height, width, _ = shape
    squares = (np.add.outer(np.arange(height), np.arange(width)) % 2)[..., np.newaxis]
    noise = np.random.default_rng(0).integers(0, 256, shape)
    return np.stack([np.broadcast_to(each, shape) for each in (0, 255, 255 * squares, noise)]).astype(np.uint8)


def extremes(record: Record) -> Record:
    """Up to 100 images, each of which has hundreds of pixels that could differ.

    Held-out ones, then black, white, a chessboard of both, noise, and the first one inverted.
    """
    given = record["image"]
    strangest = extreme_images(given.shape[1:])
    inverted = 255 - given[:1].astype(np.uint8)
    return {"image": np.concatenate([given[: _MOST - len(strangest) - 1], strangest, inverted])}


def raw(record: ImageSchema, data: Data, row: int) -> dict[str, Any]:
    """An image as a client would send it: a PNG file in base64."""
    (image,) = schema.tensors(record, data, np.array([row]))["image"]
    return {record.field.name: images.in_base64(image)}


def contrived(field: ImageField) -> list[dict[str, Any] | list[Any]]:
    """The extreme images, as nested numbers."""
    return [[image.tolist()] for image in extreme_images(field.shape)]


def places(record: ImageSchema, data: Data, rows: Rows) -> Tensor:
    """(n, C * 64): images at eight by eight pixels."""
    shrunk = [_shrunk(record, data, some) for some in np.array_split(rows, -(-len(rows) // _ROWS))]
    return torch.cat(shrunk)


def _shrunk(record: ImageSchema, data: Data, rows: Rows) -> Tensor:
    preprocess = ImagePreprocess(record.field)
    tensors = schema.tensors(record, data, rows)
    images = preprocess(preprocess.standardise({kind: torch.from_numpy(each) for kind, each in tensors.items()}))
    return functional.adaptive_avg_pool2d(images, _SIDE).flatten(1)
