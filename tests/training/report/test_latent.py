"""The latent plane is that of the principal components, and one or two dimensions are left as they are."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from training.report.latent import plane


def means(rows: int, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    random = np.random.default_rng(size)
    return (random.normal(size=(rows, size)) * np.linspace(2.0, 0.01, size)).astype(np.float32)


def test_it_is_the_plane_of_scikit_learn() -> None:
    normal, anomalies = means(200, 6), means(9, 6) + 3
    found = plane(normal, anomalies)
    reference = PCA(2).fit(normal.astype(np.float64))
    for mine, theirs in ((found.normal, normal), (found.anomalies, anomalies)):
        np.testing.assert_allclose(np.abs(mine), np.abs(reference.transform(theirs.astype(np.float64))), atol=1e-5)
    assert f"{reference.explained_variance_ratio_[0]:.0%}" in found.axes[0]
    assert found.active == (normal.astype(np.float64).var(axis=0) > 0.01).sum() < 6


@pytest.mark.parametrize("size", [1, 2])
def test_few_dimensions_are_left_as_they_are(size: int) -> None:
    found = plane(means(20, size), means(0, size))
    np.testing.assert_array_equal(found.normal, means(20, size).astype(np.float64))
    assert found.anomalies.shape == (0, size)
    assert len(found.axes) == size


def test_records_that_are_all_alike_are_one_point() -> None:
    found = plane(np.ones((5, 4), np.float32), np.ones((1, 4), np.float32))
    assert np.isfinite(found.normal).all()
    assert found.active == 0
