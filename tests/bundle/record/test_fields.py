"""Fields and schemas: what a bundle may declare, and what it says about itself."""

from typing import Any

import numpy as np
import orjson
import pytest
from pydantic import TypeAdapter, ValidationError

from bundle.record.fields import MISSING, UNKNOWN, BooleanField, CategoricalField, Derived, NumericField
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema, schema_of

NUMERIC = {"kind": "numeric", "name": "n", "missing_rate": 0.1, "mean": 0.0, "scale": 1.0}
BOOLEAN = {"kind": "boolean", "name": "b", "missing_rate": 0.1}
CATEGORICAL = {"kind": "categorical", "name": "c", "missing_rate": 0.1, "vocabulary": ["x", "y"]}
HOUR = CATEGORICAL | {"name": "hour", "derived": {"source": "at", "part": "hour"}}


IMAGE = {"kind": "image", "name": "i", "height": 2, "width": 3, "channels": 1}
ANY: TypeAdapter[RecordSchema] = TypeAdapter(RecordSchema)


def read(*fields: dict[str, Any]) -> RecordSchema:
    return ANY.validate_python({"fields": fields})


def test_a_schema_keeps_the_order_of_its_fields_and_sorts_them_by_kind() -> None:
    fields = [CATEGORICAL, NUMERIC, BOOLEAN, NUMERIC | {"name": "n2"}, CATEGORICAL | {"name": "c2"}]
    schema = read(*fields)
    assert schema.names == ("c", "n", "b", "n2", "c2")
    assert schema.name_set == set(schema.names)
    assert isinstance(schema, TableSchema)
    assert [field.name for field in schema.numeric] == ["n", "n2"]
    assert [field.name for field in schema.boolean] == ["b"]
    assert [field.name for field in schema.categorical] == ["c", "c2"]
    assert [type(field) for field in schema.fields[:3]] == [CategoricalField, NumericField, BooleanField]


@pytest.mark.parametrize(
    ("field", "dtypes"),
    [
        (NUMERIC, {"numeric": np.dtype(np.float64)}),
        (BOOLEAN, {"boolean": np.dtype(np.int8)}),
        (CATEGORICAL, {"categorical": np.dtype(np.int64)}),
    ],
)
def test_only_the_kinds_of_its_fields_are_inputs(field: dict[str, Any], dtypes: dict[str, Any]) -> None:
    assert read(field).dtypes == dtypes


def test_inputs_stand_in_the_order_of_the_graph() -> None:
    assert list(read(CATEGORICAL, BOOLEAN, NUMERIC).dtypes) == ["numeric", "boolean", "categorical"]


def test_codes_leave_room_for_unknown_and_missing() -> None:
    field = CategoricalField(name="c", missing_rate=0.1, vocabulary=("x", "y"))
    assert (MISSING, UNKNOWN) == (-1, 0)
    assert field.codes == {None: -1, "x": 1, "y": 2}
    assert field.size == 3


def test_timestamps_list_the_fields_that_derive_from_them() -> None:
    weekday = HOUR | {"name": "weekday", "derived": {"source": "at", "part": "weekday"}}
    other = HOUR | {"name": "closed", "derived": {"source": "end", "part": "hour"}}
    schema = read(HOUR, NUMERIC, other, weekday)
    names = {source: [field.name for field in fields] for source, fields in schema.timestamps.items()}
    assert names == {"at": ["hour", "weekday"], "end": ["closed"]}
    assert read(CATEGORICAL).timestamps == {}


@pytest.mark.parametrize("twin", [NUMERIC, BOOLEAN | {"name": "n"}, CATEGORICAL | {"name": "n"}])
def test_two_fields_of_one_name_are_refused(twin: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="two fields are named 'n'"):
        read(NUMERIC, BOOLEAN, twin)


def test_a_schema_without_fields_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        read()


@pytest.mark.parametrize("vocabulary", [["x", "y", "x"], []])
def test_a_vocabulary_lists_each_category_once_and_at_least_one(vocabulary: list[str]) -> None:
    with pytest.raises(ValidationError, match="vocabulary"):
        read(CATEGORICAL | {"vocabulary": vocabulary})


@pytest.mark.parametrize("field", [NUMERIC | {"name": "at"}, BOOLEAN | {"name": "at"}, CATEGORICAL | {"name": "at"}])
def test_a_name_is_not_both_a_field_and_a_timestamp(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="'at' is both a field and the timestamp"):
        read(HOUR, field)


def test_a_field_does_not_derive_from_itself() -> None:
    with pytest.raises(ValidationError, match="'hour' is both a field and the timestamp"):
        read(HOUR | {"derived": {"source": "hour", "part": "hour"}})


