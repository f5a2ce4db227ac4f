"""The bounds on a model whose log p(x) is known: ELBO <= IWAE(L) <= log p(x), and each where theory puts it.

x | z ~ N(W z + b, diag s^2) with z ~ N(0, I), so x ~ N(b, W W^T + diag s^2) and z | x is a Gaussian of precision
P = I + W^T diag(s^-2) W. q(z|x) has its mean and the precision diag(P), the best that a diagonal Gaussian can do:
its KL to z | x is half the log of prod diag(P) / det(P), for every x.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from bundle.record.fields import NumericField
from bundle.record.schema import TableSchema
from training import modality
from training.config import NetworkConfig
from training.network.noise import noise_table
from training.network.objectives import elbo
from training.network.scores import LIKELIHOOD_OUTPUTS, ScoringNetwork
from training.network.vae import VAE
from training.table.batch import BOUND

Array = npt.NDArray[np.float64]

SCRAMBLINGS = 200
SAMPLES = (1, 4, 16, 64, 256)
RATE = 0.2

WEIGHT = np.array([[0.9, 0.6], [0.2, -0.3], [-0.5, -0.3], [0.8, 0.5], [0.0, 0.7]])
BIAS = np.array([0.3, -0.2, 0.0, 0.5, -0.4])
DEVIATION = np.array([0.8, 0.6, 1.0, 0.7, 0.9])

PRECISION = np.eye(2) + WEIGHT.T @ np.diag(DEVIATION**-2) @ WEIGHT
GAIN = np.linalg.solve(PRECISION, WEIGHT.T / DEVIATION**2)
VARIANCE = 1 / np.diag(PRECISION)
GAP = 0.5 * (np.log(np.diag(PRECISION)).sum() - np.linalg.slogdet(PRECISION)[1])
PRESENT = 5 * math.log1p(-RATE)


class ExactEncoder(nn.Module):
    """The posterior's mean and log-variance, with what bounds the input undone."""

    def __init__(self) -> None:
        super().__init__()
        self.free = torch.from_numpy(np.log(VARIANCE))

    def forward(self, bounded: Tensor) -> Tensor:
        # The last five columns say that nothing is missing.
        value = BOUND * torch.atanh(bounded[:, :5].double() / BOUND)
        mean = (value - torch.from_numpy(BIAS)) @ torch.from_numpy(GAIN).T
        return torch.cat([mean, self.free.expand_as(mean)], dim=-1)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A thousand small runs, in which threads would mostly wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vae() -> VAE:
    schema = TableSchema(
        fields=tuple(
            NumericField(
                name=f"x{number}",
                missing_rate=RATE,
                mean=0.0,
                scale=1.0,
                likelihood="fixed-gaussian",
                fixed_scale=float(deviation),
            )
            for number, deviation in enumerate(DEVIATION)
        )
    )
    vae = modality.of(schema).vae(NetworkConfig(hidden=(1,), latent_size=2)).double()
    assert (vae.preprocess.width, vae.likelihood.outputs) == (10, 5)
    encoder = ExactEncoder()
    vae.encoder = nn.Sequential(encoder)
    decoder = nn.Linear(2, 5).double()
    with torch.no_grad():
        decoder.weight.copy_(torch.from_numpy(WEIGHT))
        decoder.bias.copy_(torch.from_numpy(BIAS))
    vae.decoder = nn.Sequential(decoder)
    # Whatever bounds the log-variance is nearly the identity here: step to where it gives what is wanted.
    batch = vae.standardise({"numeric": torch.zeros(1, 5, dtype=torch.float64)})
    for _ in range(30):
        encoder.free = encoder.free + torch.from_numpy(np.log(VARIANCE)) - vae.posterior(batch).log_variance[0]
    return vae


