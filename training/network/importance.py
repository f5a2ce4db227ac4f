"""Objectives that weight several draws of one record by how well they explain it: pure functions, in nats."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from training.network.batch import Batch
from training.network.objectives import Terms, log_likelihood
from training.network.posterior import Posterior, kl_to_prior
from training.network.vae import VAE


class Weighted(NamedTuple):
    """What L draws of B records say.

    Args:
        log_likelihood: log p(x|z_l), (B, L) nats.
        log_weights: log p(x|z_l) + w (log p(z_l) - log q(z_l|x)), (B, L) nats.
        shares: The weights divided by their sum over a record's draws, (B, L), without a gradient.
    """

    log_likelihood: Tensor
    log_weights: Tensor
    shares: Tensor


def importance_weighted(vae: VAE, batch: Batch, noise: Tensor, kl_weight: float = 1.0) -> Terms:
    """log(1/L sum_l p(x, z_l) / q(z_l|x)): rises with L from the ELBO to log p(x).

    Args:
        vae: The model.
        batch: B records.
        noise: eps, (L, K) or (B, L, K).
        kl_weight: w, on log p(z_l) - log q(z_l|x); below 1 while the KL warms up.

    Returns:
        The terms; `bound` is the importance-weighted bound where w is 1.

    Reference:
        Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders", eq. 8.
    """
    posterior = vae.posterior(batch)
    weighted = _weigh(vae, batch, vae.draw(posterior, noise), posterior, kl_weight)
    return _terms(posterior, weighted, _log_mean_exp(weighted.log_weights))


def doubly_reparameterised(vae: VAE, batch: Batch, noise: Tensor, kl_weight: float = 1.0) -> Terms:
    """The same bound with another gradient for the encoder, of the same mean and less variance.

    Of the gradient that reaches the encoder through z a draw has its share s of the weights squared, while the KL warms
    up (1 - w) s + w s^2, and log q(z_l|x) gives the encoder none of its own. The decoder's gradient is that of the
    bound itself.

    Args:
        vae: The model.
        batch: B records.
        noise: eps, (L, K) or (B, L, K).
        kl_weight: w, as in `importance_weighted`.

    Returns:
        The terms; `bound` has the value of the importance-weighted bound, and this gradient.

    Reference:
        Tucker et al. 2019, "Doubly reparameterized gradient estimators for Monte Carlo objectives", eq. 8.
    """
    posterior = vae.posterior(batch)
    latent = vae.draw(posterior, noise)
    weighted = _weigh(vae, batch, latent, Posterior(*(part.detach() for part in posterior)), kl_weight)
    if latent.requires_grad:
        # One factor s comes from the surrogate.
        shares = (1.0 - kl_weight + kl_weight * weighted.shares).unsqueeze(-1)
        latent.register_hook(lambda gradient: gradient * shares)  # type: ignore[no-untyped-call]
    surrogate = (weighted.shares * weighted.log_weights).sum(dim=-1)
    return _terms(posterior, weighted, _with_gradient_of(_log_mean_exp(weighted.log_weights), surrogate))


def forward_kl(vae: VAE, batch: Batch, noise: Tensor, kl_weight: float = 1.0) -> Terms:
    """The importance-weighted bound for the decoder, and KL(p(z|x) || q(z|x)) for the encoder.

    That KL's gradient is minus that of E_p(z|x) log q(z|x), estimated with the draws' shares of the weights: q has to
    cover the posterior, where the ELBO's KL lets it keep to a part of it. With w below 1 what q has to cover is in
    proportion to p(x|z) p(z)^w q(z|x)^(1 - w), between q and the posterior.

    Args:
        vae: The model.
        batch: B records.
        noise: eps, (L, K) or (B, L, K).
        kl_weight: w, as in `importance_weighted`.

    Returns:
        The terms; `bound` has the value of the importance-weighted bound, and these gradients.

    Reference:
        Bornschein & Bengio 2015, "Reweighted wake-sleep", eq. 3 to 9; Jerfel et al. 2021, "Variational refinement for
        importance sampling using the forward Kullback-Leibler divergence".
    """
    posterior = vae.posterior(batch)
    latent = vae.draw(posterior, noise).detach()
    weighted = _weigh(vae, batch, latent, Posterior(*(part.detach() for part in posterior)), kl_weight)
    log_q = log_posterior(posterior, latent)
    surrogate = (weighted.shares * (weighted.log_weights + log_q)).sum(dim=-1)
    return _terms(posterior, weighted, _with_gradient_of(_log_mean_exp(weighted.log_weights), surrogate))


def log_posterior(posterior: Posterior, latent: Tensor) -> Tensor:
    """log q(z_l|x) of draws (B, L, K), (B, L) nats."""
    mean, log_variance = (part.unsqueeze(1) for part in posterior)
    return _log_normal((latent - mean).square() / log_variance.exp(), log_variance)


def log_prior(latent: Tensor) -> Tensor:
    """log p(z_l) of draws (B, L, K), (B, L) nats."""
    return _log_normal(latent.square(), torch.zeros_like(latent))


def _weigh(vae: VAE, batch: Batch, latent: Tensor, posterior: Posterior, kl_weight: float) -> Weighted:
    likelihood = log_likelihood(vae, batch, latent)
    log_weights = likelihood + kl_weight * (log_prior(latent) - log_posterior(posterior, latent))
    return Weighted(likelihood, log_weights, torch.softmax(log_weights, dim=-1).detach())


def _terms(posterior: Posterior, weighted: Weighted, bound: Tensor) -> Terms:
    return Terms(
        weighted.log_likelihood.mean(dim=-1),
        kl_to_prior(posterior),
        bound,
        1.0 / weighted.shares.square().sum(dim=-1),
    )


def _log_mean_exp(values: Tensor) -> Tensor:
    return torch.logsumexp(values, dim=-1) - math.log(values.shape[-1])


def _with_gradient_of(value: Tensor, surrogate: Tensor) -> Tensor:
    return value.detach() + (surrogate - surrogate.detach())


def _log_normal(squares: Tensor, log_variance: Tensor) -> Tensor:
    return -0.5 * (math.log(2 * math.pi) + log_variance + squares).sum(dim=-1)
