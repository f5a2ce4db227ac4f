"""The variational autoencoder: encoder, decoder and likelihood held together; it draws z from given noise."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bundle.record.fields import ImageField, RecordSchema
from training import image_networks
from training.batch import Batch
from training.config import NetworkConfig
from training.errors import ConfigInvalid
from training.image_likelihood import ImageLikelihood
from training.images import ImagePreprocess
from training.likelihoods import JointLikelihood
from training.networks import dense, through
from training.posterior import Posterior, kl_by_dimension
from training.preprocess import Preprocess

LOG_VARIANCE_BOUND = 12.0
"""The posterior's log-variance is clipped to this on either side, so that no run ends in NaN."""


class VAE(nn.Module):
    """A variational autoencoder of tabular records or of images (Kingma & Welling 2014).

    Args:
        schema: The fields with their statistics.
        config: Kind and sizes of the networks; the decoder mirrors the encoder.
        deterministic: Whether the encoder gives a point in place of a distribution: an autoencoder, which has no KL.

    Raises:
        ConfigInvalid: A network that does not fit the records.
    """

    encoder: nn.Sequential
    decoder: nn.Sequential

    def __init__(self, schema: RecordSchema, config: NetworkConfig, *, deterministic: bool = False) -> None:
        super().__init__()
        self.deterministic = deterministic
        codes = 1 if deterministic else 2
        self.precision = torch.float32
        """Of all layers but the last of each network; another one while a GPU trains."""
        self.latent_size: int
        """K."""
        self.widest: int
        """Numbers of one record in the widest layer."""
        # Each kind of record has its own; both pairs are asked in the same words.
        self.preprocess: Any
        self.likelihood: Any
        self.of_images = bool(schema.image)
        """Whether records are images."""
        if schema.image:
            self._of_images(schema.image[0], config, codes)
        else:
            self._of_tables(schema, config, codes)

    def _of_tables(self, schema: RecordSchema, config: NetworkConfig, codes: int) -> None:
        if config.kind not in (None, "dense"):
            raise ConfigInvalid(
                f"network.kind = {config.kind!r} is for images; the records of a table take a dense one"
            )
        self.preprocess = Preprocess(schema)
        self.likelihood = JointLikelihood(schema)
        self.latent_size = config.latent_size or math.ceil(1.5 * math.sqrt(self.preprocess.width))
        self.encoder = dense(self.preprocess.width, config.hidden, codes * self.latent_size, config.activation)
        self.decoder = dense(self.latent_size, config.hidden[::-1], self.likelihood.outputs, config.activation)
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(self.likelihood.initial_bias())
        networks = (self.encoder, self.decoder)
        linear = (layer for network in networks for layer in network if isinstance(layer, nn.Linear))
        self.widest = max(layer.out_features for layer in linear)

    def _of_images(self, field: ImageField, config: NetworkConfig, codes: int) -> None:
        self.preprocess = ImagePreprocess(field)
        self.likelihood = ImageLikelihood(field)
        networks = image_networks.build(field, self.likelihood.outputs, config, codes)
        self.encoder, self.decoder, self.latent_size = networks
        self.widest = image_networks.widest(networks, field)
        image_networks.set_bias(self.decoder, self.likelihood.initial_bias(), field.height * field.width)

    def standardise(self, record: Mapping[str, Tensor]) -> Any:
        """A batch as the networks take it: `Standardised` or `Images`."""
        return self.preprocess.standardise(record)

    def posterior(self, batch: Batch) -> Posterior:
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

    def decode(self, latent: Tensor) -> Any:
        """Parameters of p(x|z) for latents of shape (…, K): `Parameters` or `ImageParameters`."""
        # Flat, because each layer would otherwise flatten and unflatten for itself, and convolutions take no more.
        raw = through(self.decoder, latent.reshape(-1, self.latent_size), self.precision)
        return self.likelihood(raw.reshape(*latent.shape[:-1], *raw.shape[1:]))
