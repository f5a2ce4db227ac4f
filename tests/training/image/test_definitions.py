"""What the pages say of the scores of images, written down once more in float64 NumPy from the network's outputs."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema
from training import modality
from training.config import NetworkConfig
from training.image.batch import Images
from training.image.components import ImageComponents
from training.image.statistics import code_length, roughness
from training.image.vae import ImageVAE
from training.network.inference import infer
from training.network.noise import noise_table

Array = npt.NDArray[np.float64]
SIZE = 8


@dataclasses.dataclass(frozen=True)
class Seen:
    """What some images leave behind.

    Args:
        path: (n, 7) on their way through the network.
        roughness: (n, 6) of their own.
        cost: (n,) bits that they cost the model less the code length.
    """

    path: Array
    roughness: Array
    cost: Array


def images(rows: int, seed: int) -> Images:
    """Blots of any size on grounds of any level, with more or less noise."""
    random = np.random.default_rng(seed)
    levels = random.integers(0, 120, (rows, 1, 1, 1)) * np.ones((1, SIZE, SIZE, 1))
    for each, width in zip(levels, random.integers(1, SIZE, rows), strict=True):
        each[:width, :width] += random.integers(40, 110)
    levels += random.uniform(0, 20, (rows, 1, 1, 1)) * random.normal(size=levels.shape)
    return Images(torch.from_numpy(levels.clip(0, 255).astype(np.uint8)))


@torch.no_grad()
def see(vae: ImageVAE, batch: Images, noise: torch.Tensor) -> Seen:
    inference = infer(vae, batch, noise)
    parameters = inference.reconstruction
    code = code_length(batch.levels)
    sizes = [
        torch.linalg.vector_norm(each.flatten(1), dim=1)
        for each in ((batch.levels - parameters.location) / 127.5, inference.posterior.mean, inference.deviation)
    ]
    spread = parameters.log_scale.expand_as(parameters.location).mean(dim=(1, 2, 3))
    path = torch.stack([inference.expected, inference.kl, spread, *sizes, code], dim=1)
    cost = (inference.kl - inference.expected) / math.log(2) - code
    return Seen(path.double().numpy(), roughness(batch.levels).double().numpy(), cost.double().numpy())


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Scores of fresh images, and what these and those left behind that the scores were fitted on."""

    scores: dict[str, Array]
    held_out: Seen
    fresh: Seen


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    torch.manual_seed(0)
    schema = ImageSchema(fields=(ImageField(name="scan", height=SIZE, width=SIZE, channels=1),))
    vae = modality.of(schema).vae(NetworkConfig(kind="residual", channels=(4,), latent_size=3)).eval()
    assert isinstance(vae, ImageVAE)
    train, held_out, fresh = (images(rows, seed) for seed, rows in enumerate((150, 201, 40)))
    noise = torch.from_numpy(noise_table(3, 0)[:4])
    components = ImageComponents(vae, train, held_out, noise, 0)
    with torch.no_grad():
        found = components(vae, fresh, infer(vae, fresh, noise))
    scores = {name: values.double().numpy() for name, values in zip(components.names, found, strict=True)}
    return Fitted(scores, *(see(vae, each, noise) for each in (held_out, fresh)))


def deviations(usual: Array, values: Array, least: float | Array) -> Array:
    """Of scores from the median of usual ones, in robust deviations."""
    median = np.median(usual, axis=0)
    deviation = 1.4826 * np.median(np.abs(usual - median), axis=0)
    found: Array = (values - median) / np.maximum(np.maximum(deviation, least), 0.01 * np.abs(median))
    return found


def distance(usual: Array, values: Array, least: Array) -> Array:
    """T of statistics."""
    scaled, others = (np.arcsinh(deviations(usual, each, least)) for each in (usual, values))
    inverse = np.linalg.inv(0.9 * np.cov(scaled.T) + 0.1 * np.eye(scaled.shape[1]))
    return np.array([mahalanobis(each, scaled.mean(axis=0), inverse) for each in others])


LEAST_PATH, LEAST_ROUGHNESS = np.array([1.0, 0.1, 0.01, 0.01, 0.01, 0.01, 1.0]), np.full(6, 0.01)


def test_typicality_is_the_distance_of_seven_statistics_the_code_length_among_them(fitted: Fitted) -> None:
    expected = distance(fitted.held_out.path, fitted.fresh.path, LEAST_PATH)
    np.testing.assert_allclose(fitted.scores["typicality"], expected, rtol=5e-3)
    without = distance(fitted.held_out.path[:, :6], fitted.fresh.path[:, :6], LEAST_PATH[:6])
    assert np.abs(without - expected).max() > 0.1


def test_texture_is_the_distance_of_roughness(fitted: Fitted) -> None:
    expected = distance(fitted.held_out.roughness, fitted.fresh.roughness, LEAST_ROUGHNESS)
    np.testing.assert_allclose(fitted.scores["texture"], expected, rtol=5e-3)


def test_combined_is_the_mean_of_three_in_robust_deviations(fitted: Fitted) -> None:
    usual, fresh = (
        (
            distance(fitted.held_out.path, each.path, LEAST_PATH),
            distance(fitted.held_out.roughness, each.roughness, LEAST_ROUGHNESS),
            each.cost,
        )
        for each in (fitted.held_out, fitted.fresh)
    )
    parts = [deviations(*each) for each in zip(usual, fresh, (0.1, 0.1, 1.0), strict=True)]
    np.testing.assert_allclose(fitted.scores["combined"], np.mean(parts, axis=0), rtol=5e-3, atol=5e-3)
    np.testing.assert_allclose(fitted.scores["complexity"], fitted.fresh.cost, rtol=1e-5, atol=1e-2)
