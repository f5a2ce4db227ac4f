"""Calibration of few records: each is scored by a model that has not seen it, so that none need be spared."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bundle.contents.manifest import SAMPLE_COUNTS
from bundle.record.schema import RecordSchema
from training.config import FieldConfig, TrainingConfig
from training.data import schema
from training.data.read import Data, Rows
from training.data.split import Split, set_aside
from training.fitting import model as models
from training.fitting import trimming
from training.fitting.fit import Progress

Report = Callable[[Progress], None]
Scores = dict[tuple[str, int], npt.NDArray[np.float32]]


def scores(
    data: Data,
    parts: Split,
    fields: Iterable[FieldConfig],
    config: TrainingConfig,
    target: torch.device,
    *,
    folder: Path | None = None,
    resume: bool = False,
    report: Report = lambda progress: None,
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
    pooled: dict[tuple[str, int], list[npt.NDArray[np.float32]]] = {}
    fitted: list[models.Model] = []
    fields = tuple(fields)
    for number, fold in enumerate(parts.folds, start=1):
        record, train, validation = _prepare(data, parts, number, fields, config)
        name = f"fold {number} of {len(parts.folds)}"
        given = (data, record, train, validation, config, target)
        model = models.fit(*given, folder=folder, resume=resume, part=name, report=_as_part(name, report))
        fitted.append(model)
        tensors = schema.tensors(record, data, fold)
        for samples in SAMPLE_COUNTS:
            for score, values in model.anomaly_scores(tensors, samples).items():
                pooled.setdefault((score, samples), []).append(values)

    def forget() -> None:
        for model in fitted:
            model.forget_checkpoint()

    return {key: np.concatenate(values) for key, values in pooled.items()}, forget


def _prepare(
    data: Data, parts: Split, number: int, fields: tuple[FieldConfig, ...], config: TrainingConfig
) -> tuple[RecordSchema, Rows, Rows]:
    """What a fold's model is trained with: all rows that are not its own."""
    others = np.setdiff1d(parts.normal, parts.folds[number - 1])
    train, validation = set_aside(np.random.default_rng([config.seed, number]).permutation(others), config.data)
    return trimming.prepare(data, train, validation, fields, config)


def _as_part(name: str, report: Report) -> Report:
    return lambda progress: report(replace(progress, part=name))
