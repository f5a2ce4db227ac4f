"""What a column is: each rule from both of its sides."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import as_data
from training import config
from training.data import kinds
from training.data.read import read

ROWS = 400
BILLIONS = np.floor(np.random.default_rng(1).uniform(1e9, 4e9, ROWS // 2)).repeat(2)
"""Seconds of a century, if they count any."""
DRAWS = np.random.default_rng(0)
HEIGHTS = DRAWS.normal(170.0, 10.0, ROWS)
Values = Any
"""What pyarrow makes a column of."""


def inferred(values: Values, name: str = "x", **data: object) -> kinds.Inferred:
    table = pa.table({"height": HEIGHTS, name: values})
    return kinds.infer(as_data(table), np.arange(ROWS), config.build({"data": data}))


def kind(values: Values, name: str = "x") -> str | None:
    return {field.name: field.kind for field in inferred(values, name).fields}.get(name)


def reason(values: Values, name: str = "x") -> str:
    return inferred(values, name).left_out.get(name, "")


def drawn(*texts: str) -> list[str]:
    return [texts[index] for index in DRAWS.integers(0, len(texts), ROWS)]


SHUFFLED = DRAWS.permutation(ROWS)
COUNTS = DRAWS.poisson(4, ROWS)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (HEIGHTS + 1, "numeric"),
        (COUNTS, "numeric"),
        (HEIGHTS.astype(np.float16), "numeric"),
        ([f"{value:.2f}" for value in HEIGHTS], "numeric"),
        ([f"{value:.2f}" for value in HEIGHTS[:-20]] + ["closed"] * 20, "numeric"),
        ([f"{value:.2f}" for value in HEIGHTS[:-21]] + ["closed"] * 21, None),
        (DRAWS.random(ROWS) < 0.3, "boolean"),
        (drawn("true", "False", "TRUE"), "boolean"),
        ((DRAWS.random(ROWS) < 0.3).astype(int), "categorical"),
        ((DRAWS.random(ROWS) < 0.3).astype(float), "categorical"),
        (drawn("0", "1"), "categorical"),
        (np.arange(ROWS) < 2, "boolean"),
        ((np.arange(ROWS) < 2).astype(int), "numeric"),
        (drawn("web", "shop"), "categorical"),
        (drawn("007", "012"), "categorical"),
        (drawn("yes", "no"), "categorical"),
        (np.full(ROWS, 7), "categorical"),
        (["only"] * ROWS, "categorical"),
        ([True] * ROWS, "boolean"),
        ([None] * ROWS, None),
        ([float("nan")] * ROWS, None),
        ([""] * ROWS, None),
        ([{"a": 1}] * ROWS, None),
        ([b"\x00\xff"] * ROWS, None),
        (drawn("2026-01-05", "2026-01-06"), None),
        (drawn("05.01.2026", "17.01.2026"), None),
        (drawn("17:05", "08:30:10"), None),
        (pa.array(range(ROWS), pa.duration("s")), None),
    ],
)
def test_a_column_is_what_its_values_say(values: Values, expected: str | None) -> None:
    assert kind(values) == expected


@pytest.mark.parametrize("first", [0, 9001])
@pytest.mark.parametrize("step", [1, 5])
def test_what_counts_the_rows_is_left_out(first: int, step: int) -> None:
    assert "counts" in reason(first + step * np.arange(ROWS))
    assert "numbers the rows" in reason(first + step * SHUFFLED)


def test_counts_that_are_no_counter_stay() -> None:
    grows_with_ties = np.sort(COUNTS)
    assert kind(grows_with_ties) == "numeric"
    assert kind(np.append(np.arange(ROWS - 1), 5)) == "numeric"


def test_a_clock_is_left_out_and_a_sorted_feature_with_ties_stays() -> None:
    assert "grows" in reason(np.cumsum(DRAWS.random(ROWS) + 0.01))
    assert kind(np.sort(np.round(HEIGHTS))) == "numeric"


@pytest.mark.parametrize(
    ("name", "values", "left_out"),
    [
        ("customer_id", DRAWS.permutation(900_000)[:ROWS] + 100_000, True),
        ("x", DRAWS.permutation(900_000)[:ROWS] + 100_000, True),
        ("x", (HEIGHTS * 1e4).astype(int), False),
        ("CustomerId", DRAWS.choice(DRAWS.permutation(900_000)[:80], ROWS), True),
        ("customer_id", DRAWS.integers(0, 15, ROWS), False),
        ("x", DRAWS.integers(0, 300, ROWS), False),
        ("x", np.round(np.exp(DRAWS.normal(12, 1, ROWS))), False),
    ],
)
def test_keys_that_are_numbers_are_left_out(name: str, values: Values, left_out: bool) -> None:
    assert bool(reason(values, name)) is left_out


def test_a_number_that_goes_with_another_is_no_key() -> None:
    related = np.argsort(np.argsort(HEIGHTS)) * 2000 + 100_000
    assert kind(related, "code_nr") == "numeric"


@pytest.mark.parametrize(
    ("name", "values", "left_out"),
    [
        ("ts", 1_760_000_000 + DRAWS.integers(0, 86_400, ROWS), True),
        ("x", 1_760_000_000 + 60 * np.arange(ROWS), True),
        ("x", 1_760_000_000_000 + DRAWS.integers(0, 86_400_000, ROWS), True),
        ("x", np.round(1e10 + 3 * HEIGHTS), False),
        ("revenue", np.round(1.5e9 + 1e7 * DRAWS.normal(0, 1, ROWS)), False),
        ("x", np.array([20260101 + 100 * (i % 12) + i % 28 for i in SHUFFLED]), True),
    ],
)
def test_numbers_that_are_timestamps_are_left_out(name: str, values: Values, left_out: bool) -> None:
    assert ("timestamp" in reason(values, name)) is left_out


def spelled(value: int) -> str:
    """A number in letters."""
    return "".join(chr(97 + int(digit)) for digit in str(value))


UUIDS = [f"{value:08x}-0000-4000-8000-{value:012x}" for value in range(ROWS)]
USERS = [f"user{value:03}" for value in range(ROWS)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([datetime(2026, 1, 1 + row % 28) for row in range(ROWS)]), "its weekday"),
        (pa.array([date(2026, 1, 1 + row % 28) for row in range(ROWS)]), "its weekday"),
        (pa.array([datetime(2026, 1, 1 + row % 28, row % 24) for row in range(ROWS)]), "hour and weekday"),
        ([20260101 + row % 28 for row in range(ROWS)], "its weekday"),
        ([f"{row % 24:02d}:15" for row in range(ROWS)], "join it with its date"),
    ],
)
def test_it_is_said_what_could_be_made_of_times(values: Values, said: str) -> None:
    assert said in reason(values)


@pytest.mark.parametrize(
    ("texts", "left_out"),
    [
        (UUIDS, True),
        ([UUIDS[index] for index in DRAWS.integers(0, 30, ROWS)], True),
        ([UUIDS[index] for index in DRAWS.integers(0, 5, ROWS)], False),
        ([f"{text}@example.org" for text in drawn(*USERS[:40])], True),
        ([f"10.0.0.{value}" for value in DRAWS.integers(0, 60, ROWS)], True),
        (drawn(*USERS[:150]), True),
        (drawn(*USERS[:40]), False),
        ([f"street {value}" for value in DRAWS.integers(0, 300, ROWS)], True),
        ([f"word {spelled(value)}" for value in range(ROWS)], True),
        ([f"word {spelled(value)}" for value in DRAWS.integers(0, 120, ROWS)], False),
        ([str(2**60 + value) for value in range(ROWS)], True),
    ],
)
def test_texts_that_name_rows_are_left_out(texts: list[str], left_out: bool) -> None:
    assert bool(reason(texts)) is left_out


@pytest.mark.parametrize(("size", "left_out"), [(20, True), (100, False)])
def test_texts_of_which_most_would_be_unknown_are_left_out(size: int, left_out: bool) -> None:
    found = inferred([f"word {spelled(value)}" for value in DRAWS.integers(0, 120, ROWS)], vocabulary_size=size)
    assert ("cover" in found.left_out.get("x", "")) is left_out


def test_an_index_of_pandas_is_left_out_by_its_metadata() -> None:
    table = pa.table({"height": HEIGHTS, "named": COUNTS})
    marked = table.replace_schema_metadata({"pandas": '{"index_columns": ["named"], "columns": []}'})
    found = kinds.infer(as_data(marked), np.arange(ROWS), config.build({}))
    assert found.left_out == {"named": "is the index that pandas wrote"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.where(np.arange(ROWS) % 67 == 0, -9999, HEIGHTS), True),
        (np.where(np.arange(ROWS) % 67 == 0, 0, HEIGHTS + 1000), True),
        (np.where(np.arange(ROWS) % 67 == 0, 0, np.abs(HEIGHTS - 170)), False),
        (np.where(np.arange(ROWS) == 3, -9999, HEIGHTS), False),
        (HEIGHTS + 1, False),
    ],
)
def test_a_far_value_that_recurs_is_said(values: Values, said: bool) -> None:
    notes = inferred(values).notes.get("x", ())
    assert any("missing_values" in note for note in notes) is said


def test_a_far_value_that_a_person_names_is_missing() -> None:
    table = pa.table({"height": HEIGHTS, "x": np.where(np.arange(ROWS) % 67 == 0, -9999.0, HEIGHTS + 1)})
    settings = config.build({"data": {"missing_values": ["-9999"]}})
    data = as_data(table, options=settings.data.reading)
    assert data.table["x"].null_count == 6
    assert not kinds.infer(data, np.arange(ROWS), settings).notes


def test_codes_of_few_values_are_offered_as_categories() -> None:
    ports = np.array([22, 80, 443, 8080])[DRAWS.integers(0, 4, ROWS)]
    assert any('kind = "categorical"' in note for note in inferred(ports).notes["x"])
    assert "x" not in inferred(COUNTS).notes


@pytest.mark.parametrize(
    ("name", "values", "warned"),
    [
        ("label", drawn("ok", "bad"), True),
        ("is_fraud", DRAWS.random(ROWS) < 0.02, True),
        ("Class", (DRAWS.random(ROWS) < 0.2).astype(int), True),
        ("class_size", COUNTS, False),
        ("channel", drawn("web", "shop"), False),
        ("target", HEIGHTS + 1, False),
    ],
)
def test_a_column_that_looks_like_a_label_is_warned_of(name: str, values: Values, warned: bool) -> None:
    assert bool(inferred(values, name).warnings) is warned


def test_nothing_but_constants_is_nothing_to_learn_from() -> None:
    data = as_data(pa.table({"x": np.ones(ROWS)}))
    with pytest.raises(Exception, match="x is constant"):
        kinds.infer(data, np.arange(ROWS), config.build({}))


@pytest.mark.parametrize("name", ["total_bytes", "temperature_raw", "attempts", "dayrate"])
def test_a_name_that_begins_like_one_of_a_time_is_none(name: str) -> None:
    assert "since 1970" not in reason(BILLIONS, name)


@pytest.mark.parametrize("name", ["t", "ts", "created_at", "EventTime", "timestamp", "date2", "updatedOn"])
def test_a_name_of_a_time_is_one(name: str) -> None:
    assert "seconds since 1970" in reason(BILLIONS, name)


def test_what_an_array_lacks_is_missing(tmp_path: Path) -> None:
    lacking = np.full(ROWS, np.nan)
    few = lacking.copy()
    few[:5] = HEIGHTS[:5]
    np.savez(tmp_path / "in.npz", X=np.column_stack([HEIGHTS, lacking, few]))
    found = kinds.infer(read(tmp_path / "in.npz"), np.arange(ROWS), config.build({}))
    assert [field.name for field in found.fields] == ["x0"]
    assert found.left_out["x1"] == "is empty"
    assert found.left_out["x2"].startswith("holds 5 values")
