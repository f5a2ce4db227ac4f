"""What users would pick instead: detectors of scikit-learn, fitted on the same rows."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bundle.record.fields import ImageField, Tensors
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema

Features = npt.NDArray[np.float64] | npt.NDArray[np.float32]
Detector = Callable[[Features], npt.NDArray[np.float64]]

NEIGHBOURS = 5
_MOST_ROWS = 50_000
"""Rows of which the neighbours are looked for."""
_MOST_NUMBERS = 2**25
"""Numbers in these rows: 10 922 images of 32 x 32 x 3."""
_WIDE = 256
"""Columns from which the components are those of the covariance matrix: it takes neither a copy of the rows nor much
longer for many of them, and what single precision loses there is far below the components that are kept."""
_MOST_LEVELS = 4096
"""Numbers of an image; a larger one is shrunk, since the components of ten thousand columns take an hour."""
_VARIANCE = 0.9  # share of it that the principal components keep
_FURTHEST = 1e6


def features(schema: RecordSchema, tensors: Tensors) -> Features:
    """Records as the vectors that such detectors take.

    Args:
        schema: The fields with their statistics.
        tensors: The graph's inputs, B records.

    Returns:
        (B, width) float64: numbers standardised as the network has them, logarithms included, booleans as 0 and 1,
        categories one-hot; what is missing is 0. Of images float32, H W C levels over 255, each the mean of a square
        where that would be too many.
    """
    match schema:
        case ImageSchema():
            return _pixels(schema.field, tensors["image"])
        case TableSchema():
            return _columns(schema, tensors)


def _columns(schema: TableSchema, tensors: Tensors) -> npt.NDArray[np.float64]:
    columns: list[npt.NDArray[np.float64]] = []
    for index, number in enumerate(schema.numeric):
        standardised = number.standardise(tensors["numeric"][:, index])
        columns.append(np.clip(np.nan_to_num(standardised, nan=0.0), -_FURTHEST, _FURTHEST)[:, None])
    for index, _ in enumerate(schema.boolean):
        columns.append((tensors["boolean"][:, index] == 1).astype(np.float64)[:, None])
    for index, category in enumerate(schema.categorical):
        codes = tensors["categorical"][:, index]
        columns.append((codes[:, None] == np.arange(1, category.size)).astype(np.float64))
    return np.concatenate(columns, axis=1)


def fit(train: Features, seed: int) -> dict[str, Detector]:
    """Detectors by name, each from (B, width) features to (B,) scores, higher = stranger.

    Args:
        train: (n, width) of normal rows.
        seed: Of the forest, and of the rows whose neighbours are looked for where there are very many, or wide ones.
    """
    # Here, because scikit-learn takes two seconds to load, and a call that is wrong should hear of it at once.
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors

    most = min(_MOST_ROWS, _MOST_NUMBERS // train.shape[1])
    rows = np.random.default_rng(seed).permutation(len(train))[:most]
    components = PCA(_VARIANCE, svd_solver="full" if train.shape[1] < _WIDE else "covariance_eigh").fit(train)
    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(rows))).fit(train[rows])
    forest = IsolationForest(random_state=seed).fit(train)

    def norm(values: Features) -> npt.NDArray[np.float64]:
        norms: npt.NDArray[np.float64] = np.linalg.norm(values, axis=1).astype(np.float64)
        return norms

    def beyond_components(values: Features) -> npt.NDArray[np.float64]:
        return norm(values - components.inverse_transform(components.transform(values)))

    return {
        "norm of the row": norm,
        "PCA": beyond_components,
        f"kNN, k = {NEIGHBOURS}": lambda values: neighbours.kneighbors(values)[0][:, -1],
        "IsolationForest": lambda values: -forest.score_samples(values),
    }


def _pixels(field: ImageField, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    side = math.ceil(math.sqrt(field.dimensions / _MOST_LEVELS))
    height, width = field.height // side, field.width // side
    squares = images[:, : height * side, : width * side].reshape(-1, height, side, width, side, field.channels)
    shares = squares.mean(axis=(2, 4), dtype=np.float32) if side > 1 else squares.astype(np.float32)
    shares /= 255.0
    return shares.reshape(len(images), -1)
