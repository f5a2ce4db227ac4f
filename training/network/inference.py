"""One pass of records through the network, from which every score is made."""

from typing import Generic, NamedTuple

import torch
from torch import Tensor

from training.network.parts import BatchT, ParametersT
from training.network.posterior import Posterior
from training.network.vae import VAE, VAEOf

_NUMBERS = 2**18
"""In the widest layer of one pass: more leave the cache, and of a table of a thousand columns they fill the memory."""


def records_a_pass(vae: VAE, draws: int, numbers: int = _NUMBERS) -> int:
    """How many records to send through the network at once; one at least.

    Args:
        vae: The model.
        draws: L of each record.
        numbers: That the widest layer may hold.
    """
    return max(1, numbers // (vae.widest * draws))


class Inference(NamedTuple, Generic[ParametersT]):
    """What B records and L draws give.

    Args:
        posterior: q(z|x), (B, K) each.
        deviation: sigma, (B, K).
        likelihood: log p(x|z_l), (L, B) nats. Draws come first, see `JointLikelihood.log_prob_of_records`.
        expected: 1/L sum_l log p(x|z_l), (B,) nats.
        kl: KL(q(z|x) || p(z)), (B,) nats.
        reconstruction: Parameters of p(x|z) at the posterior's mean, (B, …) each.
    """

    posterior: Posterior
    deviation: Tensor
    likelihood: Tensor
    expected: Tensor
    kl: Tensor
    reconstruction: ParametersT


def infer(vae: VAEOf[BatchT, ParametersT], batch: BatchT, noise: Tensor) -> Inference[ParametersT]:
    """Encode, draw, decode and weigh.

    Args:
        vae: The model.
        batch: B records.
        noise: eps, (L, K) float32, shared by all records.
    """
    posterior = vae.posterior(batch)
    deviation = torch.exp(0.5 * posterior.log_variance)
    latent = posterior.mean + deviation * noise.unsqueeze(1)
    likelihood = vae.likelihood.log_prob_of_records(batch, vae.decode(latent))
    return Inference(
        posterior,
        deviation,
        likelihood,
        expected=likelihood.mean(dim=0),
        kl=vae.kl(posterior),
        reconstruction=vae.decode(posterior.mean),
    )