@pytest.mark.parametrize(
    "document",
    [
        {"fields": [NUMERIC | {"surprise": 1}]},
        {"fields": [BOOLEAN | {"surprise": 1}]},
        {"fields": [CATEGORICAL | {"surprise": 1}]},
        {"fields": [HOUR | {"derived": {"source": "at", "part": "hour", "surprise": 1}}]},
        {"fields": [NUMERIC], "surprise": 1},
    ],
)
def test_unknown_members_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"surprise\n  Extra inputs are not permitted"):
        ANY.validate_python(document)


@pytest.mark.parametrize(
    ("field", "member"),
    [
        (NUMERIC | {"name": ""}, "name"),
        (NUMERIC | {"missing_rate": 0.0}, "missing_rate"),
        (NUMERIC | {"missing_rate": 1.0}, "missing_rate"),
        (NUMERIC | {"scale": 0.0}, "scale"),
        (NUMERIC | {"scale": -1.0}, "scale"),
        (NUMERIC | {"minimum_scale": 0.0}, "minimum_scale"),
        (NUMERIC | {"fixed_scale": 0.0}, "fixed_scale"),
        (NUMERIC | {"likelihood": "bernoulli"}, "likelihood"),
        (NUMERIC | {"kind": "image"}, "kind"),
        (HOUR | {"derived": {"source": "at", "part": "minute"}}, "part"),
    ],
)
def test_values_that_would_break_the_graph_are_refused(field: dict[str, Any], member: str) -> None:
    with pytest.raises(ValidationError, match=member):
        read(field)


@pytest.mark.parametrize(
    ("frozen", "member"),
    [
        (read(NUMERIC), "fields"),
        (read(NUMERIC).fields[0], "name"),
        (read(BOOLEAN).fields[0], "name"),
        (read(CATEGORICAL).fields[0], "vocabulary"),
        (Derived(source="at", part="hour"), "source"),
    ],
)
def test_what_was_read_cannot_be_changed(frozen: Any, member: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(frozen, member, "other")


def test_a_schema_survives_json() -> None:
    schema = read(CATEGORICAL, HOUR, NUMERIC | {"mean": 0.1 + 0.2, "likelihood": "fixed-gaussian"}, BOOLEAN)
    assert TableSchema.model_validate_json(schema.model_dump_json()) == schema


@pytest.mark.parametrize(("field", "kind"), [(NUMERIC, TableSchema), (IMAGE, ImageSchema)])
def test_the_kinds_of_the_fields_tell_which_record_a_document_means(field: dict[str, Any], kind: type) -> None:
    schema = read(field)
    assert type(schema) is kind
    document = ANY.dump_json(schema)
    assert list(orjson.loads(document)) == ["fields"]
    assert ANY.validate_json(document) == schema == schema_of(schema.fields)
    assert ANY.validate_python(schema) is schema


@pytest.mark.parametrize("fields", [(IMAGE, NUMERIC), (NUMERIC, IMAGE), (IMAGE, IMAGE | {"name": "j"})])
def test_nothing_stands_beside_an_image(fields: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(ValidationError, match="'i' is an image, which is a record by itself: no field beside it"):
        read(*fields)


def test_a_schema_is_of_one_kind() -> None:
    with pytest.raises(ValidationError, match="'image' found using 'kind'"):
        TableSchema.model_validate({"fields": [IMAGE]})
    with pytest.raises(ValidationError, match="'image'"):
        ImageSchema.model_validate({"fields": [NUMERIC]})


def test_what_is_wrong_is_said_of_a_field() -> None:
    with pytest.raises(ValidationError) as caught:
        read(BOOLEAN, NUMERIC | {"scale": -1.0})
    assert caught.value.errors()[0]["loc"] == ("fields", 1, "numeric", "scale")


def test_every_record_says_how_large_it_is_and_where_its_fields_stand() -> None:
    table, image = read(NUMERIC, BOOLEAN, NUMERIC | {"name": "n2"}), read(IMAGE)
    assert (table.width, table.levels, table.columns) == (3, 0, {"n": 0, "b": 0, "n2": 1})
    assert (image.width, image.levels, image.columns) == (6, 6, {"i": 0})
    assert (table.shapes, image.shapes) == ({"numeric": (2,), "boolean": (1,)}, {"image": (2, 3, 1)})
    assert {kind: [field.name for field in fields] for kind, fields in table.by_input.items()} == {
        "numeric": ["n", "n2"],
        "boolean": ["b"],
    }
