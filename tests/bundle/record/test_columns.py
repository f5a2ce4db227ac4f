"""Columns: the tensors of files and Arrow tables are those of the same data sent as records."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import MOST_PROBLEMS, InvalidRecords
from bundle.record.records import encode_columns, encode_records
from bundle.record.schema import TableSchema

COLOURS = st.sampled_from(["red", "7", "true", "violet", ""])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ROW = st.tuples(st.none() | COLOURS, st.none() | NUMBERS, st.none() | st.booleans())
ROWS = st.lists(ROW.filter(lambda row: row != (None, None, None)), min_size=1)
NAMES = ("colour", "amount", "paid")


def assert_same(left: dict[str, npt.NDArray[Any]], right: dict[str, npt.NDArray[Any]]) -> None:
    assert list(left) == list(right)
    for name in left:
        assert left[name].dtype == right[name].dtype
        np.testing.assert_array_equal(left[name], right[name])


def column(schema: TableSchema, name: str, values: Any) -> list[Any]:
    """The tensor's column of one field, next to another field so that no record is empty."""
    other = {"amount": np.ones(len(values))} if name != "amount" else {"paid": np.ones(len(values), bool)}
    tensors = encode_columns(schema, {name: values} | other, len(values))
    kind = {"colour": "categorical", "amount": "numeric", "paid": "boolean"}[name]
    return tensors[kind][:, 0].tolist()


@given(ROWS)
def test_columns_give_the_tensors_of_the_same_records(schema: TableSchema, rows: list[tuple[Any, ...]]) -> None:
    of_records = encode_records(schema, rows)
    lists = dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))
    arrow = {
        "colour": pa.array(lists["colour"], pa.string()),
        "amount": pa.array(lists["amount"], pa.float64()),
        "paid": pa.array(lists["paid"], pa.bool_()),
    }
    objects = {name: np.array([*values, None], object)[:-1] for name, values in lists.items()}
    encoded = arrow | {"colour": arrow["colour"].dictionary_encode()}
    large = arrow | {"colour": arrow["colour"].cast(pa.large_string())}
    chunked = {name: pa.chunked_array([array[:1], array[1:]]) for name, array in arrow.items()}
    for columns in (lists, objects, arrow, encoded, large, chunked):
        given_columns = {
            name: values if isinstance(values, list) else np.asarray(values) for name, values in columns.items()
        }
        assert_same(encode_columns(schema, given_columns, len(rows)), of_records)


@given(st.lists(st.integers(-128, 127), min_size=1), st.sampled_from(["i1", "i2", "i4", "i8", "f2", "f4", "f8"]))
def test_whole_numbers_are_the_same_category_in_every_dtype(schema: TableSchema, numbers: list[int], kind: str) -> None:
    of_records = encode_records(schema, [{"colour": number, "amount": number} for number in numbers])
    array = np.array(numbers, kind)
    assert_same(encode_columns(schema, {"colour": array, "amount": array}, len(numbers)), of_records)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("amount", [1.5, None, math.nan], [1.5, math.nan, math.nan]),
        ("amount", np.array([1.5, math.nan, math.nan]), [1.5, math.nan, math.nan]),
        ("amount", np.array([1.5, None, math.nan], object), [1.5, math.nan, math.nan]),
        ("amount", pa.array([7, None]), [7.0, math.nan]),
        ("amount", pa.nulls(2), [math.nan, math.nan]),
        ("paid", np.array([1.0, math.nan, 0.0], np.float32), [1, -1, 0]),
        ("paid", np.array([True, None, math.nan], object), [1, -1, -1]),
        ("paid", np.array([0, 1], np.uint8), [0, 1]),
        ("paid", pa.array([True, None, False]), [1, -1, 0]),
        ("paid", pa.array([1, None, 0], pa.int8()), [1, -1, 0]),
        ("paid", pa.nulls(2), [-1, -1]),
        ("colour", np.array([7.0, math.nan]), [2, -1]),
        ("colour", np.array(["red", None, math.nan, 7, True], object), [1, -1, -1, 2, 3]),
        ("colour", np.array(["red", "7", "x"]), [1, 2, 0]),
        ("colour", np.array([True, False]), [3, 0]),
        ("colour", pa.array(["red", None, "x"]), [1, -1, 0]),
        ("colour", pa.array([7, None]), [2, -1]),
        ("colour", pa.array([True, None]), [3, -1]),
        ("colour", pa.nulls(2), [-1, -1]),
    ],
    ids=lambda value: f"{value.type}{value.to_pylist()}" if isinstance(value, pa.Array) else repr(value),
)
def test_none_and_nan_are_missing_in_every_kind_of_column(
    schema: TableSchema, name: str, values: Any, expected: list[float]
) -> None:
    given_values = np.asarray(values) if isinstance(values, pa.Array) else values
    np.testing.assert_array_equal(column(schema, name, given_values), expected)


