"""From a request's tensors to the graph's: every datatype, every kind of field, missing values."""

from typing import Any

import numpy as np
import pytest

from bundle.record.fields import BooleanField, CategoricalField, Derived, NumericField, Tensors
from bundle.record.records import encode_records
from bundle.record.schema import TableSchema
from bundle.record.timestamps import HOURS
from service.errors import RequestInvalid, TooManyRecords
from service.openinference.records import to_tensors
from service.openinference.tensor import TensorReader

SCHEMA = TableSchema(
    fields=(
        NumericField(name="speed", missing_rate=0.1, mean=0.0, scale=1.0),
        CategoricalField(name="gate", missing_rate=0.1, vocabulary=("7", "2.5", "true", "north")),
        BooleanField(name="open", missing_rate=0.1),
        NumericField(name="load", missing_rate=0.1, mean=0.0, scale=1.0),
        CategoricalField(name="hour", missing_rate=0.1, vocabulary=HOURS, derived=Derived(source="at", part="hour")),
    )
)


def read(*inputs: dict[str, Any], blobs: bytes = b"", max_records: int = 100) -> Tensors:
    """The graph's tensors; blobs begin at an odd address."""
    reader = TensorReader(b"x" + blobs, 1, max_records, 8)
    tensors = [reader.read(position, each) for position, each in enumerate(inputs)]
    reader.end()
    return to_tensors(SCHEMA, tensors)


def given(name: str, datatype: str, data: list[Any], *shape: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape) or [len(data)], "data": data}


def blob(name: str, datatype: str, content: bytes, *shape: int) -> tuple[dict[str, Any], bytes]:
    parameters = {"binary_data_size": len(content)}
    return {"name": name, "datatype": datatype, "shape": list(shape), "parameters": parameters}, content


def same(tensors: Tensors, records: list[dict[str, Any]]) -> None:
    """As if these records had come to `POST /score`."""
    expected = encode_records(SCHEMA, records)
    assert set(tensors) == set(expected)
    for kind, values in expected.items():
        np.testing.assert_array_equal(tensors[kind], values, strict=True)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_numbers_of_every_datatype(dtype: str) -> None:
    values = np.array([3, 0, 7], f"<{dtype}")
    name = {"u": "UINT", "i": "INT", "f": "FP"}[dtype[0]] + str(8 * int(dtype[1]))
    records = [{"speed": float(value)} for value in values]
    same(read(given("speed", name, values.tolist())), records)
    for shape in ((3,), (3, 1)):
        described, content = blob("speed", name, values.tobytes(), *shape)
        same(read(described, blobs=content), records)


def test_an_integer_keeps_its_digits() -> None:
    assert read(given("speed", "INT64", [2**53 - 1]))["numeric"][0, 0] == 2**53 - 1
    with pytest.raises(RequestInvalid, match="/inputs/0/data: a value is beyond INT8"):
        read(given("speed", "INT8", [300]))


@pytest.mark.parametrize(
    ("field", "datatype", "data", "value"),
    [
        ("speed", "FP64", [None, 1.5], 1.5),
        ("speed", "FP32", [None, 1], 1.0),
        ("speed", "INT32", [None, 4], 4.0),
        ("open", "BOOL", [None, True], True),
        ("open", "BOOL", [None, 0], False),
        ("open", "INT64", [None, 1], True),
        ("open", "INT8", [-1, 0], False),
        ("gate", "BYTES", [None, "north"], "north"),
        ("gate", "BYTES", ["", "elsewhere"], "elsewhere"),
        ("gate", "INT64", [None, 7], 7),
        ("gate", "FP64", [None, 2.5], 2.5),
        ("gate", "BOOL", [None, True], True),
        ("gate", "UINT8", [None, 9], 9),
    ],
)
def test_null_is_missing(field: str, datatype: str, data: list[Any], value: Any) -> None:
    tensors = read(given(field, datatype, data), given("load", "FP64", [0.0, 0.0]))
    same(tensors, [{"load": 0.0}, {field: value, "load": 0.0}])


def test_nan_is_missing() -> None:
    described, content = blob("gate", "FP64", np.array([np.nan, 7.0]).tobytes(), 2)
    same(read(described, given("load", "FP64", [0.0, 0.0]), blobs=content), [{"load": 0.0}, {"gate": 7, "load": 0.0}])
    signalling = np.array([0x7F800001, 0x3F800000], "<u4").tobytes()
    described, content = blob("speed", "FP32", signalling, 2)
    same(read(described, given("load", "FP64", [0.0, 0.0]), blobs=content), [{"load": 0.0}, {"speed": 1, "load": 0.0}])


