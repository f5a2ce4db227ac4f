"""Calibration of few records: each is scored by a model that has not seen it, so that none need be spared."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bundle.contents.manifest import SAMPLE_COUNTS
from bundle.record.fields import Tensors
from bundle.record.schema import RecordSchema
from training.config import FieldConfig, TrainingConfig
from training.data import schema
from training.data.read import Data, Rows
from training.data.split import Split, set_aside
from training.fitting import trimming
from training.fitting.model import Model, fit, optimise
from training.fitting.progress import EpochCallback
from training.fitting.ranks import ALONE, Ranks

Scores = dict[tuple[str, int], npt.NDArray[np.float32]]


def scores(
    data: Data,
    parts: Split,
    fields: Sequence[FieldConfig],
    config: TrainingConfig,
    target: torch.device,
    *,
    folder: Path | None = None,
    resume: bool = False,
    report: EpochCallback = lambda progress: None,
    ranks: Ranks = ALONE,
) -> tuple[Scores, Callable[[], None]]:
    """Every normal record's anomaly scores by the model of its fold.

    A fold's model is made as the final one is, with a tenth of its rows to stop by, of the rows outside the fold: it
    has seen a tenth less, so that its scores of its own fold are, if anything, higher than the final model's of fresh
    records. The folds' models are not the one that serves, so a p-value is approximate.

    Args:
        data: The table.
        parts: Its split into folds.
        fields: What the columns are.
        config: Everything that decides the result.
        target: Where to train.
        folder: Where checkpoints are kept, or None for nowhere.
        resume: Take up those that an interrupted run left there; a fold without one starts afresh.
        report: Told about every epoch of every fold.
        ranks: The processes that train together; all but the first `take_part`.

    Returns:
        (n,) float32 by score's name and number of draws, higher = stranger; and what is to be called once the bundle
        is safe, to remove the checkpoints.

    Raises:
        DataInvalid: A value that does not fit its field.
        NotANumber: The training met a NaN.
        OSError: A checkpoint cannot be written.

    Reference:
        Vovk 2015, "Cross-conformal predictors", section 3; Barber et al. 2021, "Predictive inference with the
        jackknife+", for how far off such scores can be.
    """
    found: list[Scores] = []
    fitted: list[Model] = []
    for number in range(1, len(parts.folds) + 1):
        record, train, validation = _prepare(data, parts, number, fields, config)
        name = _name(parts, number)
        given = (data, record, train, validation, config, target)
        told = _as_part(name, report)
        fitted.append(fit(*given, folder=folder, resume=resume, part=name, report=told, ranks=ranks))
        found.append(_every_score(fitted[-1], schema.tensors(record, data, parts.folds[number - 1])))
    return _pooled(found), partial(_forget_checkpoints, fitted)


def take_part(
    data: Data,
    parts: Split,
    fields: Sequence[FieldConfig],
    config: TrainingConfig,
    target: torch.device,
    *,
    folder: Path | None,
    resume: bool,
    ranks: Ranks,
) -> None:
    """Train what the first of several processes scores the folds with.

    Args:
        data: The table.
        parts: Its split into folds.
        fields: What the columns are.
        config: Everything that decides the result.
        target: Where to train.
        folder: Where the first process keeps checkpoints, or None for nowhere.
        resume: See `scores`.
        ranks: The processes that train together.

    Raises:
        TrainingError: See `scores`.
    """
    for number in range(1, len(parts.folds) + 1):
        record, train, validation = _prepare(data, parts, number, fields, config)
        given = (data, record, train, validation, config, target)
        optimise(*given, folder=folder, resume=resume, part=_name(parts, number), ranks=ranks)


def _name(parts: Split, number: int) -> str:
    return f"fold {number} of {len(parts.folds)}"


def _prepare(
    data: Data, parts: Split, number: int, fields: Sequence[FieldConfig], config: TrainingConfig
) -> tuple[RecordSchema, Rows, Rows]:
    """What a fold's model is trained with: all rows that are not its own."""
    others = np.setdiff1d(parts.normal, parts.folds[number - 1])
    train, validation = set_aside(np.random.default_rng([config.seed, number]).permutation(others), config.data)
    return trimming.prepare(data, train, validation, fields, config)


def _every_score(model: Model, tensors: Tensors) -> Scores:
    """A fold's scores by its model, with every number of draws."""
    return {
        (score, samples): values
        for samples in SAMPLE_COUNTS
        for score, values in model.anomaly_scores(tensors, samples).items()
    }


def _pooled(found: list[Scores]) -> Scores:
    """Each score of all folds, one fold after the other."""
    return {key: np.concatenate([of_fold[key] for of_fold in found]) for key in found[0]}


def _forget_checkpoints(fitted: list[Model]) -> None:
    for model in fitted:
        model.forget_checkpoint()


def _as_part(name: str, report: EpochCallback) -> EpochCallback:
    return lambda progress: report(replace(progress, part=name))
