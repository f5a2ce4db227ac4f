"""Images from files: an npz of an array, or a folder of image files, as a column of an Arrow table."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from bundle import wording
from bundle.record import image_folder
from bundle.record.fields import ImageField
from bundle.record.image_folder import FILE
from bundle.record.images import FILE_FORMATS, Levels, NotAnImage, from_file
from training.errors import DataInvalid

COLUMN = "image"
LABEL = "label"
_CHANNELS = {"1": 1, "L": 1, "LA": 1, "P": 3, "RGB": 3, "RGBA": 3, "CMYK": 3}


def column(images: Levels) -> pa.ChunkedArray:
    """(n, H, W, C) uint8 as a column of tensors of one shape."""
    return pa.chunked_array([pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images))])


def levels(images: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> Levels:
    """The images at some rows of such a column.

    Args:
        images: The column.
        rows: (n,) positions.

    Returns:
        (n, H, W, C) uint8.

    Raises:
        DataInvalid: An image is missing, named by row (the first is 1).
    """
    if images.null_count:
        row = int(np.flatnonzero(np.asarray(images.is_null()))[0])
        raise DataInvalid(f"row {row + 1}: an image is never missing; remove the row")
    whole = images.chunk(0) if images.num_chunks == 1 else images.combine_chunks()
    # Arrow's own memory may not be written, of which torch warns; what is picked out of it is a copy.
    found: Levels = whole.to_numpy_ndarray()[rows]
    return found


def is_column(kind: pa.DataType) -> bool:
    """Whether a column's type is that of images: tensors (H, W, C) of uint8."""
    return isinstance(kind, pa.FixedShapeTensorType) and kind.value_type == pa.uint8() and len(kind.shape) == 3


def from_arrays(path: Path, images: npt.NDArray[np.generic], label: npt.NDArray[np.generic] | None) -> pa.Table:
    """A table of the images of an npz file, and their label `y`.

    Args:
        path: The file, for messages.
        images: (n, H, W) or (n, H, W, C), C being 1 or 3.
        label: (n,), or None.

    Raises:
        DataInvalid: Another type or shape.
    """
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise DataInvalid(
            f"{path}: X is {images.dtype} of shape {images.shape}; images are uint8 (n, H, W) or (n, H, W, C), C 1 or 3"
        )
    refuse_narrow(str(path), *images.shape[1:3])
    columns = {COLUMN: column(images.astype(np.uint8, copy=False))}
    if label is not None:
        columns["y"] = label
    return pa.table(columns)


def refuse_narrow(where: str, height: int, width: int) -> None:
    """Refuse images that have no neighbouring pixels.

    Raises:
        DataInvalid: They are one pixel high or wide.
    """
    if min(height, width) < 2:
        raise DataInvalid(f"{where}: images are {width} wide and {height} high; at least 2 pixels a side are expected")


def read_folder(folder: Path) -> tuple[pa.Table, str, tuple[str, ...]]:
    """Every image file below a folder, in the order of their names; a sub-folder's name is its images' label.

    Args:
        folder: Holds the images, or a folder of them for each label.

    Returns:
        The table (`image`, `file`, and `label` where there are sub-folders), a digest of all names and bytes, and
        which files were passed over, in words.

    Raises:
        DataInvalid: No image, images of several sizes, or a file that cannot be read.
    """
    try:
        found = image_folder.files(folder)
    except ValueError as error:
        raise DataInvalid(str(error)) from error
    except OSError as error:
        raise DataInvalid(f"{error.filename}: {wording.of_system(error)}") from error
    names, files = list(found), list(found.values())
    field = _field(files)
    images = np.empty((len(files), *field.shape), np.uint8)
    digest = hashlib.sha256()
    for place, (path, name) in enumerate(zip(files, names, strict=True)):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
        try:
            images[place] = from_file(field, content, FILE_FORMATS)
        except NotAnImage as error:
            raise DataInvalid(f"{path}: {error}") from error
    columns: dict[str, object] = {COLUMN: column(images), FILE: names}
    labels = [name.rpartition("/")[0] for name in names]
    if any(labels):
        columns[LABEL] = [label or None for label in labels]
    others = image_folder.passed_over(folder)
    return pa.table(columns), digest.hexdigest(), () if others is None else (others,)


def _field(files: list[Path]) -> ImageField:
    """The size that all images have; RGB where any is."""
    sizes: dict[tuple[int, int], Path] = {}
    channels = 1
    for path in files:
        try:
            with Image.open(path, formats=FILE_FORMATS) as opened:
                sizes.setdefault(opened.size, path)
                channels = max(channels, _CHANNELS.get(opened.mode, 1))
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
            raise DataInvalid(f"{path}: this is no image file that can be read") from error
    if len(sizes) > 1:
        (one, first), (other, second), *_ = sizes.items()
        raise DataInvalid(
            f"{first} is {one[0]} wide and {one[1]} high, {second} {other[0]} and {other[1]}: images of one size are "
            "expected; scale or crop them first"
        )
    ((width, height),) = sizes
    refuse_narrow(str(files[0]), height, width)
    return ImageField(name=COLUMN, height=height, width=width, channels=3 if channels == 3 else 1)
