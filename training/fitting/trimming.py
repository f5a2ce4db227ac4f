"""Training rows that may hold anomalies: the least likely are left out before anything is fitted."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bundle.record.fields import CategoricalField
from bundle.record.schema import RecordSchema
from training import modality
from training.config import FieldConfig, TrainingConfig
from training.data import schema, transform
from training.data.read import Data, Rows
from training.data.row_hash import Hashes
from training.detectors.robust_scale import asinh
from training.errors import DataInvalid

_EXCESS = 3.0
"""Times the share that is left out: on most tables an anomaly that stays harms more than a normal row that goes."""
_MOST = 0.5
"""More of the rows than this, rounded up, are never left out before training."""
_REFERENCE_ROWS = 2000
"""Rows among which neighbours are looked for."""
_ROUNDS = 8
_SHRINKAGE = 0.02
"""Share of the mean variance in the covariance, so that few rows and columns that are alike will do."""
_LEAST_TRIMMED = 0.25
"""Share of the rows that the covariance leaves out at least: robustness costs it little."""
_ROWS = 1024  # in one pass
_NAMED = 5
"""Categories of a field that are named."""


def prepare(
    data: Data, train: Rows, validation: Rows, fields: Iterable[FieldConfig], config: TrainingConfig
) -> tuple[RecordSchema, Rows, Rows]:
    """The fields with their statistics, and the rows to train on and to stop by; without contamination all of them.

    The likelihood is maximised over the rows that are likeliest (trimmed), because weights that fall off slowly still
    let anomalies that are alike be learnt. The first and larger part goes before anything is fitted, by two densities
    that need no network, since a network tells too late: once it rates its own rows it has learnt such anomalies. One
    is the distance to the k-th neighbour, k being one more than there should be anomalies among those looked at, so
    that anomalies cannot vouch for each other; the other a Gaussian fitted to the likeliest rows. A row goes by the one
    that finds it less likely: anomalies in a gap between groups of normal rows are seen by the first alone, and slight
    breaks of a dependence between columns by the second. While the network is fitted, each epoch leaves out the rows
    that are then the least likely (`Fit`).

    Args:
        data: The table.
        train: Rows for the optimiser, sorted.
        validation: Rows that stop it, sorted.
        fields: What the columns are.
        config: `data.contamination` is the share of the rows that may be anomalies.

    Raises:
        ConfigInvalid: A field without a column.
        DataInvalid: A column whose values do not fit its kind, or has none left.

    Reference:
        Neykov & Mueller 2003, "Breakdown point and computation of trimmed likelihood estimators"; Loftsgaarden &
        Quesenberry 1965 (density by the k-th neighbour); Rousseeuw & Van Driessen 1999, "A fast algorithm for the
        minimum covariance determinant estimator", the Gaussian's trimmed likelihood.
    """
    fields = tuple(fields)
    record = _fitted(data, train, validation, fields, config)
    share = config.data.contamination
    if not share:
        return record, train, validation
    strangeness = _strangeness(
        modality.of(record).places(data, np.concatenate([train, validation])), share, config.seed
    )
    left_out = _left_out(share)
    train = train[likeliest(-strangeness[: train.size], left_out).numpy()]
    validation = validation[likeliest(-strangeness[-validation.size :], left_out).numpy()]
    try:
        return _fitted(data, train, validation, fields, config), train, validation
    except DataInvalid as error:
        raise DataInvalid(
            f"{error}, once contamination {share:g} has left out {left_out:.0%} of them as the likeliest anomalies; "
            "exclude the column, or give a smaller share"
        ) from error


class Cut:
    """Which rows are among the likeliest, by what a sample of them says; see `prepare`.

    A row goes where its rank in the sample, by the density that thinks less of it, is beyond that of the sample's last
    row that stays. Rows that are alike have a part of their places each, by their hash: of rows to train on, uniform
    above that of the last row that is held out.

    Args:
        data: The sample.
        train: Its rows for the optimiser.
        validation: Its rows that stop it.
        fields: What the columns are.
        config: See `prepare`.
        last: The hash of the last row that is held out.
    """

    def __init__(
        self,
        data: Data,
        train: Rows,
        validation: Rows,
        fields: Iterable[FieldConfig],
        config: TrainingConfig,
        last: np.uint64,
    ) -> None:
        self._held_out = float(last) / 2**64
        share = config.data.contamination
        self._record = _fitted(data, train, validation, tuple(fields), config)
        places = modality.of(self._record).places(data, np.concatenate([train, validation]))
        self._reference, self._neighbour = _reference(places, share, config.seed)
        self._gaussian = _Gaussian.of(places, share)
        densities = (self._distances(places), self._gaussian.distances(places))
        order = torch.randperm(len(places), generator=torch.Generator().manual_seed(config.seed))
        ranks = torch.maximum(*(_rank(each, order) for each in densities))
        self._sorted = tuple(each.sort().values for each in densities)
        of_train = ranks[: train.size]
        self._last = float(of_train[likeliest(-of_train, _left_out(share))].max())

    def keeps(self, data: Data, rows: Rows, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """(n,) which of some rows stay.

        Args:
            data: A table of the same columns.
            rows: (n,) of it.
            hashes: (n,) theirs.
        """
        places = modality.of(self._record).places(data, rows)
        part = torch.from_numpy((hashes.astype(np.float64) / 2**64 - self._held_out) / (1 - self._held_out))
        densities = (self._distances(places), self._gaussian.distances(places))
        ranks = []
        for values, known in zip(densities, self._sorted, strict=True):
            before, behind = (torch.searchsorted(known, values, right=right) for right in (False, True))
            ranks.append(before + part * (behind - before))
        # Rows that are alike have the ranks from `before` on, as many as they are, and the last one that stays stays.
        stays: npt.NDArray[np.bool_] = (torch.maximum(*ranks) < self._last + 1).numpy()
        return stays

    def _distances(self, places: Tensor) -> Tensor:
        return _distances(places, self._reference, self._neighbour)


def values_lost(
    data: Data, before: Rows, train: Rows, record: RecordSchema, fields: Iterable[FieldConfig], config: TrainingConfig
) -> dict[str, str]:
    """What is to be said of categories that the model would know if no row had been left out, by field.

    Args:
        data: The table.
        before: Rows for the optimiser before any was left out.
        train: Those that `prepare` has kept.
        record: The fields as they are fitted to these.
        fields: What the columns are.
        config: See `prepare`.
    """
    known = {field.name: set(field.vocabulary) for field in record.fields if isinstance(field, CategoricalField)}
    if not known or before.size == train.size:
        return {}
    whole, said = schema.fit(data, before, fields, config), {}
    there, left = (schema.tensors(whole, data, rows)["categorical"] for rows in (before, train))
    for field in whole.fields:
        lost = []
        for code, text in enumerate(field.vocabulary if isinstance(field, CategoricalField) else (), start=1):
            if text not in known[field.name]:
                of_field = (codes[:, whole.columns[field.name]] for codes in (there, left))
                count, kept = (int((codes == code).sum()) for codes in of_field)
                lost.append(f"{text!r} ({count - kept} of {count} rows)")
        if lost:
            more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
            said[field.name] = (
                f"contamination leaves out {', '.join(lost[:_NAMED])}{more}: the model does not know this, and finds "
                "it strange; if it is normal, give a smaller share"
            )
    return said


def _fitted(
    data: Data, train: Rows, validation: Rows, fields: tuple[FieldConfig, ...], config: TrainingConfig
) -> RecordSchema:
    return schema.fit(data, train, transform.choose(data, train, validation, fields), config)


def _left_out(share: float) -> float:
    """The share of the rows that goes before training, where such a share may be anomalies."""
    return min(_EXCESS * share, _MOST)


def likeliest(likelihoods: Tensor, left_out: float) -> Tensor:
    """Places, in order, of all but the given share of (n,) likelihoods, the lowest; one at least."""
    # Three times 0.05 is a hair more than 0.15, which is no row.
    kept = max(1, len(likelihoods) - math.ceil(left_out * len(likelihoods) - 1e-9))
    return likelihoods.argsort(descending=True, stable=True)[:kept].sort().values


def _strangeness(places: Tensor, share: float, seed: int) -> Tensor:
    """(n,) each row's rank by the density that thinks less of it, higher = less likely."""
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))
    distances = _distances(places, *_reference(places, share, seed))
    return torch.maximum(_rank(distances, order), _rank(_Gaussian.of(places, share).distances(places), order))


