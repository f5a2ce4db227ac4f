"""Timestamps: the parts that fields derive from, in records and in columns, always in UTC."""

import math
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import MOST_PROBLEMS, InvalidRecords
from bundle.record.field_values import Column
from bundle.record.fields import CategoricalField, Derived, NumericField
from bundle.record.records import encode_columns, encode_records
from bundle.record.schema import TableSchema
from bundle.record.timestamps import HOURS, WEEKDAYS, part, parts, vocabulary

HOUR, WEEKDAY = Derived(source="at", part="hour"), Derived(source="at", part="weekday")
SCHEMA = TableSchema(
    fields=(
        CategoricalField(name="hour", missing_rate=0.1, vocabulary=HOURS, derived=HOUR),
        NumericField(name="n", missing_rate=0.1, mean=0.0, scale=1.0),
        CategoricalField(name="weekday", missing_rate=0.1, vocabulary=WEEKDAYS, derived=WEEKDAY),
    )
)
INSTANTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1))
OFFSETS = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-1439, 1439))
FRIDAY_3_AM = [4, 5]  # codes


def encoded(record: object) -> list[int]:
    return encode_records(SCHEMA, [record])["categorical"][0].tolist()


def problems(error: pytest.ExceptionInfo[InvalidRecords]) -> list[tuple[int, str | None]]:
    return [(problem.row, problem.field) for problem in error.value.problems]


def test_the_vocabulary_is_that_of_the_calendar() -> None:
    assert vocabulary(HOUR) == HOURS == tuple(map(str, range(24)))
    assert vocabulary(WEEKDAY) == WEEKDAYS
    assert [part(WEEKDAY, f"2024-01-0{day}") for day in range(1, 8)] == list(WEEKDAYS)


@given(INSTANTS)
def test_a_timestamp_without_an_offset_is_utc(instant: datetime) -> None:
    for value in (instant, instant.isoformat(), instant.isoformat(" "), instant.isoformat() + "Z"):
        assert part(HOUR, value) == str(instant.hour)
        assert part(WEEKDAY, value) == WEEKDAYS[instant.isoweekday() - 1]


