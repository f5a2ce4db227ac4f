"""What the pages say of the scores of tables, written down once more in float64 NumPy from the network's outputs."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import special
from scipy.spatial.distance import cdist, mahalanobis

from tests.training.export.test_parity import MIXED, build, ordinary
from training.network.inference import infer
from training.network.noise import noise_table
from training.table.batch import Standardised
from training.table.components import Components
from training.table.vae import TableVAE

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the network makes of some records, (n, …) each."""

    expected: Array
    kl: Array
    mean: Array
    deviation: Array
    values: Array
    residual: Array
    log_variance: Array
    others: Array
    """Residuals of flags and categories, and what the network sees of them."""
    missed: Array
    """Residuals of all fields."""

    @property
    def absolute(self) -> Array:
        return np.hstack([self.mean, self.residual, np.arcsinh(self.values), self.others])

    @property
    def relative(self) -> Array:
        expected = np.arcsinh(self.residual * np.exp(-0.5 * self.log_variance))
        return np.hstack([self.mean, expected, 3 * np.tanh(self.values / 3), self.others])

    @property
    def statistics(self) -> Array:
        sizes = [np.linalg.norm(each, axis=1) for each in (self.missed, self.mean, self.deviation)]
        return np.stack([self.expected, self.kl, self.log_variance.sum(axis=1), *sizes], axis=1)


@torch.no_grad()
def see(vae: TableVAE, batch: Standardised, noise: torch.Tensor) -> Seen:
    inference = infer(vae, batch, noise)
    parameters = [part.double().numpy() for part in vae.likelihood.spread(vae.decode(inference.posterior.mean))]
    means, log_variance, flags, categories = parameters
    numbers = (batch.numeric.double().numpy() - means) * batch.numeric_present.numpy()
    booleans = (batch.boolean.double().numpy() - special.expit(flags)) * batch.boolean_present.numpy()
    slots, start = [], 0
    for column, field in enumerate(MIXED.categorical):
        odds = special.softmax(categories[:, start : start + field.size], axis=1)
        taken = np.eye(field.size)[batch.categorical[:, column].numpy()]
        slots.append((taken - odds) * batch.categorical_present[:, column : column + 1].numpy())
        start += field.size
    others = np.hstack([booleans, *slots])
    inputs = vae.preprocess(batch)[:, numbers.shape[1] :].double().numpy()
    return Seen(
        expected=inference.expected.double().numpy(),
        kl=inference.kl.double().numpy(),
        mean=inference.posterior.mean.double().numpy(),
        deviation=inference.deviation.double().numpy(),
        values=batch.numeric.double().numpy(),
        residual=numbers,
        log_variance=log_variance,
        others=np.hstack([others, inputs]),
        missed=np.hstack([numbers, others]),
    )


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Components of a random network, the records that they were fitted on, and others to score."""

    scores: dict[str, Array]
    train: Seen
    held_out: Seen
    fresh: Seen

    def scaled(self, usual: Array, values: Array, least: float) -> Array:
        """a(s) of scores."""
        median = np.median(usual)
        deviation = max(1.4826 * np.median(np.abs(usual - median)), least, 0.01 * abs(median))
        found: Array = np.arcsinh((values - median) / deviation)
        return found


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    vae = build(MIXED)
    noise = torch.from_numpy(noise_table(vae.latent_size, 0))[:16]
    train, held_out, fresh = (
        vae.standardise({kind: torch.from_numpy(values) for kind, values in ordinary(MIXED, rows, seed).items()})
        for seed, rows in enumerate((800, 401, 60), start=1)
    )
    components = Components(vae, train, held_out, noise, seed=0)
    with torch.no_grad():
        found = components(vae, fresh, infer(vae, fresh, noise))
    scores = {name: values.double().numpy() for name, values in zip(components.names, found, strict=True)}
    return Fitted(scores, *(see(vae, each, noise) for each in (train, held_out, fresh)))


def distance(to: Array, positions: Array) -> Array:
    """d of records in one space; of 800 training records all are points."""
    found: Array = np.sqrt(1.0 + cdist(positions, to).min(axis=1) ** 2)
    return found


def test_combined_is_a_third_each_of_surprise_absolute_and_relative_distance(fitted: Fitted) -> None:
    parts = [fitted.scaled(-fitted.held_out.expected, -fitted.fresh.expected, 0.01)]
    for space in ("absolute", "relative"):
        points, usual, fresh = (getattr(each, space) for each in (fitted.train, fitted.held_out, fitted.fresh))
        parts.append(fitted.scaled(distance(points, usual), distance(points, fresh), 0.1))
    assert np.ptp(parts[1] - parts[2]) > 0.5, "the two distances are not one"
    np.testing.assert_allclose(fitted.scores["neighbours"], np.mean(parts[1:], axis=0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(fitted.scores["combined"], np.mean(parts, axis=0), rtol=1e-3, atol=1e-3)


def test_typicality_is_the_distance_of_six_statistics_from_those_of_held_out_records(fitted: Fitted) -> None:
    usual, fresh = (
        np.stack(
            [
                fitted.scaled(fitted.held_out.statistics[:, column], each.statistics[:, column], 0.01)
                for column in range(6)
            ],
            axis=1,
        )
        for each in (fitted.held_out, fitted.fresh)
    )
    inverse = np.linalg.inv(0.9 * np.cov(usual.T) + 0.1 * np.eye(6))
    expected = [mahalanobis(each, usual.mean(axis=0), inverse) for each in fresh]
    np.testing.assert_allclose(fitted.scores["typicality"], expected, rtol=2e-3)
