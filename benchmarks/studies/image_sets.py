"""Public sets of images, as they come and as studies change them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.uint8]

CONTRAST = 0.35
_SIDE = 32
"""Of coloured images, in pixels."""


@dataclass(frozen=True)
class ImageSet:
    """Images (n, H, W, C) uint8 and their classes (n,) int64, in two parts."""

    train: Levels
    train_labels: npt.NDArray[np.int64]
    test: Levels
    test_labels: npt.NDArray[np.int64]


def read(folder: Path, name: str) -> ImageSet:
    """The set of that name, `x_train`, `y_train`, `x_test`, `y_test` in an npz file.

    Args:
        folder: Holds the file.
        name: Of the file, without `.npz`.
    """
    with np.load(folder / f"{name}.npz", allow_pickle=False) as archive:
        labels = {part: archive[f"y_{part}"].ravel().astype(np.int64) for part in ("train", "test")}
        return ImageSet(
            _with_channels(archive["x_train"]), labels["train"], _with_channels(archive["x_test"]), labels["test"]
        )


def foreign(path: Path) -> Levels:
    """Coloured images (n, 32, 32, 3): the array `x_test` of a file, or its only one of four dimensions.

    Raises:
        ValueError: The file has no such array, or several.
    """
    with np.load(path, allow_pickle=False) as archive:
        names = ["x_test"] if "x_test" in archive.files else [n for n in archive.files if archive[n].ndim == 4]
        if len(names) != 1 or archive[names[0]].shape[1:] != (_SIDE, _SIDE, 3):
            shapes = ", ".join(f"{name} {archive[name].shape}" for name in archive.files)
            raise ValueError(f"{path}: there should be one array of images (n, {_SIDE}, {_SIDE}, 3), not {shapes}")
        return _with_channels(archive[names[0]])


def coloured(digits: Levels, seed: int) -> Levels:
    """Digits (n, 28, 28, 1) padded to 32 by 32, the ink in one random colour and the paper in another.

    A level between black and white becomes the blend of both colours in that proportion.
    """
    margin = (_SIDE - digits.shape[1]) // 2
    shares = np.pad(digits, ((0, 0), (margin, margin), (margin, margin), (0, 0))).astype(np.float64) / 255.0
    paper, ink = np.random.default_rng(seed).uniform(0.0, 255.0, (2, len(digits), 1, 1, 3))
    blend: Levels = np.round(paper * (1.0 - shares) + ink * shares).astype(np.uint8)
    return blend


def low_contrast(images: Levels) -> Levels:
    """Every level moved towards the middle: 127 + 0.35 (x - 127)."""
    return np.round(127.0 + CONTRAST * (images.astype(np.float64) - 127.0)).astype(np.uint8)


def _with_channels(images: npt.NDArray[np.generic]) -> Levels:
    found = images if images.ndim == 4 else images[..., np.newaxis]
    if found.dtype != np.uint8:
        raise ValueError(f"images of {found.dtype} are no 8-bit images")
    return found.astype(np.uint8, copy=False)
