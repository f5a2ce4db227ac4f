"""The objective's terms: the KL in closed form against draws, the bound's parts, and a gradient for every weight."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from bundle.record.fields import BooleanField, CategoricalField, NumericField
from bundle.record.schema import TableSchema
from tests.training.last import last
from training import modality
from training.config import NetworkConfig
from training.network.objectives import elbo, log_likelihood
from training.network.posterior import Posterior, kl_by_dimension, kl_to_prior
from training.network.vae import LOG_VARIANCE_BOUND, VAE
from training.table.batch import Standardised

PROPERTY = settings(deadline=None, derandomize=True, database=None, max_examples=200)
DRAWS = 1_000_000

SCHEMA = TableSchema(
    fields=(
        NumericField(name="amount", missing_rate=0.1, mean=30.0, scale=8.0),
        CategoricalField(name="country", missing_rate=0.1, vocabulary=("SE", "NO")),
        NumericField(name="ratio", missing_rate=0.2, mean=0.0, scale=1.0, likelihood="fixed-gaussian"),
        BooleanField(name="new", missing_rate=0.05),
        NumericField(name="age", missing_rate=1e-6, mean=0.0, scale=1.0, minimum_scale=0.01),
    )
)

POSTERIORS = {
    "the prior": ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    "moved": ([1.0, -2.0, 0.5], [0.0, 0.0, 0.0]),
    "narrow": ([0.0, 0.0, 0.0], [-4.0, -1.0, -12.0]),
    "wide": ([0.0, 0.0, 0.0], [0.5, 1.0, 1.5]),
    "all at once": ([0.3, -1.5, 3.0], [-2.0, 0.7, -0.1]),
    "far out": ([40.0, -25.0, 0.0], [1.0, -6.0, 0.0]),
}


def posterior(name: str) -> Posterior:
    mean, log_variance = POSTERIORS[name]
    return Posterior(torch.tensor([mean], dtype=torch.float64), torch.tensor([log_variance], dtype=torch.float64))


@pytest.mark.parametrize("name", POSTERIORS)
def test_the_kl_in_closed_form_is_that_of_a_million_draws(name: str) -> None:
    mean, deviation = np.array(POSTERIORS[name][0]), np.exp(0.5 * np.array(POSTERIORS[name][1]))
    latent = mean + deviation * np.random.default_rng(0).standard_normal((DRAWS, 3))
    ratios = (stats.norm.logpdf(latent, mean, deviation) - stats.norm.logpdf(latent)).sum(axis=1)
    error = ratios.std(ddof=1) / math.sqrt(DRAWS)
    assert abs(kl_to_prior(posterior(name)).item() - ratios.mean()) <= 4 * error + 1e-12


def test_the_kl_of_the_prior_is_zero_and_every_other_is_above() -> None:
    assert kl_to_prior(posterior("the prior")).item() == 0.0
    assert all(kl_to_prior(posterior(name)).item() > 0.1 for name in POSTERIORS if name != "the prior")


@PROPERTY
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-12, 12)), min_size=1, max_size=8))
def test_the_kl_is_that_of_torch_for_every_posterior(dimensions: list[tuple[float, float]]) -> None:
    mean, log_variance = torch.tensor([dimensions], dtype=torch.float64).unbind(dim=-1)
    expected = kl_divergence(Normal(mean, torch.exp(0.5 * log_variance)), Normal(0.0, 1.0)).sum(dim=-1)
    actual = kl_to_prior(Posterior(mean, log_variance))
    assert actual.shape == (1,)
    assert actual.item() >= -1e-12
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(0)
    vae = modality.of(SCHEMA).vae(NetworkConfig(hidden=(6, 5), latent_size=3, activation="tanh")).double()
    with torch.no_grad():
        for weights in vae.parameters():
            weights.mul_(2.0)
    return vae


@pytest.fixture
def batch() -> Standardised:
    generator = torch.Generator().manual_seed(1)
    present = [(torch.rand(12, columns, generator=generator) > 0.3).double() for columns in (3, 1, 1)]
    numeric = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    boolean = torch.randint(0, 2, (12, 1), generator=generator).double()
    categorical = torch.randint(0, 3, (12, 1), generator=generator)
    return Standardised(numeric, present[0], boolean, present[1], categorical, present[2])


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_draws_are_the_mean_plus_deviations_of_the_noise(vae: VAE, batch: Standardised, noise: Tensor) -> None:
    posterior = vae.posterior(batch)
    drawn = vae.draw(posterior, noise)
    assert drawn.shape == (12, 4, 3)
    for row in range(12):
        for draw in range(4):
            expected = posterior.mean[row] + noise[draw] * posterior.log_variance[row].exp().sqrt()
            torch.testing.assert_close(drawn[row, draw], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(vae.draw(posterior, noise.expand(12, 4, 3)), drawn, rtol=0, atol=0)


def test_the_posterior_s_variance_is_bounded_and_little_changed_near_one(vae: VAE, batch: Standardised) -> None:
    layer = last(vae.encoder)
    for free, expected in ((1e6, LOG_VARIANCE_BOUND), (-1e6, -LOG_VARIANCE_BOUND), (0.5, 0.5), (-0.5, -0.5)):
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias[3:] = free
        log_variance = vae.posterior(batch).log_variance
        assert (log_variance - expected).abs().max() < 1e-3


def test_the_log_likelihood_of_a_record_is_the_sum_over_fields_and_gaps(
    vae: VAE, batch: Standardised, noise: Tensor
) -> None:
    latent = vae.draw(vae.posterior(batch), noise)
    total = log_likelihood(vae, batch, latent)
    assert total.shape == (12, 4)
    gaps = vae.likelihood.log_prob_of_gaps(batch)
    for draw in range(4):
        fields = vae.likelihood.log_prob(batch, vae.decode(latent[:, draw : draw + 1]))[:, 0]
        torch.testing.assert_close(total[:, draw], fields.sum(dim=1) + gaps.sum(dim=1))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_bound_is_the_mean_log_likelihood_less_the_weighted_kl(
    vae: VAE, batch: Standardised, noise: Tensor, weight: float
) -> None:
    terms = elbo(vae, batch, noise, weight)
    posterior = vae.posterior(batch)
    likelihood = log_likelihood(vae, batch, vae.draw(posterior, noise))
    assert terms.bound.shape == (12,)
    torch.testing.assert_close(terms.log_likelihood, likelihood.mean(dim=1))
    torch.testing.assert_close(terms.kl, kl_to_prior(posterior))
    torch.testing.assert_close(terms.bound, terms.log_likelihood - weight * terms.kl)
    assert terms.kl.min() > 0


def test_free_nats_are_paid_by_no_dimension_and_above_them_all_is_as_ever(
    vae: VAE, batch: Standardised, noise: Tensor
) -> None:
    by_dimension = kl_by_dimension(vae.posterior(batch))
    torch.testing.assert_close(by_dimension.sum(dim=1), kl_to_prior(vae.posterior(batch)))
    means = by_dimension.mean(dim=0).detach()
    between = float(means.median())
    paid = torch.maximum(means, torch.tensor(between, dtype=torch.float64)).sum()
    terms = elbo(vae, batch, noise, 2.0, free_nats=between)
    torch.testing.assert_close(terms.bound, terms.log_likelihood - 2.0 * paid)
    assert terms.kl.mean() < paid
    (-elbo(vae, batch, noise, 1.0, free_nats=1e3).bound.mean()).backward()
    without = {name: weights.grad.clone() for name, weights in vae.named_parameters() if weights.grad is not None}
    vae.zero_grad()
    (-elbo(vae, batch, noise, 0.0).bound.mean()).backward()
    for name, weights in vae.named_parameters():
        torch.testing.assert_close(weights.grad, without[name])


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_a_capacity_draws_the_kl_to_it_from_either_side(
    vae: VAE, batch: Standardised, noise: Tensor, share: float
) -> None:
    mean = kl_to_prior(vae.posterior(batch)).mean()
    capacity = share * mean.item()
    terms = elbo(vae, batch, noise, 3.0, capacity=capacity)
    torch.testing.assert_close(terms.bound, terms.log_likelihood - 3.0 * (mean - capacity).abs())
    encoder = list(vae.encoder.parameters())
    toward = torch.autograd.grad((terms.log_likelihood - terms.bound).mean(), encoder, retain_graph=True)
    upward = torch.autograd.grad(terms.kl.mean(), encoder)
    for found, expected in zip(toward, upward, strict=True):
        torch.testing.assert_close(found, 3.0 * math.copysign(1.0, 1.0 - share) * expected)


def test_each_record_may_bring_its_own_noise(vae: VAE, batch: Standardised, noise: Tensor) -> None:
    own = torch.randn(12, 4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    terms = elbo(vae, batch, own)
    for row in range(12):
        alone = elbo(vae, batch.take(torch.tensor([row])), own[row])
        torch.testing.assert_close(terms.bound[row : row + 1], alone.bound)
    torch.testing.assert_close(elbo(vae, batch, noise.expand(12, 4, 3)).bound, elbo(vae, batch, noise).bound)


def test_every_weight_receives_a_gradient(vae: VAE, batch: Standardised, noise: Tensor) -> None:
    (-elbo(vae, batch, noise).bound.mean()).backward()
    parameters = dict(vae.named_parameters())
    assert len(parameters) == 12
    for name, weights in parameters.items():
        assert weights.grad is not None, name
        assert weights.grad.isfinite().all(), name
        assert (weights.grad != 0).all(), name


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_gradient_is_the_slope_of_the_bound(vae: VAE, batch: Standardised, noise: Tensor, weight: float) -> None:
    elbo(vae, batch, noise, weight).bound.mean().backward()
    generator = torch.Generator().manual_seed(4)
    for name, weights in vae.named_parameters():
        direction = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
        assert weights.grad is not None
        bounds = []
        for step in (1e-5, -1e-5):
            moved = copy.deepcopy(vae)
            with torch.no_grad():
                moved.get_parameter(name).add_(step * direction)
                bounds.append(elbo(moved, batch, noise, weight).bound.mean().item())
        slope = (bounds[0] - bounds[1]) / 2e-5
        assert (weights.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-6), name


def test_a_gradient_flows_from_the_kl_alone(vae: VAE, batch: Standardised) -> None:
    kl_to_prior(vae.posterior(batch)).mean().backward()
    for name, weights in vae.encoder.named_parameters():
        assert weights.grad is not None
        assert weights.grad.abs().max() > 0, name


def test_a_missing_value_does_not_move_the_bound(vae: VAE, batch: Standardised, noise: Tensor) -> None:
    assert (batch.present == 0).any(dim=0).all()
    # Standardising leaves zeros where a number is missing; codes there may be anything.
    zeroed = batch._replace(numeric=batch.numeric * batch.numeric_present)
    changed = zeroed._replace(
        boolean=torch.where(batch.boolean_present == 0, 1.0 - batch.boolean, batch.boolean),
        categorical=torch.where(batch.categorical_present == 0, 2 - batch.categorical, batch.categorical),
    )
    torch.testing.assert_close(elbo(vae, changed, noise).bound, elbo(vae, zeroed, noise).bound, rtol=0, atol=0)
