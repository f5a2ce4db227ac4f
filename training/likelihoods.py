"""p(x|z): one head for each kind of field, its log-probability in nats with every normalising constant.

Written in plain tensor arithmetic, because that exports: `torch.distributions`, `logsigmoid` and
`binary_cross_entropy_with_logits` become Log(Sigmoid) in ONNX, which is -inf at a logit of -20.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from bundle.fields import NumericField, RecordSchema
from training.preprocess import Standardised, join

LARGEST_SCALE = 0.5
"""Ceiling of the learned standard deviation, in standardised units: half of the field's own, so that z has to explain
the rest, and no spread excuses a value ten deviations out. (With 1.0, 2 % of such values passed; 0.5 detects as much or
more on every set of benchmarks/tabular.py.)"""


class Parameters(NamedTuple):
    """Parameters of p(x|z), for any leading shape.

    Args:
        numeric_mean: (…, F) in standardised units.
        numeric_log_variance: (…, F), or (F,) where no variance is learned.
        boolean_logits: (…, G).
        categorical_logits: (…, sum of the fields' sizes); a field's slots stand together, unknown first.
    """

    numeric_mean: Tensor
    numeric_log_variance: Tensor
    boolean_logits: Tensor
    categorical_logits: Tensor


def gaussian(value: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(value; mean, exp(log_variance)), element by element, in nats."""
    return -0.5 * (math.log(2 * math.pi) + log_variance + (value - mean).square() * torch.exp(-log_variance))


def bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    """log Bernoulli(value; sigmoid(logits)), element by element, in nats; `value` is 0 or 1."""
    return -softplus((1.0 - 2.0 * value) * logits)


def categorical(code: Tensor, logits: Tensor) -> Tensor:
    """log Categorical(code; softmax(logits)) in nats.

    Args:
        code: (…,) int64.
        logits: (…, size), of leading dimensions that broadcast with those of `code`.

    Returns:
        (…,)
    """
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    chosen = (code.unsqueeze(-1) == torch.arange(logits.shape[-1], device=code.device)).to(logits.dtype)
    return (shifted * chosen).sum(dim=-1) - shifted.exp().sum(dim=-1).log()


class GaussianHead(nn.Module):
    """Numeric fields: a mean each, and a variance that is learned within bounds or fixed, field by field.

    Args:
        fields: The numeric fields; `gaussian` learns sigma in (minimum_scale, LARGEST_SCALE), `fixed-gaussian`
            keeps it at fixed_scale.
    """

    low: Tensor
    span: Tensor
    source: Tensor
    learned: Tensor
    constant: Tensor

    def __init__(self, fields: Sequence[NumericField]) -> None:
        super().__init__()
        self.fields = len(fields)
        learned = [field.likelihood == "gaussian" for field in fields]
        self.any_fixed = not all(learned)
        low = torch.tensor([2 * math.log(field.minimum_scale) for field in fields])
        self.register_buffer("low", low)
        high = torch.tensor([2 * math.log(max(LARGEST_SCALE, 2 * field.minimum_scale)) for field in fields])
        self.register_buffer("span", high - low)
        self.register_buffer("learned", torch.tensor(learned, dtype=torch.bool))
        self.register_buffer("source", torch.cumsum(torch.tensor(learned, dtype=torch.int64), 0).sub(1).clamp(min=0))
        self.register_buffer("constant", torch.tensor([2 * math.log(field.fixed_scale) for field in fields]))
        self.learns = sum(learned)
        self.outputs = self.fields + self.learns

    def initial_bias(self) -> Tensor:
        """(outputs,) bias with which every learned variance starts near its ceiling."""
        start = torch.logit(torch.full((self.learns,), 0.99))
        return torch.cat([torch.zeros(self.fields), start])

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance.

        Args:
            raw: (…, outputs) of the decoder's last layer.

        Returns:
            Mean (…, F) and log-variance (…, F), or (F,) where none is learned; standardised units.
        """
        mean, free = torch.split(raw, [self.fields, self.learns], dim=-1)
        if not self.learns:
            return mean, self.constant
        if self.any_fixed:
            free = free.index_select(-1, self.source)
        log_variance = torch.addcmul(self.low, self.span, torch.sigmoid(free))
        return mean, torch.where(self.learned, log_variance, self.constant) if self.any_fixed else log_variance


class JointLikelihood(nn.Module):
    """p(x|z) of a whole record: independent fields given z, each of its own kind, missing values left out.

    Whether a field is missing has its own Bernoulli term, of the field's `missing_rate`, which z does not change.

    Args:
        schema: The fields.
    """

    log_missing: Tensor
    log_present: Tensor

    def __init__(self, schema: RecordSchema) -> None:
        super().__init__()
        self.numeric = GaussianHead(schema.numeric)
        self.booleans = len(schema.boolean)
        self.sizes = [field.size for field in schema.categorical]
        self.outputs = self.numeric.outputs + self.booleans + sum(self.sizes)
        by_kind = (*schema.numeric, *schema.boolean, *schema.categorical)
        self.names = tuple(field.name for field in by_kind)
        # A timestamp is missing once, however many fields derive from it.
        sources: set[str] = set()
        counts = []
        for field in by_kind:
            source = getattr(field, "derived", None)
            counts.append(source is None or source.source not in sources)
            if source is not None:
                sources.add(source.source)
        rates = torch.tensor([field.missing_rate for field in by_kind], dtype=torch.float64)
        weight = torch.tensor(counts, dtype=torch.float64)
        self.register_buffer("log_missing", (weight * torch.log(rates)).float())
        self.register_buffer("log_present", (weight * torch.log1p(-rates)).float())

    def initial_bias(self) -> Tensor:
        """(outputs,) bias of the decoder's last layer at the start."""
        return torch.cat([self.numeric.initial_bias(), torch.zeros(self.outputs - self.numeric.outputs)])

    def forward(self, raw: Tensor) -> Parameters:
        """Parameters of p(x|z).

        Args:
            raw: (…, outputs) of the decoder's last layer.
        """
        sizes = [self.numeric.outputs, self.booleans, sum(self.sizes)]
        numeric, booleans, categories = torch.split(raw, sizes, dim=-1)
        mean, log_variance = self.numeric(numeric)
        return Parameters(mean, log_variance, booleans, categories)

    def log_prob(self, batch: Standardised, parameters: Parameters) -> Tensor:
        """log p(x_j | z_l) of each field.

        Args:
            batch: B records.
            parameters: Of shapes (B, L, …).

        Returns:
            (B, L, fields) float32 nats, in the order of `names` (by kind); 0 where the value is missing. The term
            of being missing or not is `log_prob_of_gaps`.
        """
        columns = []
        if self.numeric.fields:
            density = gaussian(batch.numeric.unsqueeze(1), parameters.numeric_mean, parameters.numeric_log_variance)
            columns.append(density * batch.numeric_present.unsqueeze(1))
        if self.booleans:
            mass = bernoulli(batch.boolean.unsqueeze(1), parameters.boolean_logits)
            columns.append(mass * batch.boolean_present.unsqueeze(1))
        start = 0
        for column, size in enumerate(self.sizes):
            logits = parameters.categorical_logits[..., start : start + size]
            mass = categorical(batch.categorical[:, column].unsqueeze(1), logits)
            columns.append((mass * batch.categorical_present[:, column].unsqueeze(1)).unsqueeze(-1))
            start += size
        return join(columns)

    def log_prob_of_gaps(self, batch: Standardised) -> Tensor:
        """log p(missing or not) of each field.

        Args:
            batch: B records.

        Returns:
            (B, fields) float32 nats, in the order of `names`.
        """
        present = batch.present
        return present * self.log_present + (1.0 - present) * self.log_missing
