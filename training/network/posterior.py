"""q(z|x), a Gaussian without correlation, and its distance from the prior."""

from typing import NamedTuple

from torch import Tensor


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag exp(log_variance)); both (B, K) float32. A deterministic code has -inf for the latter."""

    mean: Tensor
    log_variance: Tensor


def kl_to_prior(posterior: Posterior) -> Tensor:
    """KL(q(z|x) || N(0, I)) in closed form.

    Args:
        posterior: Of B records.

    Returns:
        (B,) nats.

    Reference:
        Kingma & Welling 2014, Appendix B.
    """
    return kl_by_dimension(posterior).sum(dim=-1)


def kl_by_dimension(posterior: Posterior) -> Tensor:
    """The same by latent dimension, (B, K) nats; both are Gaussians without correlation, so these add up."""
    mean, log_variance = posterior
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
