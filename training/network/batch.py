"""What training and scoring ask of a batch of records, whatever these are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Record = Mapping[str, npt.NDArray[np.generic]]
"""The bundle's record tensors, by name, B records each."""


class Batch(Protocol):
    """Records as the networks take them; see `Standardised` and `Images`."""

    @property
    def rows(self) -> int:
        """B."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    def pieces(self, rows: int) -> Iterator["Batch"]:
        """The records in order, so many at a time."""

    def to(self, device: torch.device) -> "Batch":
        """The same in a device's memory; itself where it is there already."""

    def take(self, rows: Tensor) -> "Batch":
        """The records at the positions `rows` (n,) int64."""

    def own_terms(self) -> Sequence[Tensor]:
        """Summands of its scores that no network gives, (B,) each, in the score's unit."""

    def broken(self) -> Tensor:
        """(fields,) bool: which fields hold a NaN or an infinity, those that can come first."""
