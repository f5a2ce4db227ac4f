"""Schema inference, its statistics and its TOML."""

import tomllib
from datetime import time

import numpy as np
import pyarrow as pa
import pytest

from bundle.record.fields import BooleanField, CategoricalField, NumericField
from bundle.record.schema import RecordSchema, TableSchema
from tests.conftest import as_data
from training import config
from training.config import FieldConfig
from training.data import kinds, schema
from training.data.read import Data, of_table
from training.errors import ConfigInvalid, DataInvalid

EVERY = np.arange(600)
HEIGHTS = np.random.default_rng(0).normal(170.0, 10.0, 100)


def test_columns_are_what_they_seem(mixed: Data) -> None:
    settings = config.build({"data": {"label": "label"}})
    inferred = kinds.infer(mixed, EVERY, settings)
    assert {field.name: field.kind for field in inferred.fields} == {
        "height": "numeric",
        "visits": "numeric",
        "flag": "categorical",
        "rare": "numeric",
        "member": "boolean",
        "colour": "categorical",
        "code": "numeric",
        "constant": "categorical",
    }
    assert set(inferred.left_out) == {"id", "when", "empty"}
    assert "timestamp" in inferred.left_out["when"]
    assert "constant" in inferred.notes["constant"][0]


def test_text_that_is_all_timestamps_is_refused_with_a_word() -> None:
    data = as_data(pa.table({"t": ["2026-01-01T10:00:00", "2026-01-02 11:00"] * 50, "x": HEIGHTS}))
    assert "timestamp" in kinds.infer(data, np.arange(100), config.build({})).left_out["t"]


def test_a_time_without_a_date_is_no_timestamp() -> None:
    clock = pa.array([time(index % 24, 30) for index in range(100)])
    data = as_data(pa.table({"t": clock, "d": pa.array(range(100), pa.duration("s")), "x": HEIGHTS}))
    left_out = kinds.infer(data, np.arange(100), config.build({})).left_out
    assert set(left_out) == {"t", "d"}
    assert all("without a date" in reason for reason in left_out.values())


@pytest.mark.parametrize(("distinct", "names_rows"), [(60, True), (40, False)])
def test_text_that_is_mostly_distinct_names_rows(distinct: int, names_rows: bool) -> None:
    data = as_data(pa.table({"t": [f"n{index % distinct}" for index in range(100)], "x": HEIGHTS}))
    left_out = kinds.infer(data, np.arange(100), config.build({})).left_out
    assert ("t" in left_out) is names_rows


def test_a_timestamp_becomes_hour_and_weekday_when_the_configuration_says_so(mixed: Data) -> None:
    fields = (FieldConfig(name="when", kind="timestamp"), FieldConfig(name="height", kind="numeric"))
    fitted = schema.fit(mixed, EVERY, fields, config.build({}))
    assert isinstance(fitted, TableSchema)
    assert fitted.names == ("when_hour", "when_weekday", "height")
    tensors = schema.tensors(fitted, mixed, EVERY)
    moments = mixed.table["when"].to_pylist()
    hour, weekday = (field for field in fitted.categorical)
    assert [hour.vocabulary[code - 1] for code in tensors["categorical"][:, 0]] == [str(m.hour) for m in moments]
    days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    assert [weekday.vocabulary[code - 1] for code in tensors["categorical"][:, 1]] == [
        days[m.weekday()] for m in moments
    ]


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["13/01/2026", "02/01/2026"], "dmy"),
        (["2026-01-13", "2026-01-02"], "ymd"),
        (["05/01/2026", "02/03/2026"], None),
        (["13 Jan 2026", "2 Jan 2026"], None),
        (["1700000000", "1700003600"], None),
    ],
)
def test_a_timestamp_keeps_the_order_that_its_text_had_where_it_can_be_told(cells: list[str], order: str) -> None:
    data = of_table("in.csv", "0" * 64, pa.table({"when": cells * 20}), kinds={"when": "timestamp"})
    fitted = schema.fit(data, np.arange(40), [FieldConfig(name="when", kind="timestamp")], config.build({}))
    assert fitted.date_orders == ({} if order is None else {"when": order})


def test_statistics_come_from_the_training_rows_alone(mixed: Data) -> None:
    rows = np.arange(0, 600, 2)
    fitted = schema.fit(mixed, rows, [FieldConfig(name="height", kind="numeric")], config.build({}))
    (height,) = fitted.fields
    assert isinstance(height, NumericField)
    values = np.asarray(mixed.table["height"])[rows]
    missing = np.isnan(values).sum()
    assert height.mean == pytest.approx(np.nanmean(values))
    assert height.scale == pytest.approx(np.nanstd(values))
    assert height.missing_rate == pytest.approx((missing + 0.5) / 301)


def test_rare_categories_and_those_beyond_the_cap_are_unknown() -> None:
    texts = ["a"] * 50 + ["b"] * 30 + ["c"] * 15 + ["d"] * 4 + ["e"]
    data = as_data(pa.table({"t": texts}))
    field = [FieldConfig(name="t", kind="categorical")]
    rows = np.arange(100)
    assert _categories(schema.fit(data, rows, field, config.build({}))) == ("a", "b", "c", "d")
    capped = config.build({"data": {"vocabulary_size": 2}})
    assert _categories(schema.fit(data, rows, field, capped)) == ("a", "b")


