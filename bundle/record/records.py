"""From what a client sends to the graph's tensors: records (JSON) and columns (files, Arrow)."""

import math
import struct
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import cast

import numpy as np
import numpy.typing as npt

from bundle.errors import MOST_PROBLEMS, InvalidRecords, Problem, short
from bundle.record import images, timestamps
from bundle.record.field_values import Column, Tensor, encode_field
from bundle.record.fields import (
    MISSING,
    CategoricalField,
    TableField,
)
from bundle.record.images import Report
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema

MISSING_TEXTS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""What an empty cell may look like in CSV that a client sends, and in text files to bundles whose fields do not say."""

NOTHING = "no field is present"
"""What is wrong with a record that holds nothing: it can have no score."""

_FEW = 256
_PLAIN = {float, int}


def encode_records(schema: RecordSchema, records: Sequence[object]) -> dict[str, Tensor]:
    """Turn records into tensors.

    Args:
        schema: The bundle's fields.
        records: B records: each a mapping by field name (left out or None is missing) or a sequence in
            field order; both may be mixed. A timestamp that fields derive from may stand in their place.

    Returns:
        `numeric` (B, F) float64, `boolean` (B, G) int8, `categorical` (B, C) int64, as far as the schema has them; or
        `image` (B, H, W, C) uint8.

    Raises:
        InvalidRecords: Records that do not fit, with row and field, without the offending values.
    """
    problems: list[Problem] = []
    if not records:
        return encode_columns(schema, {}, 0)
    rows = _whole_rows(schema, records)
    if rows is None:
        rows = []
        for index, record in enumerate(records):
            rows.append(_row(schema, index, record, problems))
            if len(problems) >= MOST_PROBLEMS:
                break
        if problems:
            raise InvalidRecords(problems[:MOST_PROBLEMS])
    if list(schema.dtypes) == ["numeric"]:
        matrix = _matrix(rows, len(schema.names))
        if matrix is not None:
            return {"numeric": matrix}
    columns: list[Column] = list(zip(*rows, strict=True))
    # By position, because a record that names every field needs no timestamp to derive one from.
    tensors, problems = _encoded(schema, dict(zip(schema.names, columns, strict=True)), len(records), MOST_PROBLEMS)
    if problems:
        raise InvalidRecords(problems[:MOST_PROBLEMS])
    return tensors


def encode_columns(schema: RecordSchema, columns: Mapping[str, Column], rows: int) -> dict[str, Tensor]:
    """Turn named columns into tensors.

    Args:
        schema: The bundle's fields.
        columns: By field name, n values each: an array, or a sequence of values as a JSON client would send
            them. None, NaN and NaT are missing; a field without a column is missing in every row. Columns
            that are no field are ignored. A column of timestamps may stand in place of what derives from it.
        rows: n.

    Returns:
        The same tensors as `encode_records`.

    Raises:
        InvalidRecords: Values that do not fit.
    """
    tensors, problems = encode_what_fits(schema, columns, rows, MOST_PROBLEMS)
    if problems:
        raise InvalidRecords(problems[:MOST_PROBLEMS])
    return tensors


def encode_what_fits(
    schema: RecordSchema, columns: Mapping[str, Column], rows: int, most: int
) -> tuple[dict[str, Tensor], list[Problem]]:
    """Turn named columns into tensors, and say of values that do not fit.

    Args:
        schema: The bundle's fields.
        columns: See `encode_columns`.
        rows: n.
        most: Problems that are looked for, a column; `rows` for all.

    Returns:
        The same tensors, in which what does not fit is missing; and the problems by row.
    """
    given = dict(columns)
    problems: list[Problem] = []
    for source, fields in schema.timestamps.items():
        if source in columns:
            for field in fields:
                given.setdefault(field.name, _derive(field, columns[source], problems, most))
    nothing = [None] * rows
    tensors, more = _encoded(schema, {name: given.get(name, nothing) for name in schema.names}, rows, most)
    said = {problem.row for problem in problems}
    # One timestamp may have several parts, and a record that holds nothing else holds something all the same.
    found = dict.fromkeys([*problems, *(each for each in more if each.detail != NOTHING or each.row not in said)])
    return tensors, sorted(found, key=lambda problem: problem.row)


def _whole_rows(schema: RecordSchema, records: Sequence[object]) -> list[Sequence[object]] | None:
    """The records' values in field order, if each record is plain and has a member for every field; else None."""
    if set(map(type, records)) == {list}:
        rows = cast(list[Sequence[object]], records)
        return rows if set(map(len, rows)) == {len(schema.names)} else None
    if set(map(type, records)) == {dict} and not schema.timestamps:
        objects = cast(Sequence[dict[str, object]], records)
        if set(map(len, objects)) == {len(schema.names)}:
            try:
                return list(map(schema.values_of, objects))
            except KeyError:
                return None
    return None


