"""How far a record lies from the nearest of the points that stand for the training records."""

import torch
from torch import Tensor, nn

SOFTENING = 1e-2
"""Added to a squared distance: near 0 its root would magnify what float32 rounds."""


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

    directions: Tensor
    squares: Tensor

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions", (-2.0 * points.T).contiguous())
        self.register_buffer("squares", (points * points).sum(dim=1))

    def among_themselves(self) -> Tensor:
        """(n, 1) squared distance of each point to the nearest of the others, softened as below."""
        squared = (self.directions.T @ self.directions) * -0.5 + self.squares + self.squares.unsqueeze(1)
        squared.fill_diagonal_(torch.inf)
        return squared.amin(dim=1, keepdim=True).clamp(min=0.0) + SOFTENING

    def forward(self, positions: Tensor) -> Tensor:
        """Squared distances.

        Args:
            positions: (B, D), about 0, or float32 would round what is squared here.

        Returns:
            (B, 1), `SOFTENING` at least.
        """
        # |a - b|^2 written out, because the distance itself does not export.
        others = torch.addmm(self.squares, positions, self.directions).amin(dim=1, keepdim=True)
        return ((positions * positions).sum(dim=1, keepdim=True) + others).clamp(min=0.0) + SOFTENING
