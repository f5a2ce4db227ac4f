"""What training and scoring ask of a batch of records, whatever these are."""

from collections.abc import Iterator
from typing import Protocol, Self

import torch
from torch import Tensor


class Batch(Protocol):
    """Records as the networks take them; see `Standardised` and `Images`."""

    @property
    def rows(self) -> int:
        """B."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    def pieces(self, rows: int) -> Iterator[Self]:
        """The records in order, so many at a time."""

    def to(self, device: torch.device) -> Self:
        """The same in a device's memory; itself where it is there already."""

    def take(self, rows: Tensor) -> Self:
        """The records at the positions `rows` (n,) int64."""

    def broken(self) -> Tensor:
        """(fields,) bool: which fields hold a NaN or an infinity, those that can come first."""