def _row(schema: RecordSchema, index: int, record: object, problems: list[Problem]) -> Sequence[object]:
    if isinstance(record, Mapping):
        if schema.timestamps:
            record = _with_derived(schema, index, record, problems)
        if not record.keys() <= schema.name_set:
            unknown = islice((name for name in record if name not in schema.name_set), MOST_PROBLEMS)
            problems += [Problem(index, short(str(name)), "no such field") for name in unknown]
        return [record.get(name) for name in schema.names]
    if isinstance(record, list | tuple):
        if len(record) != len(schema.names):
            detail = f"an array record holds {len(schema.names)} values, one a field; this one has {len(record)}"
            problems.append(Problem(index, None, detail))
        return record
    problems.append(Problem(index, None, "a record is an object by field name or an array in field order"))
    return ()


def _with_derived(
    schema: RecordSchema, index: int, record: Mapping[str, object], problems: list[Problem]
) -> dict[str, object]:
    expanded = dict(record)
    for source, fields in schema.timestamps.items():
        value = expanded.pop(source, None)
        if value is None:
            continue
        for field in fields:
            if record.get(field.name) is not None:
                problems.append(Problem(index, field.name, f"given beside {source!r}, which it derives from"))
                continue
            assert field.derived is not None
            try:
                expanded[field.name] = timestamps.part(field.derived, value)
            except ValueError:
                problems.append(Problem(index, source, "a timestamp in ISO 8601 is expected"))
                break
    return expanded


def _derive(field: CategoricalField, column: Column, problems: list[Problem], most: int) -> Column:
    assert field.derived is not None
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        return timestamps.parts(field.derived, column)
    report = _reporter(field.derived.source, problems, most)
    values: list[object] = []
    for row, value in enumerate(column):
        try:
            values.append(timestamps.part(field.derived, value))
        except ValueError:
            values.append(None)
            report(row, "a timestamp in ISO 8601 is expected")
    return values


def _reporter(name: str, problems: list[Problem], most: int) -> Report:
    """Takes what is wrong with values of a field, and no more than `most` of it."""
    left = most

    def report(row: int, detail: str) -> None:
        nonlocal left
        if left > 0:
            problems.append(Problem(row, name, detail))
            left -= 1

    return report


def _encoded(
    schema: RecordSchema, columns: Mapping[str, Column], rows: int, most: int
) -> tuple[dict[str, Tensor], list[Problem]]:
    problems: list[Problem] = []
    match schema:
        case ImageSchema(field=image):
            report = _reporter(image.name, problems, most)
            tensors: dict[str, Tensor] = {"image": images.encode(image, columns[image.name], report, most)}
        case TableSchema():
            tensors = _of_table(schema, columns, rows, problems, most)
    return tensors, sorted(problems, key=lambda problem: problem.row)


def _of_table(
    schema: TableSchema, columns: Mapping[str, Column], rows: int, problems: list[Problem], most: int
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for kind, fields in schema.by_input.items():
        given = [columns[field.name] for field in fields]
        matrix = _matrix(given, rows) if kind == "numeric" else None
        if matrix is None:
            tensors[kind] = _column_by_column(fields, given, rows, schema.dtypes[kind], problems, most)
        else:
            tensors[kind] = np.ascontiguousarray(matrix.T)
    if not all(_is_whole(kind, tensor) for kind, tensor in tensors.items()):
        present = np.zeros(rows, bool)
        for kind, tensor in tensors.items():
            present |= (~np.isnan(tensor) if kind == "numeric" else tensor != MISSING).any(axis=1)
        # A value that does not fit is missing here, and said already.
        said = {problem.row for problem in problems}
        empty = [row for row in np.flatnonzero(~present)[: most + len(said)].tolist() if row not in said]
        problems += [Problem(row, None, NOTHING) for row in empty[:most]]
    return tensors


def _matrix(lines: Sequence[Column], width: int) -> Tensor | None:
    """Lines of `width` finite numbers of Python's own, as a float64 matrix; None if any value is something else.

    `struct` reads them several times faster than numpy does, and refuses text and None, which numpy would convert.
    """
    if not set(map(type, lines)) <= {list, tuple}:
        return None
    values = list(chain.from_iterable(lines))
    try:
        matrix = np.frombuffer(struct.pack(f"{len(values)}d", *values)).reshape(len(lines), width)
    except (struct.error, OverflowError):
        return None
    # Booleans pass for 0 and 1, and are no numbers here. Numpy is the faster one only from some hundred values on.
    if len(values) <= _FEW:
        good = set(map(type, values)) <= _PLAIN and math.isfinite(sum(values, 0.0))
    else:
        good = bool(np.isfinite(matrix).all())
        good = good and (not ((matrix == 0.0) | (matrix == 1.0)).any() or set(map(type, values)) <= _PLAIN)
    return matrix if good else None


def _is_whole(kind: str, tensor: Tensor) -> bool:
    return not (np.isnan(tensor) if kind == "numeric" else tensor == MISSING).any()


def _column_by_column(
    fields: Sequence[TableField],
    columns: Sequence[Column],
    rows: int,
    dtype: npt.DTypeLike,
    problems: list[Problem],
    most: int,
) -> Tensor:
    tensor = np.empty((rows, len(fields)), dtype)
    for position, (field, column) in enumerate(zip(fields, columns, strict=True)):
        tensor[:, position] = encode_field(field, column, _reporter(field.name, problems, most))
    return tensor