def records(count: int, seed: int) -> Array:
    """Records from the model itself; floats of 32 bits, which standardising keeps exactly."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, 2)) @ WEIGHT.T + BIAS + DEVIATION * rng.standard_normal((count, 5))
    return values.astype(np.float32).astype(np.float64)


@torch.no_grad()
def scores(vae: VAE, values: Array, noise: npt.NDArray[np.float32]) -> dict[str, Array]:
    outputs = ScoringNetwork(vae, None)({"numeric": torch.from_numpy(values)}, torch.from_numpy(noise).double())
    return dict(zip(LIKELIHOOD_OUTPUTS, (output.numpy() for output in outputs), strict=True))


def log_evidence(values: Array) -> Array:
    """log p(x), with the five terms of not being missing."""
    covariance = WEIGHT @ WEIGHT.T + np.diag(DEVIATION**2)
    return stats.multivariate_normal(BIAS, covariance).logpdf(values) + PRESENT


def expected_log_likelihood(values: Array) -> Array:
    """E_q log p(x|z) in closed form."""
    mean = (values - BIAS) @ GAIN.T @ WEIGHT.T + BIAS
    spread = (WEIGHT**2 @ VARIANCE) / DEVIATION**2
    return (stats.norm.logpdf(values, mean, DEVIATION) - 0.5 * spread).sum(axis=1) + PRESENT


def kl(values: Array) -> Array:
    """KL(q(z|x) || N(0, I)) in closed form."""
    mean = (values - BIAS) @ GAIN.T
    return 0.5 * (mean**2 + VARIANCE - 1 - np.log(VARIANCE)).sum(axis=1)


def log_mean_density(values: Array) -> Array:
    """log E_q p(x|z) in closed form: the decoder's Gaussian widened by q."""
    mean = (values - BIAS) @ GAIN.T @ WEIGHT.T + BIAS
    covariance = WEIGHT @ np.diag(VARIANCE) @ WEIGHT.T + np.diag(DEVIATION**2)
    return stats.multivariate_normal(np.zeros(5), covariance).logpdf(values - mean) + PRESENT


def error_of(differences: Array) -> float:
    """Standard error of the mean over scramblings, records averaged first."""
    return float(differences.mean(axis=1).std(ddof=1) / math.sqrt(len(differences)))


def is_zero(differences: Array) -> bool:
    """Whether differences (SCRAMBLINGS, records) are zero on average, within 3 standard errors."""
    return bool(abs(differences.mean()) <= 3 * error_of(differences))


@pytest.fixture(scope="module")
def few() -> Array:
    return records(20, seed=1)


@pytest.fixture(scope="module")
def scrambled(vae: VAE, few: Array) -> dict[int, dict[str, Array]]:
    """Scores (SCRAMBLINGS, records) by number of draws."""
    tables = [noise_table(2, seed) for seed in range(SCRAMBLINGS)]
    collected: dict[int, dict[str, Array]] = {}
    for samples in SAMPLES:
        each = [scores(vae, few, table[:samples]) for table in tables]
        collected[samples] = {name: np.stack([outputs[name] for outputs in each]) for name in LIKELIHOOD_OUTPUTS}
    return collected


def test_the_theory_fits_together() -> None:
    values = records(50, seed=4)
    np.testing.assert_allclose(expected_log_likelihood(values) - kl(values), log_evidence(values) - GAP, atol=1e-10)
    assert GAP > 0.1
    correlation = PRECISION[0, 1] / math.sqrt(PRECISION[0, 0] * PRECISION[1, 1])
    assert abs(correlation) > 0.4


def test_the_encoder_gives_the_exact_posterior(vae: VAE, few: Array) -> None:
    batch = vae.standardise({"numeric": torch.from_numpy(few)})
    posterior = vae.posterior(batch)
    np.testing.assert_allclose(posterior.mean.numpy(), (few - BIAS) @ GAIN.T, atol=1e-5)
    np.testing.assert_allclose(posterior.log_variance.exp().numpy(), np.tile(VARIANCE, (20, 1)), rtol=1e-9)


