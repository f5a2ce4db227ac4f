"""Records: from what a JSON client sends to tensors, and what is said about records that do not fit."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import MOST_PROBLEMS, InvalidRecords, Problem
from bundle.record.categories import category_text
from bundle.record.fields import BooleanField, CategoricalField, NumericField
from bundle.record.records import encode_columns, encode_records
from bundle.record.schema import TableSchema

MARK = "MARK7777777"
Rows = list[list[Any]]


def problems_of(schema: TableSchema, *records: object) -> list[tuple[int, str | None, str]]:
    with pytest.raises(InvalidRecords) as error:
        encode_records(schema, records)
    said = str(error.value) + repr(error.value) + repr(error.value.problems)
    assert "MARK" not in said
    assert "777" not in said
    return [(problem.row, problem.field, problem.detail) for problem in error.value.problems]


def same(left: Mapping[str, npt.NDArray[Any]], right: Mapping[str, npt.NDArray[Any]]) -> bool:
    """Whether two sets of tensors have the same names in the same order, dtypes, shapes and content."""
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name], equal_nan=name == "numeric")
        for name in left
    )


@st.composite
def schemas(draw: st.DrawFn) -> TableSchema:
    names = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6, unique=True))
    words = st.lists(st.text(max_size=3) | st.integers(-9, 99).map(str), min_size=1, max_size=5, unique=True)
    fields: list[NumericField | BooleanField | CategoricalField] = []
    for name in names:
        match draw(st.sampled_from("nbc")):
            case "n":
                fields.append(NumericField(name=name, missing_rate=0.1, mean=5.0, scale=3.0))
            case "b":
                fields.append(BooleanField(name=name, missing_rate=0.1))
            case _:
                fields.append(CategoricalField(name=name, missing_rate=0.1, vocabulary=tuple(draw(words))))
    return TableSchema(fields=tuple(fields))


def values(field: NumericField | BooleanField | CategoricalField) -> st.SearchStrategy[Any]:
    match field:
        case NumericField():
            return st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
        case BooleanField():
            return st.sampled_from([True, False, 1, 0, 1.0, 0.0])
        case CategoricalField():
            return st.sampled_from(field.vocabulary) | st.text(max_size=4) | st.integers(-9, 99) | st.booleans()


@st.composite
def schemas_and_rows(draw: st.DrawFn) -> tuple[TableSchema, Rows]:
    """Rows in field order, None where a value is missing, no row without any value."""
    schema = draw(schemas())
    row = st.tuples(*(st.none() | values(field) for field in schema.fields)).map(list)
    return schema, draw(st.lists(row.filter(lambda each: any(value is not None for value in each)), min_size=1))


def decoded(schema: TableSchema, tensors: Mapping[str, npt.NDArray[Any]]) -> Rows:
    """What tensors say, field by field: a float, a bool, a category, `...` where unknown, None where missing."""
    columns: dict[str, list[Any]] = {}
    for kind, tensor in tensors.items():
        for field, column in zip(getattr(schema, kind), tensor.T.tolist(), strict=True):
            if kind == "numeric":
                columns[field.name] = [None if math.isnan(value) else value for value in column]
            elif kind == "boolean":
                columns[field.name] = [{-1: None, 0: False, 1: True}[code] for code in column]
            else:
                columns[field.name] = [[..., *field.vocabulary, None][code] for code in column]
    return [list(row) for row in zip(*(columns[name] for name in schema.names), strict=True)]


def meant(field: object, value: Any) -> Any:
    if value is None:
        return None
    match field:
        case NumericField():
            return float(value)
        case BooleanField():
            return bool(value)
        case CategoricalField():
            text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
            return text if text in field.vocabulary else ...


@given(schemas_and_rows())
def test_tensors_decode_to_the_values_that_were_sent(sent: tuple[TableSchema, Rows]) -> None:
    schema, rows = sent
    tensors = encode_records(schema, rows)
    assert decoded(schema, tensors) == [[meant(f, v) for f, v in zip(schema.fields, row, strict=True)] for row in rows]
    assert {kind: tensor.dtype for kind, tensor in tensors.items()} == schema.dtypes
    for kind, tensor in tensors.items():
        assert tensor.shape == (len(rows), len(getattr(schema, kind)))


@given(schemas_and_rows(), st.data())
def test_objects_arrays_and_both_mixed_give_the_same_tensors(
    sent: tuple[TableSchema, Rows], data: st.DataObject
) -> None:
    schema, rows = sent
    mixed: list[object] = []
    for row in rows:
        items = data.draw(st.permutations(list(zip(schema.names, row, strict=True))))
        left_out = {name for name, value in items if value is None and data.draw(st.booleans())}
        as_object = {name: value for name, value in items if name not in left_out}
        mixed.append(data.draw(st.sampled_from([row, tuple(row), as_object])))
    assert same(encode_records(schema, mixed), encode_records(schema, rows))


@given(schemas_and_rows(), st.integers(0))
def test_a_record_never_depends_on_its_neighbours(sent: tuple[TableSchema, Rows], at: int) -> None:
    schema, rows = sent
    row = at % len(rows)
    together, alone = encode_records(schema, rows), encode_records(schema, [rows[row]])
    assert same({kind: tensor[row : row + 1] for kind, tensor in together.items()}, alone)


KEYS = st.sampled_from(["colour", "amount", "paid", "size"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
JSON = SCALARS | st.lists(SCALARS, max_size=4) | st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=1))


@given(st.lists(JSON, min_size=1))
def test_whatever_is_sent_is_encoded_or_refused_in_row_order(schema: TableSchema, records: list[Any]) -> None:
    try:
        tensors = encode_records(schema, records)
    except InvalidRecords as error:
        rows = [problem.row for problem in error.problems]
        assert rows == sorted(rows)
        assert 0 < len(rows) <= MOST_PROBLEMS
        assert set(rows) <= set(range(len(records)))
    else:
        assert all(len(tensor) == len(records) for tensor in tensors.values())
        assert not np.isinf(tensors["numeric"]).any()


def test_no_records_make_empty_tensors(schema: TableSchema) -> None:
    assert same(encode_records(schema, []), encode_columns(schema, {}, 0))


@pytest.mark.parametrize("missing", [None, math.nan])
@pytest.mark.parametrize(
    ("name", "present", "tensors"),
    [
        ("colour", {"amount": 1.0}, ([1.0], [-1], [-1])),
        ("amount", {"paid": True}, ([math.nan], [1], [-1])),
        ("paid", {"colour": "red"}, ([math.nan], [-1], [1])),
    ],
)
def test_left_out_null_and_nan_are_all_missing(
    schema: TableSchema, name: str, present: dict[str, Any], tensors: tuple[list[float], ...], missing: object
) -> None:
    as_array = [({name: missing} | present).get(each) for each in schema.names]
    encoded = encode_records(schema, [present, {name: missing} | present, as_array])
    for kind, row in zip(("numeric", "boolean", "categorical"), tensors, strict=True):
        assert np.array_equal(encoded[kind], [row] * 3, equal_nan=True)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        *[("red", 1), ("7", 2), (7, 2), (7.0, 2), (np.int8(7), 2), (np.float32(7), 2)],
        *[("true", 3), (True, 3), (np.True_, 3), ("0.5", 4), (0.5, 4), ("-3", 5), (-3, 5), (-3.0, 5)],
        *[("Red", 0), ("red ", 0), ("", 0), ("7.0", 0), (False, 0), (1, 0), ("True", 0), (math.inf, 0), (1e300, 0)],
        *[(2**64, 0), ("\ud800", 0), (None, -1), (math.nan, -1)],
    ],
    ids=repr,
)
def test_a_category_has_one_spelling(schema: TableSchema, value: object, code: int) -> None:
    for neighbour in ("red", 7, None):  # the spelling must not depend on the types beside it
        tensors = encode_records(schema, [[value, 1.0, None], [neighbour, 1.0, None]])
        assert tensors["categorical"][0] == [code]


def test_a_whole_number_too_long_to_be_spelt_is_an_unknown_category(schema: TableSchema) -> None:
    assert encode_records(schema, [{"colour": 10**5000}])["categorical"].tolist() == [[0]]


@given(st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False))
def test_category_text_is_the_shortest_that_reads_back(whole: int, number: float) -> None:
    assert category_text(whole) == str(whole)
    text = category_text(number)
    assert text is not None
    assert float(text) == number
    assert category_text(float(text)) == text
    assert text.lstrip("-").isdigit() == number.is_integer()


@pytest.mark.parametrize("value", [2**53, 2**53 - 1, -(2**53), 1_700_000_000, 1_700_000_000.123456, 5e-324, 1e308])
def test_large_numbers_keep_their_digits(schema: TableSchema, value: float) -> None:
    tensor = encode_records(schema, [{"amount": value}, {"amount": 1}])["numeric"]
    assert (tensor.dtype, tensor[0, 0]) == (np.dtype(np.float64), float(value))


@pytest.mark.parametrize("value", [Decimal("12.25"), np.float32(12.25), np.float64(12.25)])
def test_numbers_of_other_libraries_are_numbers(schema: TableSchema, value: object) -> None:
    records = [[None, each, True] for each in (value, None, math.nan, 1, 1.5)]
    assert np.array_equal(
        encode_records(schema, records)["numeric"][:, 0], [12.25, math.nan, math.nan, 1, 1.5], equal_nan=True
    )


@pytest.mark.parametrize("value", [math.inf, -math.inf, 10**400, -(10**400), Decimal("1e400"), np.float64("inf")])
def test_numbers_beyond_a_double_are_refused(schema: TableSchema, value: object) -> None:
    for neighbour in (1, 1.5, None, Decimal(2)):
        said = problems_of(schema, [None, neighbour, True], [None, value, None], [None, value, None])
        assert said == [(row, "amount", "a finite number is expected") for row in (1, 2)]


DETAILS = {
    "amount": "a number is expected",
    "paid": "true or false is expected",
    "colour": "text or a number is expected",
}


NO_FLAGS: tuple[object, ...] = (7777, 2, -1, 0.5, 10**400, MARK, "true", "", [True], {}, b"MARK")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[
            ("amount", value)
            for value in (MARK, "777", "", True, False, [777], {"a": 777}, b"MARK", Decimal("sNaN"), np.True_)
        ],
        *[("paid", value) for value in NO_FLAGS],
        *[("colour", value) for value in ([MARK], {MARK: 1}, [], b"MARK", {MARK})],
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_value_of_the_wrong_type_is_named_by_row_and_field(schema: TableSchema, name: str, value: object) -> None:
    good = {"colour": "red", "amount": 1, "paid": True}
    assert problems_of(schema, good, good | {name: value}, good) == [(1, name, DETAILS[name])]
    in_order = [value if each == name else None for each in schema.names]
    assert problems_of(schema, in_order) == [(0, name, DETAILS[name])]


def test_unknown_fields_are_named_without_their_values(schema: TableSchema) -> None:
    said = problems_of(schema, {"amount": 1}, {"amount": 1, "size": MARK, "Paid": 777, 5: MARK})
    assert said == [(1, "size", "no such field"), (1, "Paid", "no such field"), (1, "5", "no such field")]


@pytest.mark.parametrize("record", [[], [MARK], [MARK, 777.0], [MARK, 777.0, True, None], (None,) * 9])
def test_an_array_record_has_one_value_a_field(schema: TableSchema, record: list[Any]) -> None:
    detail = f"an array record holds 3 values, one a field; this one has {len(record)}"
    assert problems_of(schema, {"amount": 1}, record) == [(1, None, detail)]


@pytest.mark.parametrize("record", [None, MARK, "abc", 777, 1.5, True, b"MAR", {MARK}, range(3)])
def test_what_is_neither_object_nor_array_is_no_record(schema: TableSchema, record: object) -> None:
    detail = "a record is an object by field name or an array in field order"
    assert problems_of(schema, {"amount": 1}, record) == [(1, None, detail)]


@pytest.mark.parametrize("record", [{}, {"amount": None}, [None, None, None], [None, math.nan, None], [math.nan] * 3])
def test_a_record_with_no_field_present_is_refused(schema: TableSchema, record: object) -> None:
    assert problems_of(schema, {"amount": 0}, record) == [(1, None, "no field is present")]


@pytest.mark.parametrize("value", [{"amount": 0}, {"paid": False}, {"colour": "unheard of"}])
def test_zero_false_and_unknown_are_present(schema: TableSchema, value: object) -> None:
    encode_records(schema, [value])


def test_problems_of_all_kinds_come_in_row_order(schema: TableSchema) -> None:
    values = [
        [["MARK"], 1, True],
        [None, 1, 777],
        [None, MARK, MARK],
        ["red", 1, True],
        [{}, MARK, None],
        [{}, 1, None],
    ]
    said = problems_of(schema, *values)
    assert [row for row, _, _ in said] == [0, 1, 2, 2, 4, 4, 5]
    assert {(row, field) for row, field, _ in said} == {
        *[(0, "colour"), (1, "paid"), (2, "amount"), (2, "paid"), (4, "amount"), (4, "colour"), (5, "colour")]
    }
    said = problems_of(schema, MARK, {"size": 1}, [MARK], {"amount": 1}, 777)
    assert [(row, field) for row, field, _ in said] == [(0, None), (1, "size"), (2, None), (4, None)]


@pytest.mark.parametrize("record", [[["MARK"], MARK, 777], {"a": MARK, "b": 777, "c": MARK}, MARK, [None] * 3])
def test_only_the_first_problems_are_reported(schema: TableSchema, record: object) -> None:
    every = problems_of(schema, record)
    said = problems_of(schema, *[record] * (MOST_PROBLEMS + 20))
    rows = [row for row in range(MOST_PROBLEMS) for _ in every]
    assert [row for row, _, _ in said] == rows[:MOST_PROBLEMS]


def test_the_message_names_the_first_problem_and_counts_the_rest() -> None:
    bad, worse = Problem(3, "amount", "a number is expected"), Problem(4, None, "no field is present")
    assert str(InvalidRecords([bad])) == "record 3, field 'amount': a number is expected"
    assert str(InvalidRecords([worse, bad, bad])) == "record 4: no field is present (and 2 more)"
    assert InvalidRecords([worse, bad]).problems == (worse, bad)
