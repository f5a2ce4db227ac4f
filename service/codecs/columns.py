"""Columns of a table as records take them, whatever they come from."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from bundle.errors import MOST_PROBLEMS, InvalidRecords, Problem
from bundle.record.fields import ImageField, Tensors
from bundle.record.records import encode_columns
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.errors import Fault, RequestInvalid, pointer


def is_levels(kind: pa.DataType) -> bool:
    """Whether a column holds tensors, or flat lists of one length, of 8-bit numbers."""
    if isinstance(kind, pa.FixedShapeTensorType):
        kind = kind.storage_type
    return bool(types.is_fixed_size_list(kind) and types.is_uint8(kind.value_type))


def check_columns(schema: RecordSchema, names: Sequence[str]) -> None:
    """Check that columns are what a table of records may have.

    Args:
        schema: The bundle's fields.
        names: Of the columns, in order.

    Raises:
        RequestInvalid: A column is no field, there twice, or beside the timestamp that it derives from.
    """
    given = set(names)
    unknown = (name for name in dict.fromkeys(names) if not schema.takes(name))
    faults = [Fault(pointer(name), "a column that is no field") for name in islice(unknown, MOST_PROBLEMS)]
    if not faults and len(given) < len(names):
        doubled = [name for name, count in Counter(names).items() if count > 1]
        faults = [Fault(pointer(name), "more than one column of this name") for name in doubled]
    for source, fields in schema.timestamps.items():
        if source in given:
            derived = (field.name for field in fields if field.name in given)
            faults += [Fault(pointer(name), f"given beside {source!r}, which it derives from") for name in derived]
    if not names:
        faults = [Fault("", "there is no column; each is a field by name")]
    if faults:
        raise RequestInvalid(faults)


def tensors(schema: RecordSchema, table: pa.Table) -> Tensors:
    """The graph's inputs for a table whose columns have been checked.

    Raises:
        RequestInvalid: No row, or a value that does not fit, by row (from 1) and column.
    """
    if not table.num_rows:
        raise RequestInvalid([Fault("", "at least one record is expected")])
    try:
        return encode_columns(schema, values_of(schema, table), table.num_rows)
    except InvalidRecords as error:
        raise RequestInvalid([row_fault(each.row, each.field, each.detail) for each in error.problems]) from None


def values_of(schema: RecordSchema, table: pa.Table) -> dict[str, Any]:
    """The columns of a table that are a field's, as `bundle.record.records.encode_columns` takes them.

    Raises:
        InvalidRecords: See `images`.
        RequestInvalid: See `images`.
    """
    given = [name for name in table.column_names if schema.takes(name)]
    match schema:
        case ImageSchema():
            return {name: images(schema.field, table[name]) for name in given}
        case TableSchema():
            categories = {field.name for field in schema.categorical}
            return {name: values(table[name], name in categories) for name in given}


def images(field: ImageField, column: pa.ChunkedArray) -> Sequence[object] | npt.NDArray[np.uint8]:
    """A column of images as `bundle.record.records.encode_columns` takes it.

    Args:
        field: The image.
        column: Files as binary or text, levels as binary, tensors, or lists.

    Raises:
        InvalidRecords: A null among tensors, or within a list of fixed size.
        RequestInvalid: Tensors or lists of another size.
    """
    kind = column.type
    if not is_levels(kind):
        rows: list[object] = column.to_pylist()
        return rows
    if isinstance(kind, pa.FixedShapeTensorType):
        if tuple(kind.shape) not in (field.shape, field.shape[: 2 if field.channels == 1 else 3]):
            raise RequestInvalid([Fault(pointer(field.name), f"tensors of {list(field.shape)} are expected")])
        if kind.permutation not in (None, list(range(len(kind.shape)))):
            raise RequestInvalid([Fault(pointer(field.name), "tensors in row-major order are expected")])
        kind = kind.storage_type
    if kind.list_size != field.dimensions:
        raise RequestInvalid([Fault(pointer(field.name), f"lists of {field.dimensions} levels are expected")])
    whole = column.combine_chunks()
    whole = whole.storage if isinstance(whole, pa.ExtensionArray) else whole
    _refuse_null(whole, 1, field, "an image is never missing")
    levels = whole.flatten()
    _refuse_null(levels, field.dimensions, field, "whole numbers from 0 to 255 are expected")
    return np.asarray(levels).reshape(-1, *field.shape)


def _refuse_null(array: Any, a_row: int, field: ImageField, detail: str) -> None:
    if array.null_count:
        rows = np.unique(np.flatnonzero(np.asarray(array.is_null())) // a_row)[:MOST_PROBLEMS]
        raise InvalidRecords([Problem(row, field.name, detail) for row in rows.tolist()])


def row_fault(row: int, field: str | None, detail: str) -> Fault:
    """What is wrong with a row, counted from 0, or with one of its cells."""
    place = (row + 1,) if field is None else (row + 1, field)
    return Fault(pointer(*place), detail)


def values(column: pa.ChunkedArray, category: bool) -> npt.NDArray[Any]:
    """A column as `bundle.record.records.encode_columns` takes it, with None, NaN or NaT where it is null.

    Args:
        column: (B,) values.
        category: Whether it is a categorical field's.
    """
    kind = column.type
    if types.is_dictionary(kind):
        # Looked up here, entry by entry: decoding would copy a long text once for each of its rows, and numpy's view
        # of such a column shows a null as the last entry (pyarrow 26).
        return np.concatenate([_looked_up(chunk, category) for chunk in column.chunks])
    if types.is_decimal(kind):
        # By its digits: the direct cast makes 7.1000000000000005 of 7.10.
        column = pc.cast(pc.cast(column, pa.string()), pa.float64())
    elif category and types.is_integer(kind):
        # numpy has no null but NaN, and large ids beside one would lose digits.
        column = pc.cast(column, pa.string())
    return np.asarray(column)


def _looked_up(chunk: Any, category: bool) -> npt.NDArray[Any]:
    # Entries that no row refers to are never looked at: there may be many more of them than rows.
    used = pc.drop_null(pc.unique(chunk.indices))
    entries = pa.chunked_array([pc.take(chunk.dictionary, used)])
    known = np.concatenate([values(entries, category).astype(object), np.array([None], object)])
    places: npt.NDArray[np.int64] = np.asarray(pc.fill_null(pc.index_in(chunk.indices, used), len(used)))
    return known[places]