@pytest.mark.parametrize("samples", SAMPLES)
def test_the_bounds_stand_in_order(scrambled: dict[int, dict[str, Array]], few: Array, samples: int) -> None:
    outputs = scrambled[samples]
    gained = outputs["iwae"] - outputs["elbo"]
    assert gained.mean() >= -3 * error_of(gained)
    missing = log_evidence(few) - outputs["iwae"]
    assert missing.mean() >= -3 * error_of(missing)


@pytest.mark.parametrize("samples", SAMPLES)
def test_the_elbo_is_unbiased(scrambled: dict[int, dict[str, Array]], few: Array, samples: int) -> None:
    outputs = scrambled[samples]
    assert is_zero(outputs["elbo"] - (log_evidence(few) - GAP))
    assert is_zero(outputs["elbo"] - (expected_log_likelihood(few) - kl(few)))
    assert is_zero(outputs["expected_log_likelihood"] - expected_log_likelihood(few))


@pytest.mark.parametrize("samples", SAMPLES)
def test_the_mean_density_is_unbiased(scrambled: dict[int, dict[str, Array]], few: Array, samples: int) -> None:
    drawn = scrambled[samples]["log_reconstruction_probability"]
    assert is_zero(np.exp(drawn - log_mean_density(few)) - 1.0)


@pytest.mark.parametrize("samples", SAMPLES)
def test_the_mean_importance_weight_is_unbiased(
    scrambled: dict[int, dict[str, Array]], few: Array, samples: int
) -> None:
    assert is_zero(np.exp(scrambled[samples]["iwae"] - log_evidence(few)) - 1.0)


def test_with_one_draw_the_iwae_is_the_elbo_in_expectation(scrambled: dict[int, dict[str, Array]]) -> None:
    assert is_zero(scrambled[1]["iwae"] - scrambled[1]["elbo"])


def test_more_draws_bring_the_iwae_closer(scrambled: dict[int, dict[str, Array]]) -> None:
    bounds = [scrambled[samples]["iwae"] for samples in SAMPLES]
    for fewer, more in itertools.pairwise(bounds):
        assert (more - fewer).mean() >= -3 * error_of(more - fewer)
    assert (bounds[-1] - bounds[0]).mean() > 0.8 * GAP


@pytest.fixture(scope="module")
def many() -> Array:
    return records(300, seed=11)


@pytest.fixture(scope="module")
def averaged(vae: VAE, many: Array) -> dict[str, Array]:
    """Scores of 300 records with 256 draws, averaged over 16 scramblings, as all records share one."""
    each = [scores(vae, many, noise_table(2, 1000 + seed)) for seed in range(16)]
    return {name: np.mean([outputs[name] for outputs in each], axis=0) for name in LIKELIHOOD_OUTPUTS}


def test_with_256_draws_the_iwae_is_log_p_of_x(averaged: dict[str, Array], many: Array) -> None:
    distance = log_evidence(many) - averaged["iwae"]
    assert abs(distance.mean()) < 0.05
    assert np.abs(distance).max() < 0.05


def test_with_256_draws_every_other_score_is_its_closed_form(averaged: dict[str, Array], many: Array) -> None:
    for name, expected in (
        ("elbo", expected_log_likelihood(many) - kl(many)),
        ("expected_log_likelihood", expected_log_likelihood(many)),
        ("log_reconstruction_probability", log_mean_density(many)),
    ):
        np.testing.assert_allclose(averaged[name], expected, atol=0.02, err_msg=name)
    np.testing.assert_allclose(averaged["latent_mean"], (many - BIAS) @ GAIN.T, atol=1e-5)


def test_the_objective_of_training_is_the_served_elbo(vae: VAE, few: Array) -> None:
    noise = noise_table(2, 3)
    batch = vae.standardise({"numeric": torch.from_numpy(few)})
    terms = elbo(vae, batch, torch.from_numpy(noise).double())
    outputs = scores(vae, few, noise)
    np.testing.assert_allclose(terms.bound.detach().numpy(), outputs["elbo"], rtol=1e-12)
    np.testing.assert_allclose(terms.kl.detach().numpy(), kl(few), atol=1e-5)