def test_matrices_flat_nested_and_binary() -> None:
    records = [{"speed": 1.0, "load": None, "gate": "7", "hour": "23"}, {"speed": None, "load": 4.0, "gate": "x"}]
    texts = [["7", "23"], ["x", None]]
    codes = [[1, 24], [0, -1]]
    same(
        read(given("numeric", "FP64", [1.0, None, None, 4.0], 2, 2), given("categorical", "BYTES", texts, 2, 2)),
        records,
    )
    same(
        read(given("numeric", "FP32", [[1, None], [None, 4]], 2, 2), given("categorical", "INT64", codes, 2, 2)),
        records,
    )
    numeric, first = blob("numeric", "FP64", np.array([1.0, np.nan, np.nan, 4.0]).tobytes(), 2, 2)
    written = b"".join(len(text).to_bytes(4, "little") + text for text in (b"7", b"23", b"x", b""))
    categorical, second = blob("categorical", "BYTES", written, 2, 2)
    same(read(numeric, categorical, blobs=first + second), records)
    integers, third = blob("categorical", "INT32", np.array(codes, "<i4").tobytes(), 2, 2)
    tensors = read(numeric, integers, given("boolean", "BOOL", [True, False], 2, 1), blobs=first + third)
    same(tensors, [records[0] | {"open": True}, records[1] | {"open": False}])


@pytest.mark.parametrize("offset", range(9))
def test_a_matrix_is_read_in_place_where_it_is_aligned(offset: int) -> None:
    body = b"x" * offset + np.arange(4.0).tobytes()
    reader = TensorReader(body, offset, 10, 8)
    described, _ = blob("numeric", "FP64", body[offset:], 2, 2)
    numeric = to_tensors(SCHEMA, [reader.read(0, described)])["numeric"]
    assert numeric.flags.aligned
    assert np.shares_memory(numeric, np.frombuffer(body, "u1")) == (offset % 8 == 0)
    np.testing.assert_array_equal(numeric, [[0.0, 1.0], [2.0, 3.0]])


def test_a_timestamp_stands_for_what_derives_from_it() -> None:
    records: list[dict[str, Any]] = [{"speed": 1.0, "at": "2026-03-01T23:30:00-01:00"}, {"speed": 2.0}]
    texts = ["2026-03-01T23:30:00-01:00", ""]
    same(read(given("speed", "FP64", [1.0, 2.0]), given("at", "BYTES", texts)), records)
    for wrong in (given("at", "BYTES", ["noon"]), given("at", "INT64", [5])):
        with pytest.raises(RequestInvalid, match="ISO 8601"):
            read(wrong)
    with pytest.raises(RequestInvalid, match="given twice"):
        read(given("hour", "BYTES", ["3"]), given("at", "BYTES", ["2026-03-01"]))


WRONG: list[tuple[list[Any], str]] = [
    ([5], "/inputs/0: an object"),
    ([{}], "/inputs/0/name: text"),
    ([{"name": "speed"}], "/inputs/0/datatype: one of"),
    ([{"name": "speed", "datatype": "FP64"}], "/inputs/0/shape: "),
    ([given("speed", "BF16", [1.0])], "/inputs/0/datatype: one of"),
    ([given("secret", "FP64", [1.0])], "/inputs/0/name: the model has no such input"),
    ([given("speed", "FP64", [1.0], 1, 1, 1)], "/inputs/0/shape: "),
    ([given("speed", "FP64", [], 0)], "/inputs/0/shape: sizes of at least 1"),
    ([given("speed", "FP64", [1.0], -1)], "/inputs/0/shape: sizes of at least 1"),
    ([given("speed", "FP64", [1.0], True)], "/inputs/0/shape: "),
    ([given("speed", "FP64", [1.0, 2.0], 1)], "/inputs/0/data: 1 values"),
    ([given("speed", "FP64", [1.0], 1, 10**18)], "/inputs/0/data: 1000000000000000000 values"),
    ([given("speed", "FP64", [1.0, 2.0], 1, 2)], r"/inputs/0/shape: \[B\] or \[B, 1\]"),
    ([given("speed", "FP64", [[1.0], [2.0, 3.0]], 2, 1)], "/inputs/0/data: rows of 1 values"),
    ([given("speed", "FP64", [[1.0], 2.0], 2, 1)], "/inputs/0/data: rows of 1 values"),
    ([given("speed", "FP64", [[[1.0]]], 1, 1)], "/inputs/0/data/0: numbers or null"),
    ([given("speed", "FP64", ["S3CRET"])], "/inputs/0/data/0: numbers or null"),
    ([given("speed", "FP64", [True])], "/inputs/0/data/0: numbers or null"),
    ([given("speed", "INT64", [1.5])], "/inputs/0/data/0: whole numbers"),
    ([given("speed", "FP32", [1e300])], "/inputs/0/data: value 0: a finite number"),
    ([given("speed", "BOOL", [True])], "/inputs/0/datatype: FP64"),
    ([given("speed", "BYTES", ["1"])], "/inputs/0/datatype: FP64"),
    ([given("open", "FP64", [1.0])], "/inputs/0/datatype: BOOL or an integer"),
    ([given("open", "BYTES", ["true"])], "/inputs/0/datatype: BOOL or an integer"),
    ([given("open", "BOOL", [2])], "/inputs/0/data: 0 and 1"),
    ([given("open", "INT8", [2])], "/inputs/0/data: 0 \\(false\\)"),
    ([given("open", "INT8", [-2])], "/inputs/0/data: 0 \\(false\\)"),
    ([given("gate", "BYTES", [7])], "/inputs/0/data/0: text or null"),
    ([given("categorical", "INT64", [5, 0], 1, 2)], "/inputs/0/data: codes"),
    ([given("categorical", "INT64", [0, -2], 1, 2)], "/inputs/0/data: codes"),
    ([given("categorical", "UINT64", [2**63 + 1, 0], 1, 2)], "/inputs/0/data: codes"),
    ([given("categorical", "FP64", [1, 0], 1, 2)], "/inputs/0/datatype: BYTES"),
    ([given("numeric", "FP64", [1.0], 1)], r"/inputs/0/shape: \[B, 2\]"),
    ([given("speed", "FP64", [1.0]), given("load", "FP64", [1.0, 2.0])], "/inputs/1/shape: as many records"),
    ([given("speed", "FP64", [1.0]), given("speed", "FP64", [1.0])], "/inputs/1/name: given twice"),
    ([given("speed", "FP64", [1.0]), given("numeric", "FP64", [1.0, 1.0], 1, 2)], "/inputs/1/name: given twice"),
    ([given("numeric", "FP64", [1.0, 1.0], 1, 2), given("load", "FP64", [1.0])], "/inputs/1/name: given twice"),
    ([given("speed", "FP64", [1.0, None])], "/inputs: record 1: no field is present"),
    ([given("categorical", "INT64", [-1, -1], 1, 2)], "/inputs: record 0: no field is present"),
    ([{**given("speed", "FP64", [1.0]), "parameters": 3}], "/inputs/0/parameters: an object"),
    ([{**given("speed", "FP64", [1.0]), "parameters": {"binary_data_size": 8}}], "/inputs/0/data: either"),
    ([{**given("speed", "FP64", [1.0]), "data": 5}], "/inputs/0/data: an array"),
    ([{**given("speed", "FP64", [1.0]), "data": None}], "/inputs/0/data: either"),
    ([{**given("speed", "FP64", []), "parameters": {"shared_memory_region": "r"}, "shape": [1]}], "no shared memory"),
    ([blob("speed", "FP64", b"", 1)[0]], "/inputs/0/parameters/binary_data_size: the shape takes 8 bytes"),
]


