"""How unusual a record's own statistics are, in both directions: a likelihood that is too high counts too."""

import torch
from torch import Tensor, nn

_SHRINKAGE = 0.1
"""Share of the identity in the correlations, so that few records and statistics that are alike will do."""


class Typicality(nn.Module):
    """The Mahalanobis distance of a record's statistics from those of held-out normal records.

    Args:
        statistics: (n, S) of normal records that the network was not fitted on, each brought to one scale.

    Reference:
        Nalisnick et al. 2019, "Detecting out-of-distribution inputs to deep generative models using typicality";
        Morningstar et al. 2021, "Density of states estimation"; Lee et al. 2018 for the distance.
    """

    centre: Tensor
    whitening: Tensor

    def __init__(self, statistics: Tensor) -> None:
        super().__init__()
        centre = statistics.double().mean(dim=0)
        centred = statistics.double() - centre
        covariance = centred.T @ centred / max(1, len(statistics) - 1)
        identity = torch.eye(len(covariance), dtype=torch.float64)
        values, vectors = torch.linalg.eigh((1 - _SHRINKAGE) * covariance + _SHRINKAGE * identity)
        self.register_buffer("centre", centre.float())
        self.register_buffer("whitening", (vectors / torch.sqrt(values)).float())

    def forward(self, statistics: Tensor) -> Tensor:
        """(B, S) to (B,) distances, 0 at least."""
        white = (statistics - self.centre) @ self.whitening
        return torch.sqrt((white * white).sum(dim=-1))