@pytest.mark.parametrize("value", [2**53, -(2**53), 1_700_000_000])
@pytest.mark.parametrize("kind", [np.int64, np.float64, object])
def test_large_numbers_keep_their_digits(schema: TableSchema, value: int, kind: type) -> None:
    assert column(schema, "amount", np.array([value, 1], kind)) == [value, 1]


def test_large_whole_categories_keep_their_digits() -> None:
    identity = 2**63 - 1
    document = {"kind": "categorical", "name": "id", "missing_rate": 0.1, "vocabulary": [str(identity)]}
    schema = TableSchema.model_validate({"fields": [document]})
    for values in (np.array([identity, identity - 1]), [identity, identity - 1], np.array([str(identity), "x"])):
        assert encode_columns(schema, {"id": values}, 2)["categorical"].tolist() == [[1], [0]]


def test_a_field_without_a_column_is_missing_and_columns_that_are_no_field_are_ignored(schema: TableSchema) -> None:
    columns = {"paid": np.array([True, False]), "note": ["x", "y"], "row": object()}
    tensors = encode_columns(schema, columns, 2)  # type: ignore[arg-type]
    assert_same(tensors, encode_records(schema, [{"paid": True}, {"paid": False}]))


def test_the_arrays_of_the_caller_are_neither_changed_nor_kept(schema: TableSchema) -> None:
    amount = np.array([1.0, 2.0])
    tensors = encode_columns(schema, {"amount": amount}, 2)
    tensors["numeric"][:] = 9.0
    assert amount.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("bad", [math.inf, -math.inf])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, object])
def test_infinities_are_refused_in_every_dtype(schema: TableSchema, bad: float, kind: type) -> None:
    with pytest.raises(InvalidRecords, match="record 1, field 'amount': a finite number is expected"):
        encode_columns(schema, {"amount": np.array([1.0, bad], kind)}, 2)


DETAILS = {
    "amount": "a number is expected",
    "paid": "true or false is expected",
    "colour": "text or a number is expected",
}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *[("amount", np.array(values)) for values in (["777"], [True], [b"777"], [777j])],
        *[("paid", np.array(values)) for values in (["777"], [777], [0.5], [b"777"], [777j])],
        *[("colour", np.array(values)) for values in ([b"777"], [777j])],
        *[(name, np.asarray(pa.array([[777, 777]]))) for name in DETAILS],
        *[(name, np.array([1], f"timedelta64[{unit}]")) for name in DETAILS for unit in ("s", "us", "ns")],
        *[(name, np.array([1], f"datetime64[{unit}]")) for name in DETAILS for unit in ("D", "s", "us", "ns")],
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.dtype),
)
def test_columns_of_foreign_types_are_refused(schema: TableSchema, name: str, values: npt.NDArray[Any]) -> None:
    with pytest.raises(InvalidRecords, match=f"record 0, field '{name}': {DETAILS[name]}") as error:
        encode_columns(schema, {name: values}, 1)
    assert "777" not in str(error.value)


def test_a_row_with_no_field_present_is_refused(schema: TableSchema) -> None:
    with pytest.raises(InvalidRecords) as error:
        encode_columns(schema, {"amount": np.array([1.0, math.nan, 2.0, math.nan])}, 4)
    said = [(problem.row, problem.field, problem.detail) for problem in error.value.problems]
    assert said == [(1, None, "no field is present"), (3, None, "no field is present")]


def test_problems_come_in_row_order_and_only_the_first_of_them(schema: TableSchema) -> None:
    rows = MOST_PROBLEMS + 20
    with pytest.raises(InvalidRecords) as error:
        encode_columns(schema, {"paid": ["no"] * rows, "amount": ["no"] * rows, "colour": ["red"] * rows}, rows)
    assert [problem.row for problem in error.value.problems] == [row for row in range(rows) for _ in "ab"][
        :MOST_PROBLEMS
    ]
