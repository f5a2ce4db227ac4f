"""The variational autoencoder: encoder, decoder and likelihood held together; it draws z from given noise."""

from collections.abc import Mapping
from typing import Any, Generic

import torch
from torch import Tensor, nn

from training.network.networks import through
from training.network.parts import BatchT, Likelihood, ParametersT, Parts, Preprocess
from training.network.posterior import Posterior, kl_by_dimension

LOG_VARIANCE_BOUND = 12.0
"""The posterior's log-variance is clipped to this on either side, so that no run ends in NaN."""


class VAEOf(nn.Module, Generic[BatchT, ParametersT]):
    """A variational autoencoder (Kingma & Welling 2014), whatever a record is.

    Args:
        parts: What it is made of.
        deterministic: Whether the encoder gives a point in place of a distribution: an autoencoder, which has no KL.
    """

    def __init__(self, parts: Parts[BatchT, ParametersT], *, deterministic: bool = False) -> None:
        super().__init__()
        self.deterministic = deterministic
        self.precision = torch.float32
        """Of all layers but the last of each network; another one while a GPU trains."""
        self.preprocess: Preprocess[BatchT] = parts.preprocess
        self.likelihood: Likelihood[BatchT, ParametersT] = parts.likelihood
        self.encoder = parts.encoder
        self.decoder = parts.decoder
        self.latent_size = parts.latent_size
        """K."""
        self.widest = parts.widest
        """Numbers of one record in the widest layer."""
        self.large = parts.large
        """Whether a record costs as much as many rows of a table."""

    def standardise(self, record: Mapping[str, Tensor]) -> BatchT:
        """A batch as the networks take it."""
        return self.preprocess.standardise(record)

    def posterior(self, batch: BatchT) -> Posterior:
        """q(z|x) of B records."""
        return self.encode(self.preprocess(batch))

    def encode(self, inputs: Tensor) -> Posterior:
        """q(z|x) from what the network sees, (…, width) or (B, C, H, W)."""
        if self.deterministic:
            mean = through(self.encoder, inputs, self.precision)
            return Posterior(mean, torch.full_like(mean, -torch.inf))
        mean, free = through(self.encoder, inputs, self.precision).chunk(2, dim=-1)
        return Posterior(mean, free.clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND))

    def kl_by_dimension(self, posterior: Posterior) -> Tensor:
        """KL(q(z|x) || p(z)) by latent dimension, (B, K) nats; 0 of a deterministic code, which has none."""
        return torch.zeros_like(posterior.mean) if self.deterministic else kl_by_dimension(posterior)

    def kl(self, posterior: Posterior) -> Tensor:
        """The sum of these, (B,) nats."""
        return self.kl_by_dimension(posterior).sum(dim=-1)

    @staticmethod
    def draw(posterior: Posterior, noise: Tensor) -> Tensor:
        """z_l = mu + sigma * eps_l.

        Args:
            posterior: Of B records.
            noise: eps, (L, K) shared by all records or (B, L, K).

        Returns:
            (B, L, K)

        Reference:
            Kingma & Welling 2014, section 2.4.
        """
        return posterior.mean.unsqueeze(1) + torch.exp(0.5 * posterior.log_variance).unsqueeze(1) * noise

    def decode(self, latent: Tensor) -> ParametersT:
        """Parameters of p(x|z) for latents of shape (…, K)."""
        # Flat, because each layer would otherwise flatten and unflatten for itself, and convolutions take no more.
        raw = through(self.decoder, latent.reshape(-1, self.latent_size), self.precision)
        return self.likelihood(raw.reshape(*latent.shape[:-1], *raw.shape[1:]))


VAE = VAEOf[Any, Any]
"""Of tables or of images, where it makes no difference; what `standardise` gives goes into the same VAE alone."""
