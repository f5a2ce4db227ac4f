"""Weighted objectives on a model whose posterior is known: values, gradients, and where they lead the encoder.

x | z ~ N(W z, I) with z ~ N(0, I), so z | x ~ N(P^-1 W^T x, P^-1) with the precision P = I + W^T W; W is such that
the two latents of the posterior have a correlation of 0.9 and a variance of a half.
"""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bundle.record.fields import NumericField
from bundle.record.schema import TableSchema
from training import modality
from training.config import NetworkConfig
from training.network.importance import (
    doubly_reparameterised,
    forward_kl,
    importance_weighted,
    log_posterior,
    log_prior,
)
from training.network.objectives import Terms, elbo
from training.network.posterior import Posterior, kl_to_prior
from training.network.vae import VAE
from training.table.batch import Standardised


class Objective(Protocol):
    """Of a model, records and noise, and the weight of the KL."""

    def __call__(self, vae: VAE, batch: Standardised, noise: Tensor, kl_weight: float = 1.0) -> Terms: ...


COVARIANCE = 0.5 * torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
PRECISION = torch.linalg.inv(COVARIANCE)
WEIGHT = torch.linalg.cholesky(PRECISION - torch.eye(2, dtype=torch.float64)).T
REVERSE = 1 / PRECISION.diagonal()
RATE = 1e-3


class Encoder(nn.Module):
    """The posterior's mean times a gain, and one log-variance for all records, free to be learnt."""

    def __init__(self, variance: Tensor) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.free = nn.Parameter(variance.log())
        self.record = torch.empty(0)

    def forward(self, inputs: Tensor) -> Tensor:
        # What the network sees is bounded; this one is told the record itself.
        mean = self.record @ WEIGHT @ COVARIANCE * self.gain
        return torch.cat([mean, self.free.expand_as(mean)], dim=-1)


def encoder_of(vae: VAE) -> Encoder:
    encoder = vae.encoder[0]
    assert isinstance(encoder, Encoder)
    return encoder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def model(variance: Tensor = REVERSE, records: int = 4) -> tuple[VAE, Standardised]:
    """The model with that variance of q, and records drawn from it."""
    fields = tuple(
        NumericField(name=name, missing_rate=RATE, mean=0.0, scale=1.0, likelihood="fixed-gaussian")
        for name in ("first", "second")
    )
    vae = modality.of(TableSchema(fields=fields)).vae(NetworkConfig(hidden=(1,), latent_size=2)).double()
    encoder, decoder = Encoder(variance), nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        decoder.weight.copy_(WEIGHT)
    vae.encoder, vae.decoder = nn.Sequential(encoder), nn.Sequential(decoder)
    random = np.random.default_rng(1)
    values = random.normal(size=(records, 2)) @ WEIGHT.numpy().T + random.normal(size=(records, 2))
    batch = vae.standardise({"numeric": torch.from_numpy(values.astype(np.float32).astype(np.float64))})
    encoder.record = batch.numeric.double()
    return vae, Standardised(*(part.double() if part.is_floating_point() else part for part in batch))


def noise(draws: int, records: int = 4, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(records, draws, 2)))


