"""What users would pick instead: detectors of scikit-learn, fitted on the same rows."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from bundle.fields import RecordSchema, Tensors

Features = npt.NDArray[np.float64]
Detector = Callable[[Features], npt.NDArray[np.float64]]

NEIGHBOURS = 5
_MOST_ROWS = 50_000  # of which the neighbours are looked for
_VARIANCE = 0.9  # share of it that the principal components keep
_FURTHEST = 1e6


def features(schema: RecordSchema, tensors: Tensors) -> Features:
    """Records as the vectors that such detectors take.

    Args:
        schema: The fields with their statistics.
        tensors: The graph's inputs, B records.

    Returns:
        (B, width) float64: standardised numbers, booleans as 0 and 1, categories one-hot; what is missing is 0.
    """
    columns: list[Features] = []
    for index, number in enumerate(schema.numeric):
        standardised = (tensors["numeric"][:, index] - number.mean) / number.scale
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
        seed: Of the forest, and of the rows that are looked at where there are very many.
    """
    rows = np.random.default_rng(seed).permutation(len(train))[:_MOST_ROWS]
    components = PCA(_VARIANCE, svd_solver="full").fit(train)
    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(rows))).fit(train[rows])
    forest = IsolationForest(random_state=seed).fit(train)

    def beyond_components(values: Features) -> npt.NDArray[np.float64]:
        away = values - components.inverse_transform(components.transform(values))
        distance: npt.NDArray[np.float64] = np.linalg.norm(away, axis=1)
        return distance

    return {
        "norm of the row": lambda values: np.linalg.norm(values, axis=1),
        "PCA": beyond_components,
        f"kNN, k = {NEIGHBOURS}": lambda values: neighbours.kneighbors(values)[0][:, -1],
        "IsolationForest": lambda values: -forest.score_samples(values),
    }
