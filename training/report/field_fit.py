"""How well each field can be told from the others: what was observed against what was expected."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bundle.record.fields import AnyField, NumericField
from training.report.evidence import Evidence
from training.report.expectation import Expectation
from training.table.batch import Standardised

SHOWN = 12
"""Fields with a picture of their own."""
RECORDS = 400
"""Held-out records in each picture."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FieldFit:
    """One field's values of some held-out records, and what the other fields led to expect.

    Args:
        field: The field.
        observed: (m, c) of the records that have it: a number's value in its own units, whether a boolean is true, or
            which code a category has, one-hot.
        expected: (m, c) the median in the same unit, or the probabilities.
        explained: 1 - sum |observed - expected|^2 / sum |observed - mean|^2: R^2 of a number as it is standardised,
            Brier's skill score of probabilities; None where the field does not vary in these records.
    """

    field: AnyField
    observed: Values
    expected: Values
    explained: float | None


def field_fits(evidence: Evidence) -> list[FieldFit]:
    """The fields that fit worst, worst first, each hidden from the encoder in turn.

    Args:
        evidence: Of its held-out rows as many as are shown, evenly spread, are looked at.

    Reference:
        Brier 1950 (the score of probabilities).
    """
    places = np.unique(np.linspace(0, evidence.held_out.rows.size - 1, RECORDS).round().astype(np.int64))
    batch = evidence.standardised(evidence.held_out).take(torch.from_numpy(places))
    fields = evidence.manifest.record.by_kind
    chosen = _worst_reproduced(evidence, batch) if len(fields) > SHOWN else range(len(fields))
    expectation = Expectation(evidence.table_vae, evidence.noise)
    fits = []
    for index in chosen:
        column = evidence.column(evidence.held_out, fields[index])[places]
        fits.append(_fit(fields[index], column, expectation.of(batch, index)))
    return sorted(fits, key=lambda fit: (fit.explained is None, fit.explained or 0.0))


def _fit(field: AnyField, column: npt.NDArray[Any], found: Values) -> FieldFit:
    if isinstance(field, NumericField):
        present = ~np.isnan(column)
        observed = column[present, np.newaxis].astype(np.float64)
        share = explained(field.standardise(observed), found[present])
        expected = np.array([[field.restore(value)] for value in found[present, 0].tolist()]).reshape(-1, 1)
    else:
        present = column >= 0
        size = found.shape[1]
        codes = column[present].astype(np.int64)
        observed = np.eye(size)[codes] if size > 1 else codes[:, np.newaxis].astype(np.float64)
        expected = found[present]
        share = explained(observed, expected)
    return FieldFit(field, observed, expected, share)


def explained(observed: Values, expected: Values) -> float | None:
    """1 - sum |observed - expected|^2 / sum |observed - mean|^2; None where nothing varies.

    >>> explained(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [2.0]]))
    0.5
    """
    if not len(observed):
        return None
    # Of large values the squares would be too large.
    unit = float(np.abs(observed - observed[:1]).max())
    if unit == 0:
        return None
    total = np.square((observed - observed.mean(axis=0)) / unit).sum()
    return float(1.0 - np.square((observed - expected) / unit).sum() / total)


@torch.no_grad()
def _worst_reproduced(evidence: Evidence, batch: Standardised) -> list[int]:
    """The fields that come back worst from the latent, nothing hidden: that takes one pass for all of them."""
    vae, likelihood = evidence.table_vae, evidence.table_vae.likelihood
    off = likelihood.residual(batch, vae.decode(vae.posterior(batch).mean)).double().square().sum(dim=0)
    numbers, booleans = likelihood.numeric.fields, likelihood.booleans
    varies = torch.cat(
        [
            _scatter(batch.numeric.double(), batch.numeric_present),
            _scatter(batch.boolean.double(), batch.boolean_present),
            _category_scatter(batch.categorical, batch.categorical_present),
        ]
    )
    slots = torch.zeros(len(likelihood.sizes), dtype=torch.float64)
    slots.index_add_(0, likelihood.slot_column, off[numbers + booleans :])
    ratio = torch.cat([off[: numbers + booleans], slots]) / varies
    worst = torch.where(varies > 0, ratio, -torch.inf).argsort(descending=True, stable=True)
    return [int(index) for index in worst[:SHOWN]]


def _scatter(values: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Sum of squared distances from the mean of what is present, over records."""
    mean = (values * present).sum(dim=0) / present.sum(dim=0).clamp(min=1.0)
    return ((values - mean).square() * present).sum(dim=0)


def _category_scatter(codes: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """The same of one-hot codes: m - sum_c n_c^2 / m, of m records of which n_c have the code c."""
    scatters = []
    for column, there in zip(codes.T, present.T, strict=True):
        counts = torch.bincount(column[there > 0]).double()
        scatters.append(counts.sum() - counts.square().sum() / counts.sum().clamp(min=1.0))
    return torch.stack(scatters) if scatters else torch.zeros(0, dtype=torch.float64)
