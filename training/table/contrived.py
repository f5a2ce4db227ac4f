"""Rows that try a model and its graphs: extreme ones, and those of golden records."""

from datetime import date
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bundle.record.fields import MISSING
from bundle.record.schema import TableSchema
from training.data import schema
from training.data.read import Data, Rows
from training.network.batch import Record
from training.table.batch import Preprocess

_EXTREME_FIELDS = 64
"""Fields that are pushed far out, one at a time; a table of a thousand columns gains nothing from more."""
_FAR = 1e6
"""Standardised units that an extreme value is out, as far as doubles go."""
_FURTHEST = 30.0
"""Standardised values are clipped here, so that one column does not decide alone."""


def extremes(preprocess: Preprocess, record: Record) -> Record:
    """Up to 1000 records: held-out ones, then the first of them with one field missing, far out, and far out alone.

    Args:
        preprocess: Of the model; it knows what is far.
        record: Held-out records.
    """
    # Of a logarithm far below 0: up there no double is as many deviations out.
    below = -_FAR * preprocess.scale * preprocess.offset
    far = {"numeric": torch.where(preprocess.logged, below, preprocess.mean + _FAR * preprocess.scale).numpy()}
    places = [(kind, column) for kind, values in record.items() for column in range(values.shape[1])]
    extremes = []
    for kind, column in places[:_EXTREME_FIELDS]:
        strange = far[kind][column] if kind in far else 0
        pushed = {name: values[:1].copy() for name, values in record.items()}
        alone = {name: np.full_like(values[:1], np.nan if name in far else MISSING) for name, values in record.items()}
        pushed[kind][0, column] = alone[kind][0, column] = strange
        # One beside the extreme ones, where a value that counts though it is missing shows.
        gone = {name: values[:1].copy() for name, values in record.items()}
        gone[kind][0, column] = np.nan if kind in far else MISSING
        extremes += [gone, pushed, alone]
    return {
        kind: np.concatenate([values[: 1000 - len(extremes)], *(each[kind] for each in extremes)])
        for kind, values in record.items()
    }


def raw(record: TableSchema, data: Data, row: int) -> dict[str, Any]:
    """A row as a client would send it.

    Numbers, booleans and text, timestamps in ISO 8601, null where missing.
    """
    wanted = [name for name in data.table.column_names if record.takes(name)]
    (values,) = data.table.select(wanted).slice(row, 1).to_pylist()
    for name, value in values.items():
        if isinstance(value, date):
            values[name] = value.isoformat()
        elif isinstance(value, float) and np.isnan(value):
            values[name] = None
    return dict(values)


def contrived(record: TableSchema) -> list[dict[str, Any] | list[Any]]:
    """Far out and unknown in every field, as an array; and one field present, as an object."""
    strange: list[Any] = []
    for field in record.fields:
        match field.kind:
            case "numeric":
                strange.append(field.restore(_FAR))
            case "boolean":
                strange.append(True)
            case "categorical":
                strange.append("no such category")
    return [strange, {record.fields[0].name: strange[0]}]


def places(record: TableSchema, data: Data, rows: Rows) -> Tensor:
    """(n, D): numbers in standardised units, the rest as the network sees it."""
    preprocess = Preprocess(record)
    tensors = schema.tensors(record, data, rows)
    batch = preprocess.standardise({kind: torch.from_numpy(values) for kind, values in tensors.items()})
    numbers = batch.numeric.clamp(-_FURTHEST, _FURTHEST)
    return torch.cat([numbers, preprocess(batch)[:, numbers.shape[1] :]], dim=1)