@pytest.mark.parametrize("zone", ["UTC", "NPT-5:45", "EST+5"])
def test_the_zone_of_the_machine_is_of_no_account(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        try:
            for value in ("2024-01-05T03:30", "2024-01-05T03:30Z", datetime(2024, 1, 5, 3, 30)):
                assert (part(HOUR, value), part(WEEKDAY, value)) == ("3", "friday")
            assert parts(HOUR, np.array(["2024-01-05T03:30"], "datetime64[s]")) == ["3"]
        finally:
            patch.undo()
            time.tzset()


@given(INSTANTS, OFFSETS)
def test_a_timestamp_with_an_offset_is_moved_to_utc(instant: datetime, offset: timezone) -> None:
    local = instant.replace(tzinfo=UTC).astimezone(offset)
    for value in (local, local.isoformat()):
        assert part(HOUR, value) == str(instant.hour)
        assert part(WEEKDAY, value) == WEEKDAYS[instant.isoweekday() - 1]


@given(st.lists(st.none() | INSTANTS), st.sampled_from(["h", "m", "s", "ms", "us"]), st.sampled_from([HOUR, WEEKDAY]))
def test_a_column_has_the_parts_of_its_timestamps(instants: list[datetime | None], unit: str, derived: Derived) -> None:
    column = np.array(instants, f"datetime64[{unit}]")
    assert parts(derived, column) == [part(derived, instant) for instant in instants]


@given(st.lists(st.datetimes(datetime(1678, 1, 1), datetime(2262, 1, 1)), min_size=1))
def test_nanoseconds_and_offsets_of_an_arrow_column_are_understood(instants: list[datetime]) -> None:
    aware = [instant.replace(tzinfo=UTC) for instant in instants]
    for kind in (pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.timestamp("us", "Asia/Kathmandu")):
        column = np.asarray(pa.array(aware if kind.tz else instants, kind))
        assert parts(HOUR, column) == [str(instant.hour) for instant in instants]
        assert parts(WEEKDAY, column) == [WEEKDAYS[instant.weekday()] for instant in instants]


def test_days_begin_at_midnight() -> None:
    column = np.array(["2024-01-05", "NaT"], "datetime64[D]")
    assert parts(HOUR, column) == ["0", None]
    assert parts(WEEKDAY, column) == ["friday", None]


@pytest.mark.parametrize("value", ["", "yesterday", "2024-13-01", 1704423600, 1.5, True, [], b"2024-01-05"])
def test_what_is_no_timestamp_raises_value_error(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (datetime words the message)
        part(HOUR, value)


@pytest.mark.parametrize("text", ["2024-01-05T03:59:59", "2024-01-05T05:00:00+02:00", "20240105T03Z"])
def test_a_timestamp_stands_in_place_of_the_fields_that_derive_from_it(text: str) -> None:
    assert encoded({"at": text}) == FRIDAY_3_AM
    assert encode_columns(SCHEMA, {"at": [text]}, 1)["categorical"].tolist() == [FRIDAY_3_AM]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_datetime64_column_stands_in_place_too_and_nat_is_missing(unit: str) -> None:
    columns = {"at": np.array(["2024-01-05T03:30", "NaT"], f"datetime64[{unit}]"), "n": np.ones(2)}
    assert encode_columns(SCHEMA, columns, 2)["categorical"].tolist() == [FRIDAY_3_AM, [-1, -1]]


def test_a_missing_timestamp_makes_what_derives_from_it_missing() -> None:
    assert encoded({"at": None, "n": 1}) == encoded({"n": 1}) == [-1, -1]


@pytest.mark.parametrize("gone", [None, math.nan, np.datetime64("NaT")])
def test_none_nan_and_nat_are_missing_in_an_object_column_of_timestamps(gone: object) -> None:
    column = np.array(["2024-01-05T03:30", gone], object)
    tensors = encode_columns(SCHEMA, {"at": column, "n": np.ones(2)}, 2)
    assert tensors["categorical"].tolist() == [FRIDAY_3_AM, [-1, -1]]


def test_the_record_of_the_caller_is_left_as_it_was() -> None:
    record = {"at": "2024-01-05T03:00"}
    encode_records(SCHEMA, [record])
    assert record == {"at": "2024-01-05T03:00"}


def test_fields_may_be_given_themselves() -> None:
    assert encoded({"hour": "3", "weekday": "friday"}) == encoded(["3", None, "friday"]) == FRIDAY_3_AM
    columns: dict[str, Column] = {"hour": np.array([3]), "weekday": ["friday"]}
    assert encode_columns(SCHEMA, columns, 1)["categorical"].tolist() == [FRIDAY_3_AM]


def test_a_field_beside_its_timestamp_is_a_conflict() -> None:
    with pytest.raises(InvalidRecords, match="given beside 'at', which it derives from") as error:
        encode_records(SCHEMA, [{"n": 1}, {"at": "2024-01-05T03:00", "hour": "5"}])
    assert problems(error) == [(1, "hour")]


@pytest.mark.parametrize(
    "record",
    [
        {"at": "2024-01-05T03:00", "hour": None},
        {"at": "2024-01-05T03:00", "hour": None, "weekday": None},
        {"at": None, "hour": "3", "weekday": "friday"},
    ],
)
def test_null_beside_a_timestamp_counts_as_left_out(record: dict[str, Any]) -> None:
    assert encoded(record) == FRIDAY_3_AM


def test_a_column_of_its_own_comes_before_what_the_timestamp_gives() -> None:
    columns: dict[str, Any] = {"at": ["2024-01-05T03:00"], "hour": ["22"]}
    assert encode_columns(SCHEMA, columns, 1)["categorical"].tolist() == [[23, 5]]


@pytest.mark.parametrize(
    "bad",
    ["MARK", "", "MARK-01-05", 1704423600, True, ["MARK"], "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-01:00"],
)
def test_a_bad_timestamp_is_a_problem_of_its_row(bad: object) -> None:
    for encode in (
        lambda: encode_records(SCHEMA, [{"at": "2024-01-05"}, {"at": bad}]),
        lambda: encode_columns(SCHEMA, {"at": ["2024-01-05", bad]}, 2),
    ):
        with pytest.raises(InvalidRecords, match="a timestamp in ISO 8601 is expected") as error:
            encode()
        assert {(problem.row, problem.field) for problem in error.value.problems} == {(1, "at")}
        assert "MARK" not in str(error.value) + str(error.value.problems)


@pytest.mark.parametrize("rows", [2, MOST_PROBLEMS + 5])
def test_bad_timestamps_of_records_and_of_a_column_are_reported_alike_in_row_order(rows: int) -> None:
    bad = ["no timestamp"] * rows
    with pytest.raises(InvalidRecords) as of_records:
        encode_records(SCHEMA, [{"at": text} for text in bad])
    assert problems(of_records) == [(row, "at") for row in range(min(rows, MOST_PROBLEMS))]
    with pytest.raises(InvalidRecords) as of_columns:
        encode_columns(SCHEMA, {"at": bad}, len(bad))
    assert problems(of_columns) == problems(of_records)
