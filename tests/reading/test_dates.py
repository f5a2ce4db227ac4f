"""Timestamps as people write them."""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reading import dates
from reading.options import Options

NOTHING = Options()


def column(*cells: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, pa.string())])


MOMENT = "2026-11-23T17:05:09"


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2026-11-23", "2026-11-23"),
        ("2026/11/23", "2026-11-23"),
        ("2026.11.23", "2026-11-23"),
        ("23.11.2026", "2026-11-23"),
        ("23.11.26", "2026-11-23"),
        ("23/11/2026", "2026-11-23"),
        ("11/23/2026", "2026-11-23"),
        ("11/23/26", "2026-11-23"),
        ("23-11-2026", "2026-11-23"),
        ("5.1.2026", "2026-01-05"),
        ("23 Nov 2026", "2026-11-23"),
        ("23-Nov-2026", "2026-11-23"),
        ("23-Nov-26", "2026-11-23"),
        ("Nov 23, 2026", "2026-11-23"),
        ("November 23, 2026", "2026-11-23"),
        ("Mon, 23 Nov 2026 17:05:09", MOMENT),
        ("2026-11-23 17:05:09", MOMENT),
        ("2026-11-23T17:05:09", MOMENT),
        ("2026-11-23T17:05:09Z", MOMENT),
        ("2026-11-23T19:05:09+02:00", MOMENT),
        ("2026-11-23 12:05:09-0500", MOMENT),
        ("2026-11-23 17:05:09 UTC", MOMENT),
        ("2026-11-23 17:05:09.250", "2026-11-23T17:05:09.250"),
        ("2026-11-23 17:05:09,250000", "2026-11-23T17:05:09.250"),
        ("11/23/2026 5:05:09 PM", MOMENT),
        ("11/23/2026 12:05 AM", "2026-11-23T00:05"),
        ("23.11.2026 17:05", "2026-11-23T17:05"),
    ],
)
def test_every_usual_form_is_read(cell: str, moment: str) -> None:
    form = dates.looked_at(column(cell, None, "NA"), NOTHING)
    assert form is not None
    values, strangers = dates.parse(column(cell, None, "NA"), form, NOTHING)
    assert values[0] == np.datetime64(moment)
    assert np.isnat(values[1:]).all()
    assert not strangers.any()


@pytest.mark.parametrize(
    "cells",
    [
        ("12.5",),
        ("1.2.3",),
        ("2026-13-45",),
        ("30.02.2026",),
        ("17:05",),
        ("web",),
        ("2026-01-05", "soon"),
        ("20260105",),
    ],
)
def test_what_is_no_timestamp_is_none(cells: tuple[str, ...]) -> None:
    assert dates.looked_at(column(*cells), NOTHING) is None


def test_a_day_beyond_twelve_decides() -> None:
    form = dates.looked_at(column("05/03/2026", "13/03/2026"), NOTHING)
    assert form is not None
    assert (form.order, form.is_guess) == ("dmy", False)


def test_the_order_of_a_file_before_decides_where_it_fits() -> None:
    cells = column("05/03/2026", "06/03/2026", "04/03/2026")
    form = dates.looked_at(cells, NOTHING, order="dmy")
    assert form is not None
    assert (form.order, form.is_guess) == ("dmy", False)
    form = dates.looked_at(column("05/13/2026"), NOTHING, order="dmy")
    assert form is not None
    assert (form.order, form.is_guess) == ("mdy", False)


@pytest.mark.parametrize(
    ("cells", "order", "is_guess"),
    [
        (("24-01-15", "24-01-16", "24-02-03"), "ymd", True),
        (("24-02-03", "24-01-15", "24-01-16"), "dmy", True),
        (("15.01.24", "16.01.24", "03.02.24"), "dmy", False),
        (("15/01/24", "03/02/24", "16/01/24"), "dmy", False),
        (("01/15/24", "02/16/24", "01/31/24"), "mdy", False),
        (("19-01-01", "20-01-01", "21-01-01", "22-01-01"), "dmy", True),
        (("01/05/24", "01/06/24", "01/07/24"), "mdy", True),
    ],
)
def test_years_of_two_digits_may_stand_first(cells: tuple[str, ...], order: str, is_guess: bool) -> None:
    form = dates.looked_at(column(*cells), NOTHING)
    assert form is not None
    assert (form.order, form.is_guess) == (order, is_guess)


def test_rows_that_follow_one_another_in_time_decide_and_it_is_said() -> None:
    form = dates.looked_at(column("01/02/2026", "02/02/2026", "01/03/2026"), NOTHING)
    assert form is not None
    assert (form.order, form.is_guess) == ("dmy", True)
    form = dates.looked_at(column("01/02/2026", "01/03/2026", "02/02/2026"), NOTHING)
    assert form is not None
    assert (form.order, form.is_guess) == ("mdy", True)


@pytest.mark.parametrize(
    ("mark", "day_likely", "order"), [(".", False, "dmy"), ("/", False, "mdy"), ("/", True, "dmy")]
)
def test_where_nothing_decides_the_file_does(mark: str, day_likely: int, order: str) -> None:
    cells = [mark.join(parts) for parts in (("05", "03", "2026"), ("03", "04", "2026"), ("04", "02", "2026"))]
    form = dates.looked_at(column(*cells), NOTHING, bool(day_likely))
    assert form is not None
    assert (form.order, form.is_guess) == (order, True)


def test_a_person_decides() -> None:
    values, strangers = dates.parse(column("05/03/2026", "soon", None), "%d/%m/%Y", NOTHING)
    assert values[0] == np.datetime64("2026-03-05")
    assert strangers.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("numbers", "unit"),
    [
        ((1.76e9, 1.77e9), "seconds"),
        ((1.76e12, 1.77e12), "milliseconds"),
        ((1.76e15, 1.77e15), "microseconds"),
        ((1.76e18, 1.77e18), "nanoseconds"),
        ((1.76e9, 5e9), None),
        ((1e10, 1.1e10), None),
        ((1.76e9,), None),
    ],
)
def test_numbers_may_count_the_time_since_1970(numbers: tuple[float, ...], unit: str | None) -> None:
    assert dates.epoch(np.array(numbers)) == unit


def read_as_numbers(values: list[float]) -> npt.NDArray[np.datetime64] | None:
    way = dates.counted(np.array(values))
    return None if way is None else dates.of_numbers(np.array(values), way)


def test_numbers_are_read_as_timestamps() -> None:
    found = read_as_numbers([20261123, np.nan, 20260105])
    assert found is not None
    assert found.tolist() == [datetime(2026, 11, 23), None, datetime(2026, 1, 5)]
    found = read_as_numbers([1_760_000_000.0, np.nan])
    assert found is not None
    assert found[0] == np.datetime64("2025-10-09T08:53:20")
    assert read_as_numbers([1.0, 2.0]) is None


@given(
    st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2068, 1, 1)), min_size=1, max_size=20),
    st.sampled_from(["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d %b %Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]),
)
def test_what_strftime_writes_is_read_back(moments: list[datetime], pattern: str) -> None:
    cells = [moment.strftime(pattern) for moment in moments]
    form = dates.looked_at(column(*cells), NOTHING)
    assert form is not None
    if not form.is_guess:
        values, _ = dates.parse(column(*cells), form, NOTHING)
        assert values.tolist() == [moment.replace(microsecond=0) for moment in moments]
