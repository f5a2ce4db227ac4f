"""Brings statistics of any unit to one scale: how many robust deviations from the median, large ones compressed."""

import torch
from torch import Tensor, nn

_FURTHEST = 1e18
"""Its square is the largest that float32 holds with room to spare; what lies beyond is as strange."""
_LEAST_SHARE = 1e-2
"""Of the median; a smaller scale would magnify what float32 rounds."""
_MAD_TO_DEVIATION = 1.4826
"""Of a normal distribution."""


def asinh(values: Tensor) -> Tensor:
    """The inverse hyperbolic sine, element by element: the value itself near 0, its logarithm further out.

    Written out, because the operator does not run on every device.
    """
    size = values.abs().clamp(max=_FURTHEST)
    return torch.sign(values) * torch.log(size + torch.sqrt(size * size + 1.0))


class RobustScale(nn.Module):
    """(value - median) / (1.4826 MAD), compressed by the inverse hyperbolic sine, which keeps order and tail.

    Args:
        values: (n, S) statistics of normal records that the network was not fitted on.
        least: (S,) the smallest scales.

    Reference:
        Rousseeuw & Croux 1993, "Alternatives to the median absolute deviation".
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, values: Tensor, least: Tensor) -> None:
        super().__init__()
        centre = values.median(dim=0).values
        deviation = _MAD_TO_DEVIATION * (values - centre).abs().median(dim=0).values
        self.register_buffer("centre", centre)
        self.register_buffer("scale", deviation.maximum(least).maximum(_LEAST_SHARE * centre.abs()))

    def deviations(self, values: Tensor) -> Tensor:
        """(…, S) to (…, S), not compressed."""
        return (values - self.centre) / self.scale

    def forward(self, values: Tensor) -> Tensor:
        """(…, S) to (…, S)."""
        return asinh(self.deviations(values))
