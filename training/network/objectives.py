"""What training maximises: pure functions from a model, records and noise to per-record terms in nats."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from training.network.batch import Batch
from training.network.vae import VAE


class Terms(NamedTuple):
    """Per-record terms of a bound, each (B,) in nats.

    Args:
        log_likelihood: 1/L sum_l log p(x|z_l), with the terms of what is missing.
        kl: KL(q(z|x) || p(z)).
        bound: What is maximised.
        effective_samples: Draws, of the L, that carry the weight: 1 / sum_l of their squared shares (Kong 1992).
    """

    log_likelihood: Tensor
    kl: Tensor
    bound: Tensor
    effective_samples: Tensor


def log_likelihood(vae: VAE, batch: Batch, latent: Tensor) -> Tensor:
    """log p(x|z_l) of whole records.

    Args:
        vae: The model.
        batch: B records.
        latent: z, (B, L, K).

    Returns:
        (B, L) nats.
    """
    fields: Tensor = vae.likelihood.log_prob(batch, vae.decode(latent)).sum(dim=-1)
    gaps: Tensor = vae.likelihood.log_prob_of_gaps(batch).sum(dim=-1, keepdim=True)
    return fields + gaps


def mean_of_batch(values: Tensor) -> Tensor:
    """The mean of values (B, …) over the records."""
    return values.mean(dim=0)


def elbo(
    vae: VAE,
    batch: Batch,
    noise: Tensor,
    kl_weight: float = 1.0,
    free_nats: float = 0.0,
    capacity: float | None = None,
    mean: Callable[[Tensor], Tensor] = mean_of_batch,
) -> Terms:
    """The evidence lower bound: 1/L sum_l log p(x|z_l) - w KL(q(z|x) || p(z)).

    With free nats F the KL in it is sum_k max(F, the batch's mean of KL_k), the same for every record, so that no
    latent dimension is given up for less than F. With a capacity C it is |C - the batch's mean of the KL|, so that the
    latent holds C nats and no more.

    Args:
        vae: The model.
        batch: B records.
        noise: eps, (L, K) or (B, L, K).
        kl_weight: w; below 1 while the KL warms up, beta after it (Higgins et al. 2017, eq. 4).
        free_nats: F, in nats a latent dimension (Kingma et al. 2016, "Improved variational inference with inverse
            autoregressive flow", eq. 15).
        capacity: C, in nats, or None (Burgess et al. 2018, "Understanding disentangling in beta-VAE", eq. 8).
        mean: Of values (B, …) over the records; where these are a part of a batch, over all of it.

    Returns:
        The terms; `bound` is the evidence lower bound where w is 1, F is 0 and C is None.

    Reference:
        Kingma & Welling 2014, eq. 10.
    """
    posterior = vae.posterior(batch)
    draws = log_likelihood(vae, batch, vae.draw(posterior, noise))
    likelihood = draws.mean(dim=-1)
    by_dimension = vae.kl_by_dimension(posterior)
    kl = by_dimension.sum(dim=-1)
    paid = mean(by_dimension).clamp(min=free_nats).sum() if free_nats else kl
    if capacity is not None:
        paid = (capacity - mean(paid)).abs()
    # Every draw counts as much as any other.
    every = torch.full_like(kl, draws.shape[-1])
    return Terms(likelihood, kl, likelihood - kl_weight * paid, every)
