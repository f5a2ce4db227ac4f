"""The last layer of a network, whose weights tests set."""

from torch import nn


def last(network: nn.Sequential) -> nn.Linear:
    """Of a dense network."""
    layer = network[-1]
    assert isinstance(layer, nn.Linear)
    return layer
