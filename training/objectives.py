"""What training maximises: pure functions from a model, records and noise to per-record terms in nats."""

from typing import NamedTuple

from torch import Tensor

from training.preprocess import Standardised
from training.vae import VAE, Posterior


class Terms(NamedTuple):
    """Per-record terms of a bound, each (B,) in nats.

    Args:
        log_likelihood: 1/L sum_l log p(x|z_l), with the terms of what is missing.
        kl: KL(q(z|x) || p(z)).
        bound: What is maximised.
    """

    log_likelihood: Tensor
    kl: Tensor
    bound: Tensor


def kl_to_prior(posterior: Posterior) -> Tensor:
    """KL(q(z|x) || N(0, I)) in closed form.

    Args:
        posterior: Of B records.

    Returns:
        (B,) nats.

    Reference:
        Kingma & Welling 2014, Appendix B.
    """
    mean, log_variance = posterior
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=-1)


def log_likelihood(vae: VAE, batch: Standardised, latent: Tensor) -> Tensor:
    """log p(x|z_l) of whole records.

    Args:
        vae: The model.
        batch: B records.
        latent: z, (B, L, K).

    Returns:
        (B, L) nats.
    """
    fields = vae.likelihood.log_prob(batch, vae.decode(latent)).sum(dim=-1)
    return fields + vae.likelihood.log_prob_of_gaps(batch).sum(dim=-1, keepdim=True)


def elbo(vae: VAE, batch: Standardised, noise: Tensor, kl_weight: float = 1.0) -> Terms:
    """The evidence lower bound: 1/L sum_l log p(x|z_l) - w KL(q(z|x) || p(z)).

    Args:
        vae: The model.
        batch: B records.
        noise: eps, (L, K) or (B, L, K).
        kl_weight: w; below 1 while the KL warms up.

    Returns:
        The terms; `bound` is the evidence lower bound where w is 1.

    Reference:
        Kingma & Welling 2014, eq. 10.
    """
    posterior = vae.posterior(batch)
    likelihood = log_likelihood(vae, batch, vae.draw(posterior, noise)).mean(dim=-1)
    kl = kl_to_prior(posterior)
    return Terms(likelihood, kl, likelihood - kl_weight * kl)
