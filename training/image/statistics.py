"""What an image says of itself, without any network: how long its code is, and how rough it is at every scale."""

import torch
from torch import Tensor
from torch.nn import functional

_MOST_SCALES = 4
_LEAST_ENERGY = 1e-6
"""Added to a mean square of levels over 255: of a constant image it is 0."""


def code_length(levels: Tensor) -> Tensor:
    """How many bits a simple lossless code takes for an image.

    The residual r of each level, from what the median edge predictor makes of its left, upper and upper left
    neighbours (0 outside), costs 2 log2(1 + |r|) + 1 bits, as an Elias gamma code of 1 + |r| does without rounding.

    Args:
        levels: (B, C, H, W) float32, whole numbers from 0 to 255.

    Returns:
        (B,) bits.

    Reference:
        Weinberger, Seroussi & Sapiro 2000, "The LOCO-I lossless image compression algorithm", section III-A; Elias
        1975, "Universal codeword sets".
    """
    padded = functional.pad(levels, (1, 0, 1, 0))
    left, above, corner = padded[:, :, 1:, :-1], padded[:, :, :-1, 1:], padded[:, :, :-1, :-1]
    high, low = torch.maximum(left, above), torch.minimum(left, above)
    # The plane through all three, held between the first two: at an edge that is the one that continues it.
    predicted = torch.minimum(torch.maximum(left + above - corner, low), high)
    return (2.0 * torch.log2(1.0 + (levels - predicted).abs()) + 1.0).sum(dim=(1, 2, 3))


def roughness(levels: Tensor) -> Tensor:
    """How much neighbouring levels differ, along and across, at full size and at a half, a quarter and an eighth.

    Args:
        levels: (B, C, H, W) float32, from 0 to 255.

    Returns:
        (B, 2 S) log of the mean square difference of levels over 255; S is 4, or as many as leave two pixels a side.
    """
    shares = levels / 255.0
    found = []
    for scale in range(scales(levels.shape[2], levels.shape[3])):
        shrunk = functional.avg_pool2d(shares, 2**scale)
        across = shrunk[:, :, :, 1:] - shrunk[:, :, :, :-1]
        along = shrunk[:, :, 1:] - shrunk[:, :, :-1]
        found += [(each * each).mean(dim=(1, 2, 3)) for each in (across, along)]
    return torch.log(torch.stack(found, dim=1) + _LEAST_ENERGY)


def scales(height: int, width: int) -> int:
    """S of `roughness`; 0 for an image of one pixel a side."""
    return min(_MOST_SCALES, min(height, width).bit_length() - 1)
