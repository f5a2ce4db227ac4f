"""A batch of images, and what of it the network sees."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bundle.record.fields import ImageField
from training.image.statistics import code_length

HALF = 127.5
"""Levels from the middle of the range to either end."""


class Images(NamedTuple):
    """A batch of images.

    Args:
        pixels: (B, H, W, C) uint8, as they come: floats would take four times the memory.
    """

    pixels: Tensor

    @property
    def levels(self) -> Tensor:
        """(B, C, H, W) float32, whole numbers from 0 to 255."""
        # A cast first: not every device moves 8-bit numbers about.
        return self.pixels.float().permute(0, 3, 1, 2)

    @property
    def rows(self) -> int:
        """B."""
        return len(self.pixels)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.pixels.device

    def pieces(self, rows: int) -> Iterator["Images"]:
        """The images in order, so many at a time."""
        for start in range(0, self.rows, rows):
            yield Images(self.pixels[start : start + rows])

    def to(self, device: torch.device) -> "Images":
        """The same in a device's memory."""
        return Images(self.pixels.to(device))

    def take(self, rows: Tensor) -> "Images":
        """The images at the positions `rows` (n,) int64."""
        return Images(self.pixels.index_select(0, rows))

    def own_terms(self) -> Sequence[Tensor]:
        """The code length, in bits."""
        return (code_length(self.levels),)

    def broken(self) -> Tensor:
        """(1,) bool: never; levels are whole numbers."""
        return torch.zeros(1, dtype=torch.bool)


class ImagePreprocess(nn.Module):
    """From a bundle's image tensor to the network's input.

    Args:
        field: The image.
    """

    def __init__(self, field: ImageField) -> None:
        super().__init__()
        self.shape = (field.channels, field.height, field.width)

    def standardise(self, record: Mapping[str, Tensor]) -> Images:
        """A batch of what is given.

        Args:
            record: `image` (B, H, W, C) uint8.
        """
        return Images(record["image"])

    def forward(self, batch: Images) -> Tensor:
        """(B, C, H, W) float32 from -1 to 1."""
        return batch.levels / HALF - 1.0
