"""What a training run makes of a file's columns, as it is said before anything is fitted."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bundle.contents import answer_names
from bundle.record.fields import MISSING, UNKNOWN, NumericField
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from reading.notes import by_note
from training.data import schema
from training.data.kinds import Inferred
from training.data.read import Data, Rows
from training.errors import ConfigInvalid

USE_ALL_THE_SAME = (
    "to use a column all the same: --schema-only prints the settings as TOML; add a [[fields]] table for it, and train "
    "with --config FILE"
)
_LATENT_MEAN = re.compile(rf"{answer_names.LATENT_MEAN}(?:_\d+)?")


@dataclass(frozen=True)
class FieldOverview:
    """What became of a field.

    Args:
        name: The field's.
        kind: Its kind, and of a category from how many.
        missing: Share of the training rows without it.
        unknown: Share of the training rows whose category is too rare for the vocabulary; None where there is none.
    """

    name: str
    kind: str
    missing: float
    unknown: float | None


def of(data: Data, record: RecordSchema, train: Rows) -> tuple[FieldOverview, ...]:
    """What became of each field.

    Args:
        data: The data.
        record: The fields.
        train: The training rows.
    """
    match record:
        case ImageSchema(field=image):
            size = f"image {image.width} wide, {image.height} high, {'grey' if image.channels == 1 else 'RGB'}"
            return (FieldOverview(image.name, size, 0.0, None),)
        case TableSchema():
            return _of_table(data, record, train)


def _of_table(data: Data, record: TableSchema, train: Rows) -> tuple[FieldOverview, ...]:
    tensors = schema.tensors(record, data, train)
    found = []
    for field in record.fields:
        column = tensors[field.kind][:, record.columns[field.name]]
        missing = np.isnan(column) if isinstance(field, NumericField) else column == MISSING
        unknown = float(np.mean(column == UNKNOWN)) if field.kind == "categorical" else None
        kind = f"categorical, {len(field.vocabulary)}" if field.kind == "categorical" else field.kind
        found.append(FieldOverview(field.name, kind, float(missing.mean()), unknown))
    return tuple(found)


def lines(fields: Sequence[FieldOverview], data: Data, inferred: Inferred) -> Iterator[str]:
    """The same as text, a line at a time: how the file was read, each field, and what is left out and why.

    Args:
        fields: What became of them.
        data: The data.
        inferred: What its columns seem to be.
    """
    if data.said:
        yield f"{data.name} read as: {', '.join(data.said)}"
    width = max(len("field"), *(len(each.name) for each in fields))
    kinds = max(len("kind"), *(len(each.kind) for each in fields))
    yield f"{'field':{width}}  {'kind':{kinds}}  missing  unknown"
    for each in fields:
        yield f"{each.name:{width}}  {each.kind:{kinds}}  {_share(each.missing):>7}  {_share(each.unknown):>7}"
    for note, names in by_note(inferred.notes).items():
        yield f"{', '.join(names)}: {note}"
    for name, reason in inferred.left_out.items():
        yield f"left out: {name} {reason}"
    if inferred.left_out:
        yield USE_ALL_THE_SAME
    for warning in inferred.warnings:
        yield f"WARNING: {warning}"


def refuse_names(record: RecordSchema) -> None:
    """Refuse fields that are called like columns of scores: a file that holds them could not be scored.

    Raises:
        ConfigInvalid: There is one.
    """
    # `row` is written where it is asked for alone, and refused there.
    taken = answer_names.every(record, 0) - {answer_names.ROW}
    for name in record.names:
        if name in taken or _LATENT_MEAN.fullmatch(name):
            raise ConfigInvalid(
                f"column {name!r} is called like a column that scored files have: rename it in the file, or leave it "
                f"out with --exclude {name}"
            )


def _share(share: float | None) -> str:
    if not share:
        return "-" if share is None else "0%"
    return f"{share:.1%}" if share >= 0.0005 else "<0.1%"
