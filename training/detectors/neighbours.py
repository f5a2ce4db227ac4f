"""How far a record lies from the nearest of the points that stand for the training records."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

SOFTENING = 1.0
"""Added to a squared distance, in standardised units: near 0 its root would magnify what float32 rounds."""


class Neighbours(nn.Module):
    """The squared distance to the nearest point of a coreset.

    The k-th nearest of all N training records is about as far as the nearest of N / k points that stand for them, so a
    coreset stands in for a larger k, and the graph need not sort.

    Args:
        points: (n, D) positions of training records, or of what stands for them.

    Reference:
        Ramaswamy, Rastogi & Shim 2000 (distance to the k-th neighbour); Sugiyama & Borgwardt 2013, "Rapid
        distance-based outlier detection via sampling" (the nearest of a few).
    """

    free_axes: ClassVar[Mapping[str, int]] = {"squares": 0, "directions": 1}
    """The axis of each buffer that is as long as there are points: a graph is the same for any number of them."""

    centre: Tensor
    squares: Tensor
    directions: Tensor

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        centre = points.mean(dim=0)
        centred = points - centre
        self.register_buffer("centre", centre)
        self.register_buffer("squares", (centred * centred).sum(dim=1))
        # In place: in many columns each copy is large.
        self.register_buffer("directions", centred.mul_(-2.0).T.contiguous())

    def among_themselves(self) -> Tensor:
        """(n, 1) squared distance of each point to the nearest of the others, softened as below."""
        squared = (self.directions.T @ self.directions) * -0.5 + self.squares + self.squares.unsqueeze(1)
        squared.fill_diagonal_(torch.inf)
        return squared.amin(dim=1, keepdim=True).clamp(min=0.0) + SOFTENING

    def forward(self, positions: Tensor) -> Tensor:
        """Squared distances.

        Args:
            positions: (B, D).

        Returns:
            (B, 1), `SOFTENING` at least.
        """
        # |a - b|^2 written out, because the distance itself does not export.
        centred = positions - self.centre
        others = torch.addmm(self.squares, centred, self.directions).amin(dim=1, keepdim=True)
        return ((centred * centred).sum(dim=1, keepdim=True) + others).clamp(min=0.0) + SOFTENING