@pytest.mark.parametrize(("inputs", "why"), WRONG, ids=[why for _, why in WRONG])
def test_what_does_not_fit_is_refused_without_its_value(inputs: list[Any], why: str) -> None:
    with pytest.raises(RequestInvalid, match=why) as caught:
        read(*inputs)
    assert "S3CRET" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("datatype", "content", "size", "why"),
    [
        ("FP64", b"12345678", 9, "the body ends"),
        ("FP64", b"1234567", 7, "the shape takes 8 bytes of FP64"),
        ("FP64", b"12345678", -1, "a whole number of bytes"),
        ("FP64", b"12345678", 8.0, "a whole number of bytes"),
        ("FP64", b"12345678", True, "a whole number of bytes"),
        ("FP64", b"123456789", 8, "1 bytes follow"),
        ("FP64", np.array([np.inf]).tobytes(), 8, "a finite number"),
        ("FP32", np.array([-np.inf], "f4").tobytes(), 4, "a finite number"),
        ("BYTES", b"", 0, "the shape takes 1 texts"),
        ("BYTES", b"\0\0\0", 3, "the shape takes 1 texts"),
        ("BYTES", b"\2\0\0\0a", 5, "the shape takes 1 texts"),
        ("BYTES", b"\xff\xff\xff\xffa", 5, "the shape takes 1 texts"),
        ("BYTES", b"\1\0\0\0ab", 6, "the shape takes 1 texts"),
        ("BYTES", b"\1\0\0\0\xff", 5, "UTF-8 is expected"),
    ],
)
def test_blobs_that_do_not_fit_are_refused(datatype: str, content: bytes, size: Any, why: str) -> None:
    described = {"datatype": datatype, "shape": [1], "parameters": {"binary_data_size": size}}
    with pytest.raises(RequestInvalid, match=why):
        read({"name": "gate" if datatype == "BYTES" else "speed", **described}, blobs=content)


def test_a_bool_that_is_neither_is_refused() -> None:
    described, content = blob("open", "BOOL", b"\2", 1)
    with pytest.raises(RequestInvalid, match="0 and 1"):
        read(described, blobs=content)


def test_too_many_records_are_refused_before_they_are_read() -> None:
    with pytest.raises(TooManyRecords):
        read(given("speed", "FP64", ["S3CRET"] * 101), max_records=100)
    for datatype, content in (("FP64", bytes(8 * 101)), ("BYTES", bytes(4 * 101))):
        described, _ = blob("speed", datatype, content, 101)
        with pytest.raises(TooManyRecords):
            read(described, blobs=content, max_records=100)
