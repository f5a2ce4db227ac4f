"""What is served: every score of a record from the same draws, as modules that become the exported graphs."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.network.batch import Batch
from training.network.inference import Inference, infer
from training.network.vae import VAE

_LIKELIHOODS = ("log_reconstruction_probability", "elbo", "iwae", "expected_log_likelihood")
LIKELIHOOD_OUTPUTS = (*_LIKELIHOODS, "latent_mean")


def log_mean_exp(values: Tensor) -> Tensor:
    """log(1/L sum_l exp(values_l)) over the first dimension, without underflow.

    Args:
        values: (L, …).

    Returns:
        (…,)
    """
    largest = values.amax(dim=0)
    return largest + torch.exp(values - largest).mean(dim=0).log()


class OtherScores(Protocol):
    """The scores beyond the likelihood's own, of one modality: a module."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the scores."""

    def __call__(self, vae: VAE, batch: Batch, inference: Inference[Any]) -> tuple[Tensor, ...]:
        """Each score of B records, (B,) in the order of `names`."""


class ScoringNetwork(nn.Module):
    """Every score of a record; the hot path.

    Args:
        vae: The trained model.
        components: The scores beyond the likelihood's own, or None for a graph without them.
    """

    def __init__(self, vae: VAE, components: OtherScores | None) -> None:
        super().__init__()
        self.vae = vae
        self.components = components
        others = () if components is None else components.names
        likelihoods = ("expected_log_likelihood",) if vae.deterministic else _LIKELIHOODS
        self.names = (*likelihoods, *others, "latent_mean")

    def forward(self, record: dict[str, Tensor], noise: Tensor) -> tuple[Tensor, ...]:
        """Score B records with L draws.

        Args:
            record: The bundle's record tensors, B records.
            noise: eps, (L, K) float32.

        Returns:
            In the order of `names`, (B,) float32 each, and the latent mean (B, K). In nats:
            log(1/L sum_l p(x|z_l)) (An & Cho 2015, Algorithm 4), the ELBO (Kingma & Welling 2014, eq. 10),
            log(1/L sum_l p(x, z_l) / q(z_l|x)) (Burda et al. 2016, eq. 8), and 1/L sum_l log p(x|z_l); then what
            `components` gives. Of an autoencoder log p(x|z(x)) and the code alone.
        """
        batch = self.vae.standardise(record)
        inference = infer(self.vae, batch, noise)
        likelihood, kl = inference.likelihood, inference.kl
        deviation, mean = inference.deviation, inference.posterior.mean
        if self.vae.deterministic:
            return inference.expected, mean
        # log p(z_l) - log q(z_l|x): its mean over q is -KL, and the rest is linear in eps and its square, so that two
        # small products give it for all draws.
        ratio = 0.5 * (noise * noise - 1.0) @ (1.0 - deviation * deviation).T - noise @ (mean * deviation).T
        scores = (
            log_mean_exp(likelihood),
            inference.expected - kl,
            log_mean_exp(likelihood + (ratio - kl)),
            inference.expected,
        )
        others = () if self.components is None else self.components(self.vae, batch, inference)
        return (*scores, *others, mean)


class ExplainerModule(nn.Module):
    """Why a record is strange: what becomes `explainer.onnx`, of either modality.

    Args:
        vae: The trained model.
    """

    names: tuple[str, ...]
    """Of the outputs."""
    fields: int
    """Of a record."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae


class Encoder(nn.Module):
    """From record tensors to `latent_mean` and `latent_log_variance`, (B, K) each."""

    names = ("latent_mean", "latent_log_variance")

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, record: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """q(z|x) of B records."""
        posterior = self.vae.posterior(self.vae.standardise(record))
        return posterior.mean, posterior.log_variance


class Decoder(nn.Module):
    """From `latent` (B, K) to the parameters of p(x|z)."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae
        self.names: tuple[str, ...] = vae.likelihood.parameter_names

    def forward(self, latent: Tensor) -> tuple[Tensor, ...]:
        """Parameters in the order of `names`; a variance or a scale that is fixed is repeated for every record."""
        parameters: tuple[Tensor, ...] = self.vae.likelihood.spread(self.vae.decode(latent))
        return parameters
