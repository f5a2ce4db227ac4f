"""The baselines' features, and that they find what is plainly strange in few rows and in wide ones."""

import numpy as np
import numpy.typing as npt
import pytest

from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema
from tests.conftest import simulate_images
from training.evaluation import baselines
from training.evaluation.measures import detection


def schema(height: int, width: int, channels: int = 1) -> ImageSchema:
    return ImageSchema(fields=(ImageField(name="scan", height=height, width=width, channels=channels),))


def test_the_features_of_an_image_are_its_levels() -> None:
    images = simulate_images(3, seed=1)
    found = baselines.features(schema(8, 8), {"image": images})
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (images.reshape(3, 64) / np.float32(255)).astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "side"), [((64, 64, 1), 1), ((32, 32, 3), 1), ((66, 64, 1), 2), ((65, 130, 3), 3), ((200, 300, 1), 4)]
)
def test_a_large_image_is_shrunk_to_means_of_squares(shape: tuple[int, int, int], side: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.uint8)
    found = baselines.features(schema(*shape), {"image": images})
    height, width, channels = shape[0] // side, shape[1] // side, shape[2]
    assert found.shape == (2, height * width * channels)
    assert found.shape[1] <= 4096
    shrunk = found.reshape(2, height, width, channels)
    np.testing.assert_allclose(shrunk[1, 0, 1], images[1, :side, side : 2 * side].mean(axis=(0, 1)) / 255, rtol=1e-5)


@pytest.mark.parametrize(("width", "dtype"), [(20, np.float64), (400, np.float32), (400, np.float64)])
def test_what_is_strange_is_found_whatever_the_width(width: int, dtype: type[np.floating]) -> None:
    random = np.random.default_rng(0)
    plane = random.normal(size=(3, width))

    def rows(count: int) -> npt.NDArray[np.floating]:
        near: npt.NDArray[np.float64] = random.normal(size=(count, 3)) @ plane
        return (near + 0.1 * random.normal(size=(count, width))).astype(dtype)

    detectors = baselines.fit(rows(300), seed=0)
    normal = rows(50)
    off: npt.NDArray[np.floating] = (rows(50) + random.normal(size=(50, width))).astype(dtype)
    for name in ("PCA", "kNN, k = 5"):
        usual, strange = detectors[name](normal), detectors[name](off)
        assert usual.dtype == strange.dtype == np.float64
        assert detection(usual, strange)["auroc"] > 0.9, name
    for name in ("norm of the row", "IsolationForest"):
        assert np.isfinite(detectors[name](off)).all()


def test_the_neighbours_of_wide_rows_are_looked_for_among_fewer_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    train = baselines.features(schema(8, 8), {"image": simulate_images(200, seed=1)})
    value = baselines.features(schema(8, 8), {"image": simulate_images(1, seed=2)})
    distances = np.sort(np.linalg.norm(train - value, axis=1))
    assert baselines.fit(train, seed=0)["kNN, k = 5"](value)[0] == pytest.approx(distances[4], rel=1e-5)
    monkeypatch.setattr(baselines, "_MOST_NUMBERS", 64 * 5)
    (furthest,) = baselines.fit(train, seed=0)["kNN, k = 5"](value)
    assert np.isclose(distances, furthest, rtol=1e-5).any()
    assert furthest > distances[20], "of five rows at random, not the nearest of all"
