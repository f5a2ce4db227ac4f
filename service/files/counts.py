"""What of a piece the model does not know, and what is missing in it: counted by field."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.record.fields import MISSING, UNKNOWN, CategoricalField, NumericField, TableField
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.files.piece import Piece


def unknown(schema: RecordSchema, piece: Piece) -> dict[str, int]:
    """By categorical field, how many rows hold a text that the model does not know.

    Args:
        schema: The bundle's fields.
        piece: Some rows.
    """
    return {
        each.name: int((values == UNKNOWN).sum())
        for each, values in _columns(schema, piece)
        if isinstance(each, CategoricalField)
    }


def missing(schema: RecordSchema, piece: Piece) -> dict[str, int]:
    """By field, how many rows hold nothing.

    Args:
        schema: The bundle's fields.
        piece: Some rows.
    """
    return {
        each.name: int((np.isnan(values) if isinstance(each, NumericField) else values == MISSING).sum())
        for each, values in _columns(schema, piece)
    }


def _columns(schema: RecordSchema, piece: Piece) -> Iterator[tuple[TableField, npt.NDArray[Any]]]:
    """Each field of a table with its column of the tensors; an image has none."""
    match schema:
        case ImageSchema():
            return
        case TableSchema():
            kinds: tuple[tuple[str, Sequence[TableField]], ...] = (
                ("numeric", schema.numeric),
                ("boolean", schema.boolean),
                ("categorical", schema.categorical),
            )
            for kind, fields in kinds:
                if kind in piece.tensors:
                    yield from zip(fields, piece.tensors[kind].T, strict=True)
