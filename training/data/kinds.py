"""What each column is: rules with thresholds; the first that fits decides (docs/guides/data-files.md lists them)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from bundle.wording import like
from reading import dates
from training.config import FieldConfig, Kind, TrainingConfig
from training.data import identifiers, image_files, sentinels
from training.data.read import Data, Rows
from training.errors import ConfigInvalid, DataInvalid

RARE_FLAG = 0.01
"""A column of 0 and 1 is a category if both are at least this common; a rarer 1 may be the start of a count."""
FEW_NUMBERS = 20
"""A column of at most so many different whole numbers, far apart, is said to be one of codes, maybe."""
LEAST_VALUES = 10
"""Values that a column needs: of fewer, the rows of one of the folds might hold none."""
_CODES = 5
_TIMESTAMPS = 0.8
_LABELS = {
    *("label", "labels", "class", "target", "outcome", "truth", "normal", "abnormal", "anomaly", "anomalous"),
    *("outlier", "fraud", "fraudulent", "attack", "intrusion", "malicious", "malware", "defect", "defective"),
    *("fault", "faulty", "failure", "failed", "churn"),
}
_BESIDE_LABELS = {"is", "has", "ground", "true", "binary", "type", "flag", "status"}
_MOST_LABELS = 50
_TIME_OF_DAY = r"^\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s*[AaPp][Mm])?$"
_TIME = "is a time without a date: join it with its date in one column, or give the hour as a number"
_OTHERWISE = "kind = "
"""What a note holds that says how to have a column read otherwise."""


@dataclass(frozen=True)
class Inferred:
    """What the columns of a table seem to be.

    Args:
        fields: Columns that can be features, in the table's order.
        left_out: Columns that cannot, with the reason in words that follow the column's name.
        notes: What a person should know of a column, in words that follow its name.
        warnings: What is most likely a mistake, in sentences.
    """

    fields: tuple[FieldConfig, ...]
    left_out: Mapping[str, str]
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def and_notes(self, said: Mapping[str, str]) -> "Inferred":
        """The same with a further note on some columns."""
        more = {name: (*self.notes.get(name, ()), note) for name, note in said.items()}
        return replace(self, notes={**self.notes, **more})


@dataclass(frozen=True)
class _Column:
    """A column of the rows that are trained on."""

    name: str
    values: pa.ChunkedArray
    others: tuple[npt.NDArray[np.float64], ...]
    vocabulary: int

    @property
    def present(self) -> pa.ChunkedArray:
        return self.values.drop_null()


_TOTAL = r"(?i)^(?:grand |sub|zwischen)?-?(?:totals?|sum|summe|gesamt|gesamtsumme|totale|somme|suma|totaal)\b[\s:]*$"
_FEW_TOTALS = 0.1


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
    names = data.table.column_names
    for name in config.data.exclude:
        if name not in names:
            raise ConfigInvalid(f"there is no column {name!r} to exclude{like(name, names)}")
    apart = {*config.data.exclude, config.data.label}
    if data.name.endswith(".npz"):
        apart.add("y")
    image = next((name for name in names if name not in apart and image_files.is_column(data.table[name].type)), None)
    if image is not None:
        beside = "stands beside an image, which is a record by itself"
        return Inferred(
            (FieldConfig(name=image, kind="image"),), {name: beside for name in names if name not in {image, *apart}}
        )
    _refuse_infinities(data, apart)
    normal = data.table.take(pa.array(rows))
    numbers = {name: _floats(normal[name]) for name in names if _is_number(normal[name].type)}
    fields: list[FieldConfig] = []
    left_out: dict[str, str] = {}
    notes: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name in apart:
            continue
        if not name:
            left_out["(a column without a name)"] = "cannot be a field; name it"
            continue
        others = tuple(values for other, values in numbers.items() if other != name and other not in apart)
        column = _Column(name, normal[name], others, config.data.vocabulary_size)
        kind, reason = _kind(column, data)
        if kind is None:
            left_out[name] = reason
        else:
            fields.append(FieldConfig(name=name, kind=kind))
        if said := tuple(_said(column, kind, data)):
            notes[name] = said
    constant = {each.name: "is constant" for each in fields if _is_constant(normal[each.name])}
    if len(constant) == len(fields):
        left_out |= constant
        raise DataInvalid("no column is left to learn from: " + "; ".join(f"{c} {why}" for c, why in left_out.items()))
    return Inferred(tuple(fields), left_out, notes, (*_warnings(normal, fields, config), *_totals(data)))


def chosen(data: Data, rows: Rows, config: TrainingConfig) -> Inferred:
    """The configuration's fields where it has some, else what the columns seem to be.

    Args:
        data: The data.
        rows: The normal rows.
        config: Everything that a person said.

    Raises:
        ConfigInvalid: A field that is also the label, or a column to exclude that is not there.
        DataInvalid: No column is left, or one holds an infinity.
    """
    if config.fields is None:
        return infer(data, rows, config)
    for each in config.fields:
        if each.name == config.data.label:
            raise ConfigInvalid(f"{each.name!r} is the label and cannot be a field as well")
    fields = tuple(each for each in config.fields if each.name not in config.data.exclude)
    return Inferred(fields, {}, {each.name: data.columns[each.name] for each in fields if each.name in data.columns})


def _kind(column: _Column, data: Data) -> tuple[Kind | None, str]:
    """The first rule that fits."""
    kind, values = column.values.type, column.present
    if column.name in data.index:
        return None, "is the index that pandas wrote"
    if column.name in data.nested or types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        what = "lists or objects" if not (types.is_binary(kind) or types.is_large_binary(kind)) else "bytes"
        return None, f"holds {what}, which no kind of field fits"
    if types.is_time(kind) or types.is_duration(kind):
        return None, _TIME
    if types.is_null(kind) or not len(values):
        return None, "is empty"
    if types.is_temporal(kind):
        return None, _timestamp(values)
    if len(values) < LEAST_VALUES:
        return None, f"holds {len(values)} values in {len(column.values)} normal rows, too few to learn from"
    if types.is_boolean(kind):
        return "boolean", ""
    if _is_number(kind):
        return _of_numbers(column)
    if types.is_string(kind):
        return _of_texts(column)
    return None, f"holds values of type {kind}, which no kind of field fits"


def _of_numbers(column: _Column) -> tuple[Kind | None, str]:
    values = _floats(column.values)
    present = values[~np.isnan(values)]
    if present.min() == present.max():
        return "categorical", ""
    if _is_flag(present):
        return "categorical", ""
    reason = identifiers.of_numbers(column.name, values, column.others)
    return ("numeric", "") if reason is None else (None, reason)


def _of_texts(column: _Column) -> tuple[Kind | None, str]:
    values = column.present
    if pc.all(pc.match_substring_regex(values, _TIME_OF_DAY)).as_py():
        return None, _TIME
    if pc.mean(pc.cast(pc.match_substring_regex(values, dates.LOOSE), pa.float64())).as_py() >= _TIMESTAMPS:
        return None, "looks like timestamps, in several forms or one that is not known; date_format in [data] says it"
    reason = identifiers.of_texts(values, column.vocabulary)
    return ("categorical", "") if reason is None else (None, reason)


def _timestamp(values: pa.ChunkedArray) -> str:
    moments = pc.cast(values, pa.timestamp("us"))
    is_date = pc.all(pc.equal(moments, pc.floor_temporal(moments, unit="day"))).as_py()
    if is_date:
        return f"is a date; {identifiers.AS_DATE}"
    return f"is a timestamp; {identifiers.AS_TIMESTAMP}"


def _said(column: _Column, kind: Kind | None, data: Data) -> Iterator[str]:
    """What a person should know of a column; of one that is left out only how to have it read otherwise."""
    found = data.columns.get(column.name, ())
    if kind is None:
        yield from (note for note in found if _OTHERWISE in note)
    else:
        yield from (*found, *_notes(column, kind))


def _notes(column: _Column, kind: Kind) -> Iterator[str]:
    if _is_constant(column.values):
        yield "constant, so another value will be strange"
    if kind == "categorical" and types.is_string(column.values.type):
        alike = _alike(pc.unique(column.present).to_pylist())
        if alike:
            yield f"holds categories that differ by capitals or spaces alone: {', '.join(map(repr, alike[:4]))}"
    if kind != "numeric":
        return
    values = _floats(column.values)
    found = sentinels.of(values)
    if found is not None:
        value, count, low, high = found
        yield (
            f"holds {_exactly(value)} in {count} rows, far from all others ({low:g} to {high:g}): if it means missing, "
            f'say missing_values = ["{_exactly(value)}"] in [data]'
        )
    present = values[~np.isnan(values)]
    distinct = len(np.unique(present))
    has_gaps = present.max() - present.min() >= 2 * distinct
    if distinct <= FEW_NUMBERS and (has_gaps or distinct <= _CODES) and (present == np.floor(present)).all():
        yield f'holds {distinct} different whole numbers; kind = "categorical" if they are codes'


def _exactly(value: float) -> str:
    """All digits of a number, so that it can be told from others."""
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def _alike(texts: Sequence[str]) -> list[str]:
    """The texts that are one but for capitals and spaces, of the first such."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(" ".join(text.casefold().split()), []).append(text)
    return next((sorted(group) for group in groups.values() if len(group) > 1), [])


