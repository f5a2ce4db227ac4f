"""Dense networks: the encoder's and the decoder's trunk."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

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