def gradients(vae: VAE, value: Tensor) -> dict[str, Tensor]:
    """By parameter's name; 0 where there is none."""
    named = dict(vae.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return {
        name: torch.zeros_like(named[name]) if gradient is None else gradient
        for name, gradient in zip(named, found, strict=True)
    }


def differences(vae: VAE, function: Callable[[], Tensor], step: float = 1e-6) -> dict[str, Tensor]:
    """The same by central differences."""
    found = {}
    for name, parameter in vae.named_parameters():
        slopes = torch.zeros(parameter.numel(), dtype=torch.float64)
        flat = parameter.data.view(-1)
        for place in range(parameter.numel()):
            value = flat[place].item()
            with torch.no_grad():
                flat[place] = value + step
                above = function()
                flat[place] = value - step
                below = function()
                flat[place] = value
            slopes[place] = (above - below) / (2 * step)
        found[name] = slopes.view_as(parameter)
    return found


def log_joint(vae: VAE, batch: Standardised, latent: Tensor) -> Tensor:
    likelihood = vae.likelihood.log_prob(batch, vae.decode(latent)).sum(dim=-1)
    return likelihood + 2 * math.log1p(-RATE) + log_prior(latent)


def test_the_posterior_is_what_it_was_made_to_be() -> None:
    vae, batch = model()
    latent = noise(5)
    by_bayes = log_joint(vae, batch, latent)
    mean = encoder_of(vae).record @ WEIGHT @ COVARIANCE
    exact = torch.distributions.MultivariateNormal(mean.unsqueeze(1), COVARIANCE).log_prob(latent)
    evidence = by_bayes - exact
    torch.testing.assert_close(evidence, evidence[:, :1].expand_as(evidence), rtol=0, atol=1e-5)


@pytest.mark.parametrize("objective", [importance_weighted, doubly_reparameterised, forward_kl])
def test_the_value_is_the_importance_weighted_bound(objective: Objective) -> None:
    vae, batch = model()
    eps = noise(7)
    terms = objective(vae, batch, eps)
    posterior = vae.posterior(batch)
    latent = vae.draw(posterior, eps)
    weights = log_joint(vae, batch, latent) - log_posterior(posterior, latent)
    expected = torch.logsumexp(weights, dim=1) - math.log(7)
    torch.testing.assert_close(terms.bound, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(terms.kl, kl_to_prior(posterior))
    shares = torch.softmax(weights, dim=1)
    torch.testing.assert_close(terms.effective_samples, 1 / (shares * shares).sum(dim=1))


def test_with_one_draw_it_is_the_elbo_in_the_mean() -> None:
    vae, batch = model()
    eps = noise(20_000).reshape(-1, 1, 2)
    rows = torch.arange(4).repeat_interleave(20_000)
    encoder_of(vae).record = encoder_of(vae).record[rows]
    many = batch.take(rows)
    one = importance_weighted(vae, many, eps).bound
    expected = elbo(vae, many, eps).bound
    error = (one - expected).std().item() / math.sqrt(len(one))
    assert abs((one - expected).mean().item()) < 4 * error
    assert (elbo(vae, many, eps).effective_samples == 1).all()


def test_the_importance_weighted_gradient_is_that_of_its_value() -> None:
    vae, batch = model(1.7 * REVERSE)
    eps = noise(5)
    expected = differences(vae, lambda: importance_weighted(vae, batch, eps).bound.sum())
    torch.testing.assert_close(
        gradients(vae, importance_weighted(vae, batch, eps).bound.sum()), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("objective", [doubly_reparameterised, forward_kl])
def test_the_decoders_gradient_is_that_of_the_bound(objective: Objective) -> None:
    vae, batch = model(1.7 * REVERSE)
    eps = noise(5)
    expected = differences(vae, lambda: importance_weighted(vae, batch, eps).bound.sum())
    found = gradients(vae, objective(vae, batch, eps).bound.sum())
    torch.testing.assert_close(found["decoder.0.weight"], expected["decoder.0.weight"], rtol=1e-5, atol=1e-6)


def test_the_doubly_reparameterised_gradient_is_that_with_weights_held() -> None:
    """Shares squared times log w, in which only z moves with the encoder, and draws and shares are those of now."""
    vae, batch = model(1.7 * REVERSE)
    eps = noise(5)
    fixed = Posterior(*(part.detach().clone() for part in vae.posterior(batch)))

    def log_weights() -> Tensor:
        latent = vae.draw(vae.posterior(batch), eps)
        return log_joint(vae, batch, latent) - log_posterior(fixed, latent)

    shares = torch.softmax(log_weights().detach(), dim=1)
    expected = differences(vae, lambda: (shares.square() * log_weights()).sum())
    found = gradients(vae, doubly_reparameterised(vae, batch, eps).bound.sum())
    for name in ("encoder.0.gain", "encoder.0.free"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_the_forward_kls_gradient_is_that_with_draws_and_weights_held() -> None:
    vae, batch = model(1.7 * REVERSE)
    eps = noise(5)
    held = vae.posterior(batch)
    latent = vae.draw(held, eps).detach()
    shares = torch.softmax((log_joint(vae, batch, latent) - log_posterior(held, latent)).detach(), dim=1)
    expected = differences(vae, lambda: (shares * log_posterior(vae.posterior(batch), latent)).sum())
    found = gradients(vae, forward_kl(vae, batch, eps).bound.sum())
    for name in ("encoder.0.gain", "encoder.0.free"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_the_forward_kls_gradient_tends_to_the_closed_form() -> None:
    """d KL(p || q) / d log v = (1 - (p's variance + (m_p - m)^2) / v) / 2, for each latent and record."""
    variance = 1.5 * COVARIANCE.diagonal()
    vae, batch = model(variance)
    encoder = encoder_of(vae)
    with torch.no_grad():
        encoder.gain.mul_(0.9)
    found = gradients(vae, -forward_kl(vae, batch, noise(40_000)).bound.sum())
    mean = encoder.record @ WEIGHT @ COVARIANCE
    off = 0.1 * mean
    expected = 0.5 * (1 - (COVARIANCE.diagonal() + off.square()) / variance).sum(dim=0)
    torch.testing.assert_close(found["encoder.0.free"], expected, rtol=0.05, atol=0.05)
    # d KL / d m = (m - m_p) / v, and m = gain times the posterior's mean.
    torch.testing.assert_close(found["encoder.0.gain"], (-off * mean / variance).sum(dim=0), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kl_weight", [1.0, 0.5, 0.1])
def test_the_doubly_reparameterised_gradient_has_the_same_mean_and_less_variance(kl_weight: float) -> None:
    vae, batch = model(1.7 * REVERSE)
    found: dict[Objective, list[Tensor]] = {importance_weighted: [], doubly_reparameterised: []}
    for seed in range(600):
        for objective, each in found.items():
            gradient = gradients(vae, objective(vae, batch, noise(8, seed=seed), kl_weight).bound.sum())
            each.append(torch.cat([gradient["encoder.0.gain"], gradient["encoder.0.free"]]))
    plain, doubly = (torch.stack(each) for each in found.values())
    error = (plain - doubly).std(dim=0) / math.sqrt(len(plain))
    assert ((plain - doubly).mean(dim=0).abs() < 4 * error).all()
    assert doubly.var(dim=0).sum() < plain.var(dim=0).sum()


def trained(objective: Objective, draws: int) -> Tensor:
    """The variance of q, as a share of the posterior's, that an objective leads to with the decoder fixed."""
    vae, batch = model(0.5 * REVERSE)
    encoder = encoder_of(vae)
    optimiser = torch.optim.Adam([encoder.gain, encoder.free], lr=0.05)
    for step in range(300):
        optimiser.zero_grad()
        (-objective(vae, batch, noise(draws, seed=step)).bound.mean()).backward()
        optimiser.step()
    return encoder.free.detach().exp() / COVARIANCE.diagonal()


def test_the_forward_kl_covers_a_correlated_posterior_where_the_elbo_does_not() -> None:
    assert (trained(forward_kl, 500) >= 0.9).all()
    torch.testing.assert_close(trained(elbo, 500), torch.full((2,), 0.19, dtype=torch.float64), rtol=0.05, atol=0)
