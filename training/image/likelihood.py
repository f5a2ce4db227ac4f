"""p(x|z) of an image: independent pixels and channels given z, in nats."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bundle.record.fields import ImageField
from training.image.batch import HALF, Images
from training.image.densities import (
    LEVELS,
    continuous_bernoulli,
    continuous_bernoulli_mean,
    cross_entropy,
    discretised_logistic,
)
from training.network.densities import gaussian

LARGEST_SCALE = 64.0
"""Ceiling of a learned scale, in levels: a quarter of the range."""
_LEARNS = ("discretised-logistic", "gaussian")
_LOGITS = ("bernoulli", "continuous-bernoulli")


class ImageParameters(NamedTuple):
    """Parameters of p(x|z), for any leading shape.

    Args:
        location: (…, C, H, W): the mean in levels, or the logit.
        log_scale: (…, C, H, W), or (1,) where none is learned: log of the scale in levels; 0 with logits.
    """

    location: Tensor
    log_scale: Tensor


class ImageLikelihood(nn.Module):
    """The likelihood head of an image.

    Args:
        field: The image and its likelihood. `gaussian` and `fixed-gaussian` are densities of the level,
            `continuous-bernoulli` of the level over 255; `discretised-logistic` is a probability; so is `bernoulli`
            where every level is 0 or 255, and else it is a cross-entropy.
    """

    low: Tensor

    def __init__(self, field: ImageField) -> None:
        super().__init__()
        self.kind = field.likelihood
        self.fields = 1
        self.channels = field.channels
        self.learns = self.kind in _LEARNS
        self.has_logits = self.kind in _LOGITS
        self.outputs = self.channels * (2 if self.learns else 1)
        floor = field.minimum_scale if self.learns else field.fixed_scale
        self.register_buffer("low", torch.tensor([0.0 if self.has_logits else math.log(floor)]))
        self.span = math.log(max(LARGEST_SCALE, 2 * floor) / floor)

    def initial_bias(self) -> Tensor:
        """(outputs,) bias of each map of the decoder's last layer at the start: learned scales begin near a ceiling."""
        return torch.cat([torch.zeros(self.channels), torch.full((self.outputs - self.channels,), 2.0)])

    def forward(self, raw: Tensor) -> ImageParameters:
        """Parameters of p(x|z).

        Args:
            raw: (…, outputs, H, W) of the decoder's last layer.
        """
        if not self.learns:
            return ImageParameters(raw if self.has_logits else HALF + HALF * raw, self.low)
        location, free = raw.chunk(2, dim=-3)
        return ImageParameters(HALF + HALF * location, self.low + self.span * torch.sigmoid(free))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Of what `decoder.onnx` gives."""
        return ("image_location", "image_log_scale")

    def spread(self, parameters: ImageParameters) -> tuple[Tensor, ...]:
        """The location, a level or a logit, and the log of the scale in levels, (B, C, H, W) each."""
        return parameters.location, parameters.log_scale.expand_as(parameters.location)

    def log_prob_of_pixels(self, levels: Tensor, parameters: ImageParameters) -> Tensor:
        """(…, C, H, W) nats of each level; `levels` has that shape or spreads to it."""
        location, log_scale = parameters
        match self.kind:
            case "discretised-logistic":
                return discretised_logistic(levels, location, log_scale)
            case "gaussian" | "fixed-gaussian":
                return gaussian(levels, location, 2.0 * log_scale)
            case "continuous-bernoulli":
                return continuous_bernoulli(levels / (LEVELS - 1.0), location)
            case "bernoulli":
                return cross_entropy(levels / (LEVELS - 1.0), location)

    def log_prob(self, batch: Images, parameters: ImageParameters) -> Tensor:
        """log p(x | z_l) of parameters (B, L, …), (B, L, 1) nats: an image is one field."""
        pixels = self.log_prob_of_pixels(batch.levels.unsqueeze(1), parameters)
        return pixels.sum(dim=(-3, -2, -1)).unsqueeze(-1)

    def log_prob_of_records(self, batch: Images, parameters: ImageParameters) -> Tensor:
        """log p(x | z_l) of parameters (L, B, …), (L, B) nats."""
        return self.log_prob_of_pixels(batch.levels, parameters).sum(dim=(-3, -2, -1))

    def log_prob_of_gaps(self, batch: Images) -> Tensor:
        """(B, 1) zeros: an image is never missing."""
        return torch.zeros_like(batch.levels[:, 0, :1, 0])

    def expected(self, parameters: ImageParameters) -> Tensor:
        """(…, C, H, W) the level that is expected, from 0 to 255."""
        location = parameters.location
        match self.kind:
            case "bernoulli":
                return (LEVELS - 1.0) * torch.sigmoid(location)
            case "continuous-bernoulli":
                return (LEVELS - 1.0) * continuous_bernoulli_mean(location)
            case _:
                return location.clamp(0.0, LEVELS - 1.0)

    def residual(self, batch: Images, parameters: ImageParameters) -> Tensor:
        """(B, C * H * W) what is seen less what is expected, of parameters (B, …), in half ranges of levels."""
        return ((batch.levels - self.expected(parameters)) / HALF).flatten(1)
