"""The networks of a table's records: dense ones, the decoder mirroring the encoder."""

import math

import torch
from torch import nn

from bundle.record.schema import TableSchema
from training.config import NetworkConfig
from training.errors import ConfigInvalid
from training.network.networks import dense
from training.network.parts import Parts
from training.table.batch import Preprocess, Standardised
from training.table.likelihood import JointLikelihood, Parameters

USUAL = "dense"
"""The one kind of network that a table's records take."""


def build(schema: TableSchema, config: NetworkConfig, codes: int) -> Parts[Standardised, Parameters]:
    """What a VAE of tables is made of.

    Args:
        schema: The fields with their statistics.
        config: Sizes of the networks.
        codes: Numbers a latent dimension that the encoder gives: 2, mean and log-variance; or 1, the code itself.

    Raises:
        ConfigInvalid: A kind of network that is for images.
    """
    if config.kind not in (None, USUAL):
        raise ConfigInvalid(f"network.kind = {config.kind!r} is for images; the records of a table take a dense one")
    preprocess, likelihood = Preprocess(schema), JointLikelihood(schema)
    latent_size = config.latent_size or math.ceil(1.5 * math.sqrt(preprocess.width))
    encoder = dense(preprocess.width, config.hidden, codes * latent_size, config.activation)
    decoder = dense(latent_size, config.hidden[::-1], likelihood.outputs, config.activation)
    last = decoder[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.copy_(likelihood.initial_bias())
    linear = (layer for network in (encoder, decoder) for layer in network if isinstance(layer, nn.Linear))
    widest = max(layer.out_features for layer in linear)
    return Parts(preprocess, likelihood, encoder, decoder, latent_size, widest, large=False)