def _reference(places: Tensor, share: float, seed: int) -> tuple[Tensor, int]:
    """Rows among which neighbours are looked for, and which neighbour counts; of them a row is its own first."""
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))
    reference = places[order[:_REFERENCE_ROWS]]
    return reference, min(math.ceil(share * len(reference)) + 2, len(reference))


def _rank(values: Tensor, order: Tensor) -> Tensor:
    """(n,) places by value; those of rows that are alike by a random order, or the last of a file would go."""
    rank = torch.empty(len(values))
    rank[order[values[order].argsort(stable=True)]] = torch.arange(len(values), dtype=torch.float32)
    return rank


def _distances(places: Tensor, reference: Tensor, neighbour: int) -> Tensor:
    """(n,) distances to the k-th nearest of the reference rows."""
    pieces = torch.split(places, _ROWS)
    return torch.cat([torch.cdist(piece, reference).kthvalue(neighbour, dim=1).values for piece in pieces])


@dataclass(frozen=True)
class _Gaussian:
    """Fitted to the rows that are nearest to its centre.

    Args:
        centre: (D,) float64.
        covariance: (D, D) float64.
    """

    centre: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, places: Tensor, share: float) -> "_Gaussian":
        """Of (n, D) rows, of which a share may be anomalies."""
        values = asinh(places).double()
        rows, columns = values.shape
        kept = torch.arange(rows)
        for step in range(_ROUNDS):
            centre = values[kept].mean(dim=0)
            centred = values[kept] - centre
            covariance = centred.T @ centred / max(1, len(kept) - 1)
            even = covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(columns, dtype=torch.float64)
            found = cls(centre, (1 - _SHRINKAGE) * covariance + _SHRINKAGE * even)
            if step + 1 < _ROUNDS:
                order = found.distances(places).argsort(stable=True)
                kept = order[: max(2, round(rows * (1 - max(_LEAST_TRIMMED, _left_out(share)))))]
        return found

    def distances(self, places: Tensor) -> Tensor:
        """(n,) squared distances from the centre, in units of the covariance."""
        centred = asinh(places).double() - self.centre
        distances: Tensor = (centred * torch.linalg.solve(self.covariance, centred.T).T).sum(dim=1)
        return distances