def _totals(data: Data) -> Iterator[str]:
    """Rows that look like sums of the others."""
    table = data.table
    for name in table.column_names:
        if not types.is_string(table[name].type):
            continue
        texts = pc.utf8_trim_whitespace(table[name])
        rows = np.flatnonzero(np.asarray(pc.fill_null(pc.match_substring_regex(texts, _TOTAL), False)))
        if 0 < rows.size <= _FEW_TOTALS * table.num_rows:
            cell, last = texts[int(rows[-1])].as_py(), data.number(int(rows[-1]))
            said = f"row {last} looks" if rows.size == 1 else f"{rows.size} rows look"
            yield f"{said} like totals of others ({cell!r} in {name!r}, row {last}): remove them where they are"


def _warnings(normal: pa.Table, fields: list[FieldConfig], config: TrainingConfig) -> Iterator[str]:
    if config.data.label is not None:
        return
    for each in fields:
        if (
            _is_called_a_label(each.name)
            and 2 <= pc.count_distinct(normal[each.name], mode="all").as_py() <= _MOST_LABELS
        ):
            values = pc.value_counts(normal[each.name])
            common = values[int(np.argmax(np.asarray(pc.struct_field(values, "counts"))))].as_py()["values"]
            most = str(common).lower() if isinstance(common, bool) else common
            rows = "the rows without one" if common is None else f"the rows with {most}"
            yield (
                f"column {each.name!r} looks like a label, and the model learns it as a feature: "
                f"--label {each.name} --normal {chr(39) * 2 if common is None else most} learns {rows} alone, if those "
                f"are normal; --exclude {each.name} leaves it out"
            )


def _is_called_a_label(name: str) -> bool:
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()))
    return bool(words & _LABELS) and words <= _LABELS | _BESIDE_LABELS


def _refuse_infinities(data: Data, apart: set[str | None]) -> None:
    for name in data.table.column_names:
        if name in apart or not types.is_floating(data.table[name].type):
            continue
        infinite = np.flatnonzero(np.isinf(np.asarray(data.table[name])))
        if infinite.size:
            place = data.place(int(infinite[0]))
            raise DataInvalid(f"column {name!r}, {place}: an infinity; remove the row or leave it empty")


def _is_number(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind))


def _is_constant(column: pa.ChunkedArray) -> bool:
    return bool(pc.count_distinct(column).as_py() == 1)


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = np.asarray(column).astype(np.float64)
    return values


def _is_flag(present: npt.NDArray[np.float64]) -> bool:
    ones = float(np.mean(present == 1))
    return bool(np.isin(present, (0, 1)).all()) and RARE_FLAG <= ones <= 1 - RARE_FLAG
