"""A model of some rows of a table, trained as the product trains it, without calibration and bundle."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from benchmarks.studies.fitting import progress
from bundle.record.schema import RecordSchema
from training import config
from training.data import kinds, schema
from training.data.read import Data, Rows
from training.data.split import set_aside
from training.evaluation import baselines
from training.fitting import model, trimming
from training.fitting.model import Model

Scores = dict[str, npt.NDArray[np.float64]]

_ROWS_AT_A_TIME = 20_000


def fit(
    data: Data, rows: Rows, content: dict[str, Any], device: torch.device, numeric: str | None = None
) -> tuple[Model, RecordSchema]:
    """Train on some rows, a tenth of which stops the training.

    Args:
        data: The table.
        rows: Its normal rows to train on.
        content: The configuration, as TOML gives it.
        device: Where to train.
        numeric: Likelihood of the numbers, or None for the default.
    """
    settings = config.build(content)
    fields = [
        field.model_copy(update={"likelihood": numeric}) if field.kind == "numeric" and numeric else field
        for field in kinds.infer(data, rows, settings).fields
    ]
    train, validation = set_aside(np.random.default_rng(settings.seed).permutation(rows), settings.data)
    record, train, validation = trimming.prepare(data, train, validation, fields, settings)
    return model.fit(data, record, train, validation, settings, device, report=progress), record


def without(data: Data, columns: tuple[str, ...]) -> Data:
    """The table less some columns."""
    return Data(data.name, data.sha256, data.table.drop_columns(list(columns)))


def labelled(data: Data, label: str) -> tuple[Data, npt.NDArray[np.bool_]]:
    """The table without its label, and which rows have it."""
    return without(data, (label,)), pc.not_equal(data.table[label], 0).to_numpy()


def scores(fitted: Model, record: RecordSchema, data: Data, rows: Rows, samples: int = 16) -> Scores:
    """Every anomaly score of some rows, (n,) each, higher = stranger."""
    pieces = [
        fitted.anomaly_scores(schema.tensors(record, data, rows[start : start + _ROWS_AT_A_TIME]), samples)
        for start in range(0, len(rows), _ROWS_AT_A_TIME)
    ]
    return {name: np.concatenate([piece[name] for piece in pieces]).astype(np.float64) for name in pieces[0]}


def others(record: RecordSchema, known: tuple[Data, Rows], asked: tuple[Data, Rows], seed: int) -> Scores:
    """What detectors of scikit-learn, fitted on the normal rows `known`, say of the rows `asked`."""
    train, wanted = (baselines.features(record, schema.tensors(record, *rows)) for rows in (known, asked))
    return {name: detector(wanted) for name, detector in baselines.fit(train, seed).items()}
