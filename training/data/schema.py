"""Schema inference: from a table's columns to the bundle's fields, and the TOML that a person may edit."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import tomlkit
from pydantic import ValidationError

from bundle.errors import InvalidRecords
from bundle.record import timestamps
from bundle.record.fields import AnyField, BooleanField, CategoricalField, Derived, ImageField, NumericField
from bundle.record.records import category_text, encode_columns
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema, schema_of
from training.config import FieldConfig, TrainingConfig
from training.data import image_files, transform
from training.data.read import Data, Rows
from training.errors import ConfigInvalid, DataInvalid

RARE_FLAG = 0.01
"""A column of 0 and 1 is a flag if both are at least this common; a rarer 1 may be the start of a count."""
IDENTIFIER = 0.5
"""A text column with more distinct values than this share of its rows names rows; it does not describe them."""
_FEW = 20
"""In so few rows every text may be another one by chance."""
_LEAST_VALUES = 10
"""Values that a column needs: of fewer, the rows of one of the folds might hold none."""


@dataclass(frozen=True)
class Inferred:
    """What the columns of a table seem to be.

    Args:
        fields: Columns that can be features, in the table's order.
        left_out: Columns that cannot, with the reason in words.
    """

    fields: tuple[FieldConfig, ...]
    left_out: dict[str, str]


def infer(data: Data, rows: Rows, config: TrainingConfig) -> Inferred:
    """Decide what each column is, from the rows that are trained on.

    Args:
        data: The data.
        rows: The normal rows.
        config: `data.label` and `data.exclude` are no features; `data` bounds vocabularies.

    Raises:
        ConfigInvalid: A column to exclude is not there.
        DataInvalid: An infinity, named by column and row, or no column is left.
    """
    columns = data.table.column_names
    for name in config.data.exclude:
        if name not in columns:
            raise ConfigInvalid(f"there is no column {name!r} to exclude; there are {columns}")
    apart = {*config.data.exclude, config.data.label}
    if data.name.endswith(".npz"):
        apart.add("y")
    image = next((name for name in columns if name not in apart and image_files.is_column(data.table[name].type)), None)
    if image is not None:
        beside = "stands beside an image, which is a record by itself"
        left_out = {name: beside for name in columns if name not in {image, *apart}}
        return Inferred((FieldConfig(name=image, kind="image"),), left_out)
    fields: list[FieldConfig] = []
    left_out = {}
    for name in columns:
        if name in apart:
            continue
        if not name:
            left_out["(a column without a name)"] = "cannot be a field; name it"
            continue
        kind, reason = _kind(name, data.table[name], data.table[name].take(pa.array(rows)))
        if kind is None:
            left_out[name] = reason
        else:
            fields.append(FieldConfig(name=name, kind=kind))
    if not fields:
        raise DataInvalid("no column is left to learn from: " + "; ".join(f"{c} {why}" for c, why in left_out.items()))
    return Inferred(tuple(fields), left_out)


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
            raise ConfigInvalid(f"there is no column {field.name!r}; there are {data.table.column_names}")
        if field.kind == "image":
            fitted.append(_fit_image(field, data.table[field.name], rows))
            continue
        column = np.asarray(data.table[field.name])[rows]
        match field.kind:
            case "numeric":
                fitted.append(_fit_numeric(field, column, rows))
            case "boolean":
                fitted.append(BooleanField(name=field.name, missing_rate=_missing_rate(column)))
            case "categorical":
                vocabulary = field.vocabulary or _vocabulary(field.name, column, config)
                fitted.append(
                    CategoricalField(name=field.name, vocabulary=vocabulary, missing_rate=_missing_rate(column))
                )
            case "timestamp":
                fitted += _fit_timestamp(field, column)
            case _:
                assert_never(field.kind)
    try:
        return schema_of(fitted)
    except ValidationError as error:
        raise ConfigInvalid(f"the fields do not go together: {error.errors()[0]['msg']}") from error


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
        raise DataInvalid(f"{data.name}: {where}row {rows[first.row] + 1}: {first.detail}") from error


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
    if inferred.left_out:
        document.add(tomlkit.nl())
        document.add(tomlkit.comment("Left out; add a [[fields]] table to use one all the same:"))
        for name, reason in inferred.left_out.items():
            document.add(tomlkit.comment(f"{name} {reason}"))
    return tomlkit.dumps(document)


Kind = Literal["numeric", "boolean", "categorical"]


def _kind(name: str, column: pa.ChunkedArray, normal: pa.ChunkedArray) -> tuple[Kind | None, str]:
    if pa.types.is_floating(column.type):
        infinite = np.flatnonzero(np.isinf(np.asarray(column)))
        if infinite.size:
            raise _infinite(name, int(infinite[0]))
    if pa.types.is_time(column.type) or pa.types.is_duration(column.type):
        return None, "is a time without a date; give the hour, or seconds, as a number"
    if pa.types.is_temporal(column.type):
        return None, 'is a timestamp; kind = "timestamp" turns it into its hour and weekday (UTC)'
    present = normal.drop_null()
    distinct = pc.count_distinct(present).as_py() if _is_plain(column.type) else 0
    if not _is_plain(column.type):
        return None, f"holds values of type {column.type}, which no kind of field fits"
    if distinct == 0:
        return None, "is empty"
    if distinct == 1 and not normal.null_count:
        return None, "is constant in the normal rows"
    if len(present) < _LEAST_VALUES:
        return None, f"holds {len(present)} values in {len(normal)} normal rows, too few to learn from"
    if pa.types.is_boolean(column.type):
        return "boolean", ""
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return ("boolean" if _is_flag(np.asarray(present)) else "numeric"), ""
    texts: list[str] = pc.unique(present).to_pylist()
    if all(map(_is_timestamp, texts)):
        return None, 'is a timestamp; kind = "timestamp" turns it into its hour and weekday (UTC)'
    if distinct > IDENTIFIER * len(present) and len(present) > _FEW:
        return None, f"holds {distinct} texts in {len(present)} rows, so it names rows and does not describe them"
    return "categorical", ""


def _infinite(name: str, row: int) -> DataInvalid:
    return DataInvalid(f"column {name!r}, row {row + 1}: an infinity; remove the row or leave it empty")


def _is_plain(kind: pa.DataType) -> bool:
    numbers = pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return bool(numbers or pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _is_flag(values: npt.NDArray[np.generic]) -> bool:
    ones = float(np.mean(values == 1))
    return bool(np.isin(values, (0, 1)).all()) and RARE_FLAG <= ones <= 1 - RARE_FLAG


def _is_timestamp(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    # fromisoformat reads plain digits as a date, too; people use those as codes.
    return not text.isdigit()


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
    return float((missing + 0.5) / (len(column) + 1.0))


def _fit_numeric(field: FieldConfig, column: npt.NDArray[np.generic], rows: Rows) -> NumericField:
    if column.dtype.kind not in "fiu":
        wrong = next((row for row, value in zip(rows, column, strict=True) if not isinstance(value, float | int)), 0)
        raise DataInvalid(f"column {field.name!r}, row {wrong + 1}: a number is expected")
    values = column.astype(np.float64)
    if (infinite := rows[np.isinf(values)]).size:
        raise _infinite(field.name, int(infinite[0]))
    values = values[~np.isnan(values)]
    if not values.size:
        raise DataInvalid(f"column {field.name!r} has no value in the training rows")
    settings = {"likelihood", "minimum_scale", "fixed_scale", "degrees_of_freedom"}
    given = field.model_dump(include=settings, exclude_none=True)
    # One that nobody has decided is none: it takes validation rows to decide.
    chosen = "none" if field.transform == "auto" else field.transform
    return transform.fit(field.name, values, chosen, _missing_rate(column), **given)


def _vocabulary(name: str, column: npt.NDArray[np.generic], config: TrainingConfig) -> tuple[str, ...]:
    try:
        texts = Counter(category_text(value) for value in column.tolist())
    except TypeError as error:
        raise DataInvalid(f"column {name!r}: text or a whole number is expected, not {error}") from error
    texts.pop(None, None)
    common = [text for text, count in texts.most_common() if text is not None and count >= config.data.minimum_count]
    if not common:  # Better a rare one than no field.
        common = [text for text in texts if text is not None]
    if not common:
        raise DataInvalid(f"column {name!r} has no value in the training rows")
    return tuple(sorted(common[: config.data.vocabulary_size]))


def _fit_timestamp(field: FieldConfig, column: npt.NDArray[np.generic]) -> list[CategoricalField]:
    fields = []
    for part in ("hour", "weekday"):
        derived = Derived(source=field.name, part=part)
        fields.append(
            CategoricalField(
                name=f"{field.name}_{part}",
                vocabulary=timestamps.vocabulary(derived),
                derived=derived,
                missing_rate=_missing_rate(column),
            )
        )
    return fields
