"""How far a record lies from the nearest of the training records."""

import torch
from torch import Tensor, nn

CORESET_ROWS = 2000
"""Training records that a bundle keeps, drawn at random."""
_SOFTENING = 1e-2
"""Added to the squared distance: near 0 its root would magnify what float32 rounds."""


class Neighbours(nn.Module):
    """The distance to the nearest point of a coreset, or to the one of a given rank.

    The k-th nearest of all N training records is about as far as the nearest of N / k of them, so a coreset stands
    in for a larger k, and the graph need not sort.

    Args:
        points: (n, D) positions of training records.
        rank: 1 for the nearest, 2 for the second nearest, and so on; above 1 where some points may be anomalies,
            whose like would otherwise seem near.

    Reference:
        Ramaswamy, Rastogi & Shim 2000 (distance to the k-th neighbour); Wu & Jermaine 2006 and Sugiyama & Borgwardt
        2013, "Rapid distance-based outlier detection via sampling" (the nearest of a sample).
    """

    centre: Tensor
    directions: Tensor
    squares: Tensor

    def __init__(self, points: Tensor, rank: int = 1) -> None:
        super().__init__()
        self.rank = rank
        centre = points.mean(dim=0)
        centred = points - centre
        self.register_buffer("centre", centre)
        self.register_buffer("directions", (-2.0 * centred.T).contiguous())
        self.register_buffer("squares", (centred * centred).sum(dim=1))

    def among_themselves(self) -> Tensor:
        """(n,) distance of each point to the nearest of the others, or to the one of the rank."""
        squared = (self.directions.T @ self.directions) * -0.5 + self.squares + self.squares.unsqueeze(1)
        squared.fill_diagonal_(torch.inf)
        return torch.sqrt(self._of_rank(squared, min(self.rank, len(squared) - 1)).clamp(min=0.0) + _SOFTENING)

    def forward(self, positions: Tensor) -> Tensor:
        """Distances.

        Args:
            positions: (B, D).

        Returns:
            (B,), 0.1 at least.
        """
        centred = positions - self.centre
        # |a - b|^2 written out, because the distance itself does not export.
        others = self._of_rank(torch.addmm(self.squares, centred, self.directions), self.rank)
        squared = (centred * centred).sum(dim=1) + others
        return torch.sqrt(squared.clamp(min=0.0) + _SOFTENING)

    @staticmethod
    def _of_rank(squared: Tensor, rank: int) -> Tensor:
        # Sorting costs more than looking for the least.
        return squared.amin(dim=1) if rank <= 1 else squared.topk(rank, dim=1, largest=False).values[:, -1]
