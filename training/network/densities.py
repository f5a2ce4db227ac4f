"""Log-probabilities of one value, in nats with every normalising constant, whatever a record is."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus


def join(columns: list[Tensor]) -> Tensor:
    """Columns of several kinds side by side, along the last dimension; a single part is not copied."""
    return columns[0] if len(columns) == 1 else torch.cat(columns, dim=-1)


def gaussian(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(value; mean, exp(log_variance)), element by element, in nats."""
    difference = value - mean
    # No `square`: it becomes Pow, which ONNX Runtime takes twice as long for.
    return -0.5 * (math.log(2 * math.pi) + log_variance + difference * difference / torch.exp(log_variance))


def student_t(value: Tensor, mean: Tensor, log_variance: Tensor, degrees: Tensor, normaliser: Tensor) -> Tensor:
    """log of Student's t density with location `mean` and squared scale exp(log_variance), in nats.

    Args:
        value: (…, F)
        mean: (…, F)
        log_variance: (…, F), of the scale: the variance is degrees / (degrees - 2) times as large.
        degrees: (F,) degrees of freedom, above 2.
        normaliser: (F,) of `student_t_normaliser`; a constant, because `lgamma` does not export.
    """
    difference = value - mean
    ratio = difference * difference / (degrees * torch.exp(log_variance))
    return normaliser - 0.5 * (log_variance + (degrees + 1.0) * torch.log(1.0 + ratio))


def student_t_normaliser(degrees: Tensor) -> Tensor:
    """log Gamma((n + 1) / 2) - log Gamma(n / 2) - 1/2 log(n pi) for n degrees of freedom, in nats."""
    return torch.lgamma((degrees + 1) / 2) - torch.lgamma(degrees / 2) - 0.5 * torch.log(degrees * math.pi)


def bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    """log Bernoulli(value; sigmoid(logits)), element by element, in nats; `value` is 0 or 1."""
    return -softplus((1.0 - 2.0 * value) * logits)


def categorical(logits: Tensor, sizes: Sequence[int]) -> Tensor:
    """log Categorical(code; softmax(logits)) for every code of every field, in nats.

    Args:
        logits: (…, S), the slots of each field together.
        sizes: How many slots each field has; S in all.

    Returns:
        (…, S)
    """
    return join([log_softmax(slots, dim=-1) for slots in split(logits, sizes)])


def split(columns: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    """Columns that stand side by side, apart; the reverse of `join`, and a single part is not copied either."""
    if len(sizes) == 1:
        return (columns,)
    return torch.split(columns, list(sizes), dim=-1)
