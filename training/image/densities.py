"""p(x|z) of a pixel: log-probabilities in nats with every normalising constant, in plain tensor arithmetic."""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

LEVELS = 256
_NEAR = 0.3
"""Half a logit below which the continuous Bernoulli's normaliser is a series, and the logit below which its mean is
one; the closed forms divide 0 by 0 at 0."""


def discretised_logistic(level: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log of the mass that a logistic distribution has between the borders of a level; the end levels take the tails.

    Args:
        level: (…) float, whole numbers from 0 to 255.
        mean: (…) in levels.
        log_scale: (…) log of the scale in levels; a deviation is 1.81 scales.

    Returns:
        (…) nats; the masses of all 256 levels sum to 1.

    Reference:
        Salimans et al. 2017, "PixelCNN++", section 2.1, with one component.
    """
    inverse = torch.exp(-log_scale)
    distance = (level - mean).abs()
    # The mass is sinh h / (cosh h + cosh t) with h half a level and t the distance, both in scales. Written with the
    # larger of the two taken out, so that nothing overflows, and from |x - mean| - 1/2, which is exact near the border.
    beyond, half, further = (distance - 0.5) * inverse, 0.5 * inverse, distance * inverse
    outside, inside = -beyond.clamp(min=0.0), beyond.clamp(max=0.0)
    largest = torch.maximum(half, further)
    others = torch.exp(-half - largest) + torch.exp(-further - largest)
    mass = outside + torch.log(1.0 - torch.exp(-inverse)) - torch.log(torch.exp(outside) + torch.exp(inside) + others)
    lowest = -softplus((mean - 0.5) * inverse)
    highest = -softplus((LEVELS - 1.5 - mean) * inverse)
    return torch.where(level < 0.5, lowest, torch.where(level > LEVELS - 1.5, highest, mass))


def continuous_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    """log density of a continuous Bernoulli with parameter sigmoid(logits).

    Args:
        value: (…) from 0 to 1.
        logits: (…)

    Returns:
        (…) nats.

    Reference:
        Loaiza-Ganem & Cunningham 2019, "The continuous Bernoulli: fixing a pervasive error in variational
        autoencoders", eq. 3 and 5.
    """
    return cross_entropy(value, logits) + continuous_bernoulli_normaliser(logits)


def continuous_bernoulli_normaliser(logits: Tensor) -> Tensor:
    """log C, C being 2 artanh(1 - 2 p) / (1 - 2 p) with p = sigmoid(logits): twice y / tanh(y) with y = logits / 2."""
    half = 0.5 * logits.abs()
    far = half.clamp(min=_NEAR)
    near = half.clamp(max=_NEAR)
    square = near * near
    series = square * (1 / 3 + square * (-7 / 90 + square * (62 / 2835 + square * (-127 / 18900))))
    closed = torch.log(far) - torch.log(torch.tanh(far))
    return math.log(2.0) + torch.where(half < _NEAR, series, closed)


def continuous_bernoulli_mean(logits: Tensor) -> Tensor:
    """(…) mean of the continuous Bernoulli of these logits, 1 / (1 - exp(-logit)) - 1 / logit; 1/2 at 0.

    Reference:
        Loaiza-Ganem & Cunningham 2019, eq. 9.
    """
    far = torch.where(logits.abs() < _NEAR, torch.full_like(logits, _NEAR), logits)
    near = logits.clamp(-_NEAR, _NEAR)
    square = near * near
    series = near * (1 / 12 + square * (-1 / 720 + square * (1 / 30240)))
    closed = 0.5 / torch.tanh(0.5 * far) - 1.0 / far
    return 0.5 + torch.where(logits.abs() < _NEAR, series, closed)


def cross_entropy(value: Tensor, logits: Tensor) -> Tensor:
    """x log p + (1 - x) log(1 - p) with p = sigmoid(logits): log Bernoulli where x is 0 or 1, else no probability.

    Args:
        value: (…) from 0 to 1.
        logits: (…)

    Returns:
        (…) nats.
    """
    # Each term by itself: x * logits - softplus(logits) loses everything where both are large.
    return -value * softplus(-logits) - (1.0 - value) * softplus(logits)
