"""The variational autoencoder: encoder, decoder and likelihood held together; it draws z from given noise."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bundle.fields import RecordSchema
from training.config import NetworkConfig
from training.likelihoods import JointLikelihood, Parameters, categorical
from training.networks import dense
from training.preprocess import BOUND, Preprocess, Standardised, join

LOG_VARIANCE_BOUND = 12.0
"""The posterior's log-variance is clipped to this on either side, so that no run ends in NaN."""


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag exp(log_variance)); both (B, K) float32."""

    mean: Tensor
    log_variance: Tensor


class VAE(nn.Module):
    """A variational autoencoder of tabular records (Kingma & Welling 2014).

    Args:
        schema: The fields with their statistics.
        config: Widths and activation; the decoder mirrors the encoder.
    """

    def __init__(self, schema: RecordSchema, config: NetworkConfig) -> None:
        super().__init__()
        self.preprocess = Preprocess(schema)
        self.likelihood = JointLikelihood(schema)
        self.latent_size = config.latent_size or math.ceil(1.5 * math.sqrt(self.preprocess.width))
        self.encoder = dense(self.preprocess.width, config.hidden, 2 * self.latent_size, config.activation)
        self.decoder = dense(self.latent_size, config.hidden[::-1], self.likelihood.outputs, config.activation)
        last = self.decoder[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(self.likelihood.initial_bias())

    def standardise(self, record: Mapping[str, Tensor]) -> Standardised:
        """See `Preprocess.standardise`."""
        return self.preprocess.standardise(record)

    def posterior(self, batch: Standardised) -> Posterior:
        """q(z|x) of B records."""
        return self.encode(self.preprocess(batch))

    def encode(self, inputs: Tensor) -> Posterior:
        """q(z|x) from what the network sees, (…, width)."""
        mean, free = self.encoder(inputs).chunk(2, dim=-1)
        return Posterior(mean, free.clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND))

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

    def decode(self, latent: Tensor) -> Parameters:
        """Parameters of p(x|z) for latents of shape (…, K)."""
        # Flat, because each layer would otherwise flatten and unflatten for itself.
        raw = self.decoder(latent.reshape(-1, self.latent_size)).reshape(*latent.shape[:-1], -1)
        parameters: Parameters = self.likelihood(raw)
        return parameters

    def expected_inputs(self, parameters: Parameters) -> Tensor:
        """What the encoder would see of the values that the decoder expects, with none missing.

        Args:
            parameters: Of p(x|z), any leading shape.

        Returns:
            (…, width) float32: as `Preprocess.forward`, with probabilities in place of booleans and categories.
        """
        columns = []
        if parameters.numeric_mean.shape[-1]:
            columns.append(BOUND * torch.tanh(parameters.numeric_mean / BOUND))
        if self.likelihood.booleans:
            columns.append(2.0 * torch.sigmoid(parameters.boolean_logits) - 1.0)
        if sizes := self.likelihood.sizes:
            probabilities = torch.exp(categorical(parameters.categorical_logits, sizes))
            columns.append(probabilities.index_select(-1, self.likelihood.known))
        if gaps := len(self.preprocess.gaps):
            columns.append(torch.zeros_like(columns[0][..., :1]).expand(*columns[0].shape[:-1], gaps))
        return join(columns)