def _categories(fitted: RecordSchema) -> tuple[str, ...]:
    (field,) = tuple(fitted.fields)
    assert isinstance(field, CategoricalField)
    return field.vocabulary


def test_numbers_can_be_categories_and_flags_booleans(mixed: Data) -> None:
    fields = [FieldConfig(name="code", kind="categorical"), FieldConfig(name="rare", kind="boolean")]
    code, rare = tuple(schema.fit(mixed, EVERY, fields, config.build({})).fields)
    assert isinstance(code, CategoricalField)
    assert code.vocabulary == ("100", "200", "300")
    assert isinstance(rare, BooleanField)


def test_a_constant_that_is_asked_for_has_a_scale() -> None:
    data = as_data(pa.table({"x": np.full(100, 7e9), "z": np.zeros(100)}))
    fields = [FieldConfig(name=name, kind="numeric") for name in ("x", "z")]
    x, z = tuple(schema.fit(data, np.arange(100), fields, config.build({})).fields)
    assert isinstance(x, NumericField)
    assert isinstance(z, NumericField)
    assert (x.scale, z.scale) == (7e9, 1.0)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinity_is_refused_by_column_and_row(value: float) -> None:
    values = np.arange(100.0)
    values[41] = value
    data = as_data(pa.table({"x": HEIGHTS, "odd": values}))
    with pytest.raises(DataInvalid, match=r"column 'odd', row 42"):
        kinds.infer(data, np.arange(100), config.build({}))
    fields = [FieldConfig(name="odd", kind="numeric")]
    with pytest.raises(DataInvalid, match=r"column 'odd', row 42: an infinity"):
        schema.fit(data, np.arange(100), fields, config.build({}))


def test_a_column_of_hardly_any_values_is_left_out() -> None:
    numbers: list[float | None] = [None] * 195 + [1.0, 2.0, 3.0, 4.0, 5.0]
    texts: list[str | None] = [None] * 197 + ["a", "b", "a"]
    data = as_data(pa.table({"x": np.tile(HEIGHTS, 2), "m": numbers, "t": texts}))
    inferred = kinds.infer(data, np.arange(200), config.build({}))
    assert [field.name for field in inferred.fields] == ["x"]
    assert inferred.left_out["m"] == "holds 5 values in 200 normal rows, too few to learn from"
    assert inferred.left_out["t"].startswith("holds 3 values")


def test_a_vocabulary_of_rare_texts_keeps_them_where_there_are_no_others() -> None:
    data = as_data(pa.table({"t": ["a", "b", None, "c"]}))
    fitted = schema.fit(data, np.arange(4), [FieldConfig(name="t", kind="categorical")], config.build({}))
    assert isinstance(fitted, TableSchema)
    assert fitted.categorical[0].vocabulary == ("a", "b", "c")


def test_values_too_large_to_standardise_are_refused() -> None:
    data = as_data(pa.table({"x": np.array([1e308, 1.7e308] * 50)}))
    with pytest.raises(DataInvalid, match="too large"):
        schema.fit(data, np.arange(100), [FieldConfig(name="x", kind="numeric")], config.build({}))


def test_a_value_that_does_not_fit_its_kind_is_named_by_column_and_row(mixed: Data) -> None:
    with pytest.raises(DataInvalid, match=r"column 'colour', row 1: a number"):
        schema.fit(mixed, EVERY, [FieldConfig(name="colour", kind="numeric")], config.build({}))
    fitted = schema.fit(mixed, EVERY, [FieldConfig(name="colour", kind="boolean")], config.build({}))
    with pytest.raises(DataInvalid, match=r"column 'colour', row 3: true or false"):
        schema.tensors(fitted, mixed, np.arange(2, 600))


def test_fields_and_exclusions_must_be_columns(mixed: Data) -> None:
    with pytest.raises(ConfigInvalid, match="'nothing'"):
        schema.fit(mixed, EVERY, [FieldConfig(name="nothing", kind="numeric")], config.build({}))
    with pytest.raises(ConfigInvalid, match="'nothing'"):
        kinds.infer(mixed, EVERY, config.build({"data": {"exclude": ["nothing"]}}))


def test_no_column_left_says_why() -> None:
    data = as_data(pa.table({"x": np.ones(100)}))
    with pytest.raises(DataInvalid, match="x is constant"):
        kinds.infer(data, np.arange(100), config.build({}))


def test_the_label_of_an_npz_is_never_a_feature() -> None:
    data = as_data(pa.table({"x0": HEIGHTS, "y": [0, 1] * 50}), "set.npz")
    assert [field.name for field in kinds.infer(data, np.arange(100), config.build({})).fields] == ["x0"]


def test_the_toml_reads_back_as_the_same_configuration_with_its_fields(mixed: Data) -> None:
    settings = config.build({"preset": "an-cho", "data": {"label": "label", "normal": "ok"}})
    inferred = kinds.infer(mixed, EVERY, settings)
    text = schema.to_toml(settings, inferred)
    again = config.build(tomllib.loads(text))
    assert again == settings.model_copy(update={"fields": inferred.fields})
    assert "# when is a timestamp" in text
    # Of numbers alone there is a transform to be chosen, and a comment says what `auto` comes to.
    assert text.count('transform = "auto"') == sum(field.kind == "numeric" for field in inferred.fields)
    said = schema.to_toml(settings, inferred, {"height": "log(x + 0.5), because"})
    assert 'transform = "auto" # log(x + 0.5), because' in said
    assert config.build(tomllib.loads(said)) == again
