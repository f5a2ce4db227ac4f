"""Dense networks: the encoder's and the decoder's trunk."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU, "tanh": nn.Tanh}


def dense(
    inputs: int, hidden: Sequence[int], outputs: int, activation: Literal["silu", "relu", "tanh"]
) -> nn.Sequential:
    """A multi-layer perceptron with a linear last layer.

    Args:
        inputs: Width of the input.
        hidden: Widths of the hidden layers, first to last.
        outputs: Width of the output.
        activation: After each hidden layer.

    Returns:
        A module from (…, inputs) to (…, outputs).
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), ACTIVATIONS[activation]()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def through(network: nn.Sequential, inputs: Tensor, precision: torch.dtype) -> Tensor:
    """What a network makes of its inputs, with all layers but the last in another precision.

    The last one gives means, logits and log-variances, which are summed over hundreds of pixels: bfloat16 holds no more
    than three digits of each.

    Args:
        network: Layers in order.
        inputs: (B, …) float32.
        precision: float32, or bfloat16 for training on a GPU.

    Returns:
        (B, …) float32.
    """
    if precision is torch.float32:
        outputs: Tensor = network(inputs)
        return outputs
    last = max(place for place, layer in enumerate(network) if any(True for _ in layer.parameters()))
    with torch.autocast(inputs.device.type, precision):
        hidden = network[:last](inputs)
    exact: Tensor = network[last:](hidden.float())
    return exact
