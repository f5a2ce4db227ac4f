"""From a table's columns to the bundle's fields with their statistics, and the TOML that a person may edit."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tomlkit
from pydantic import ValidationError

from bundle import wording
from bundle.errors import InvalidRecords
from bundle.record import timestamps
from bundle.record.categories import category_text, number_spelling
from bundle.record.fields import (
    AnyField,
    BooleanField,
    CategoricalField,
    DateOrder,
    Derived,
    ImageField,
    NumericField,
)
from bundle.record.records import encode_columns
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema, schema_of
from training.config import FieldConfig, TrainingConfig
from training.data import image_files, transform
from training.data.kinds import Inferred
from training.data.read import Data, Rows
from training.errors import ConfigInvalid, DataInvalid


def fit(data: Data, rows: Rows, fields: Iterable[FieldConfig], config: TrainingConfig) -> RecordSchema:
    """Compute each field's statistics: mean, scale, vocabulary, missing rate.

    Args:
        data: The data.
        rows: The training rows; nothing else is looked at.
        fields: What the columns are; `transform.choose` decides on transforms, and what it has not is none.
        config: Bounds of vocabularies.

    Raises:
        ConfigInvalid: A field without a column.
        DataInvalid: A column whose values do not fit its kind, named by row.
    """
    fitted: list[AnyField] = []
    for field in fields:
        if field.name not in data.table.column_names:
            raise ConfigInvalid(f"there is no column {field.name!r}{wording.like(field.name, data.table.column_names)}")
        if field.kind == "image":
            fitted.append(_fit_image(field, data.table[field.name], rows))
            continue
        column = np.asarray(data.table[field.name])[rows]
        match field.kind:
            case "numeric":
                fitted.append(_fit_numeric(field, column, data, rows))
            case "boolean":
                fitted.append(BooleanField(name=field.name, missing_rate=_missing_rate(column)))
            case "categorical":
                vocabulary = field.vocabulary or common(field.name, _texts(field.name, column), config)
                missing_texts = tuple(text for text in config.data.reading.missing if text not in vocabulary)
                fitted.append(
                    CategoricalField(
                        name=field.name,
                        vocabulary=vocabulary,
                        missing_rate=_missing_rate(_without(column, missing_texts)),
                        missing_texts=missing_texts,
                    )
                )
            case "timestamp":
                fitted += _fit_timestamp(field, column, data.date_orders.get(field.name))
            case _:
                assert_never(field.kind)
    try:
        return schema_of(fitted)
    except ValidationError as error:
        raise ConfigInvalid(f"the fields do not go together: {wording.words(error.errors()[0])}") from error


def tensors(schema: RecordSchema, data: Data, rows: Rows) -> dict[str, npt.NDArray[np.generic]]:
    """The graph's inputs for some rows of a table.

    Raises:
        DataInvalid: A value that does not fit its field, named by column and row (the first data row is 1).
    """
    match schema:
        case ImageSchema():
            return {"image": image_files.levels(data.table[schema.field.name], rows)}
        case TableSchema():
            return _of_table(schema, data, rows)


def _of_table(schema: TableSchema, data: Data, rows: Rows) -> dict[str, npt.NDArray[np.generic]]:
    columns = {name: np.asarray(data.table[name])[rows] for name in data.table.column_names if schema.takes(name)}
    try:
        return encode_columns(schema, columns, len(rows))
    except InvalidRecords as error:
        first = error.problems[0]
        where = f"column {first.field!r}, " if first.field is not None else ""
        raise DataInvalid(f"{data.name}: {where}{data.place(int(rows[first.row]))}: {first.detail}") from error


def to_toml(config: TrainingConfig, inferred: Inferred, transforms: Mapping[str, str] | None = None) -> str:
    """The configuration as a commented TOML document; reading it back gives the same run.

    Args:
        config: The run's configuration, completed.
        inferred: The fields, and what was left out.
        transforms: What `auto` is taken for, by field, in words; a comment each.
    """
    document = tomlkit.document()
    document.add(
        tomlkit.comment("Surprisal training configuration. Edit it and pass it on: surprisal train --config FILE")
    )
    document["preset"] = config.preset
    document["seed"] = config.seed
    for section in ("data", "network", "objective", "fit", "scoring"):
        table = tomlkit.table()
        model = getattr(config, section)
        for key, value in model.model_dump(mode="json").items():
            description = type(model).model_fields[key].description
            if value is None:
                table.add(tomlkit.comment(f"{key} =  # {description}"))
                continue
            table.add(key, value)
            if description:
                table[key].comment(description)
        document[section] = table
    fields = tomlkit.aot()
    for field in inferred.fields:
        table = tomlkit.table()
        left_out = set() if field.kind == "numeric" else {"transform"}
        for key, value in field.model_dump(mode="json", exclude_none=True, exclude=left_out).items():
            table.add(key, value)
        if transforms and field.name in transforms:
            table["transform"].comment(transforms[field.name])
        fields.append(table)
    document["fields"] = fields
    _add_comments(document, "Notes:", [f"{name}: {note}" for name, notes in inferred.notes.items() for note in notes])
    _add_comments(document, "Most likely a mistake:", inferred.warnings)
    _add_comments(
        document,
        "Left out; add a [[fields]] table to use one all the same:",
        [f"{name} {reason}" for name, reason in inferred.left_out.items()],
    )
    return tomlkit.dumps(document)


def _add_comments(document: tomlkit.TOMLDocument, title: str, lines: Sequence[str]) -> None:
    if lines:
        document.add(tomlkit.nl())
        for line in (title, *lines):
            document.add(tomlkit.comment(line))


def _fit_image(field: FieldConfig, column: pa.ChunkedArray, rows: Rows) -> ImageField:
    if not image_files.is_column(column.type):
        raise DataInvalid(f"column {field.name!r} holds values of type {column.type}; images are expected")
    height, width, channels = column.type.shape
    where = f"column {field.name!r}"
    if channels not in (1, 3):
        raise DataInvalid(f"{where} holds images of {channels} channels; grey (H, W, 1) or RGB (H, W, 3) is expected")
    image_files.refuse_narrow(where, height, width)
    binary = bool(np.isin(image_files.levels(column, rows), (0, 255)).all())
    settings = {"likelihood", "minimum_scale", "fixed_scale"}
    given = field.model_dump(include=settings, exclude_none=True)
    return ImageField(name=field.name, height=height, width=width, channels=channels, binary=binary, **given)


def _missing_rate(column: npt.NDArray[np.generic]) -> float:
    if column.dtype.kind == "O":
        missing = sum(value is None for value in column)
    elif column.dtype.kind == "M":
        missing = int(np.isnat(column).sum())
    else:
        missing = int(np.isnan(column).sum()) if column.dtype.kind == "f" else 0
    return smoothed(missing, len(column))


def smoothed(missing: int, rows: int) -> float:
    """The share of rows without a value, between 0 and 1 whatever they are."""
    return float((missing + 0.5) / (rows + 1.0))


def _without(column: npt.NDArray[np.generic], missing_texts: Collection[str]) -> npt.NDArray[np.generic]:
    """A column of categories with None for texts that mean a missing value."""
    if column.dtype.kind != "O":
        return column
    return np.array([None if value in missing_texts else value for value in column.tolist()], object)


def _fit_numeric(field: FieldConfig, column: npt.NDArray[np.generic], data: Data, rows: Rows) -> NumericField:
    if column.dtype.kind not in "fiu":
        wrong = next((row for row, value in zip(rows, column, strict=True) if not isinstance(value, float | int)), 0)
        raise DataInvalid(f"column {field.name!r}, {data.place(int(wrong))}: a number is expected")
    values = column.astype(np.float64)
    if (infinite := rows[np.isinf(values)]).size:
        place = data.place(int(infinite[0]))
        raise DataInvalid(f"column {field.name!r}, {place}: an infinity; remove the row or leave it empty")
    values = values[~np.isnan(values)]
    if not values.size:
        raise DataInvalid(f"column {field.name!r} has no value in the training rows")
    settings = {"likelihood", "minimum_scale", "fixed_scale", "degrees_of_freedom"}
    given = field.model_dump(include=settings, exclude_none=True)
    # One that nobody has decided is none: it takes validation rows to decide.
    chosen = "none" if field.transform == "auto" else field.transform
    return transform.fit(field.name, values, chosen, _missing_rate(column), **given)


def _texts(name: str, column: npt.NDArray[np.generic]) -> Counter[str | None]:
    try:
        return Counter(category_text(value) for value in column.tolist())
    except TypeError as error:
        raise DataInvalid(f"column {name!r}: text or a whole number is expected, not {error}") from error


def common(name: str, counted: Mapping[str | None, int], config: TrainingConfig) -> tuple[str, ...]:
    """The vocabulary of a field: its most frequent texts.

    Args:
        name: The field's.
        counted: How often each text occurs in the training rows, in the order in which they come; None is missing.
        config: Bounds of vocabularies.

    Raises:
        DataInvalid: There is no text.
    """
    texts = Counter(counted)
    texts.pop(None, None)
    spelled = {text: number_spelling(text or "") for text in texts}
    if all(spelled.values()):
        # Numbers have one spelling, however a file writes them.
        written, texts = texts, Counter()
        for text, count in written.items():
            texts[spelled[text]] += count
    for text in config.data.missing_values or ():
        texts.pop(text, None)
    often = [text for text, count in texts.most_common() if text is not None and count >= config.data.minimum_count]
    if not often:  # Better a rare one than no field.
        often = [text for text in texts if text is not None]
    if not often:
        raise DataInvalid(f"column {name!r} has no value in the training rows")
    return tuple(sorted(often[: config.data.vocabulary_size]))


def _fit_timestamp(
    field: FieldConfig, column: npt.NDArray[np.generic], order: DateOrder | None
) -> list[CategoricalField]:
    fields = []
    for part in ("hour", "weekday"):
        derived = Derived(source=field.name, part=part, order=order)
        fields.append(
            CategoricalField(
                name=f"{field.name}_{part}",
                vocabulary=timestamps.vocabulary(derived),
                derived=derived,
                missing_rate=_missing_rate(column),
            )
        )
    return fields
