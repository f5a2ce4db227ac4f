"""Numbers as people write them: every spelling has one value, and what is ambiguous is said."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reading import numbers
from reading.options import Options
from reading.typed import typed

NOTHING = Options()


def column(*cells: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, pa.string())])


def read(*cells: str | None, options: Options = NOTHING, comma_likely: bool = False) -> numbers.Numbers:
    form = numbers.looked_at(column(*cells), options, comma_likely)
    assert form is not None
    return numbers.parse(column(*cells), form, options)


@pytest.mark.parametrize(
    ("cells", "values", "said"),
    [
        (("1", "-2", "+3"), (1, -2, 3), "plain numbers"),
        (("1.5", ".5", "5.", "-1e3", "2E-2"), (1.5, 0.5, 5, -1000, 0.02), "plain numbers"),
        (("1,5", "-0,25", "3"), (1.5, -0.25, 3), "decimal comma"),
        (("1,234.50", "999", "12,345,678.00"), (1234.5, 999, 12345678), "comma between thousands"),
        (("1.234,50", "999", "12.345.678,00"), (1234.5, 999, 12345678), "decimal comma, point between thousands"),
        (
            ("1 234,5", "1\u202f234\u202f567,5", "12\u00a0000"),
            (1234.5, 1234567.5, 12000),
            "decimal comma, space between",
        ),
        (("1'234.50", "1’234’567.5"), (1234.5, 1234567.5), "apostrophe between thousands"),
        (("1,23,456.50", "12,345.00"), (123456.5, 12345), "comma between thousands"),
        (("12.3%", "4 %", "-0.5%"), (12.3, 4, -0.5), "% left out"),
        (("€3", "€1,234.50", "-€2"), (3, 1234.5, -2), "€ left out"),
        (("3,50 €", "1.234,00 €"), (3.5, 1234), "decimal comma, point between thousands, € left out"),
        (("$5", "($1,200.00)"), (5, -1200), "$ left out"),
        (("USD 5.10", "USD 6"), (5.1, 6), "USD left out"),
        (("(1.5)", "2", "3.25-"), (-1.5, 2, -3.25), "brackets as a minus sign"),
        (("\u22121.5", "2"), (-1.5, 2), "plain numbers"),
        ((" 1.5 ", "\t2"), (1.5, 2), "plain numbers"),
        (("0,123", "0,456"), (0.123, 0.456), "decimal comma"),
        (("inf", "1", "-Infinity"), (math.inf, 1, -math.inf), "plain numbers"),
    ],
)
def test_every_spelling_has_its_value(cells: tuple[str, ...], values: tuple[float, ...], said: str) -> None:
    found = read(*cells)
    assert found.values.to_pylist() == list(values)
    assert not found.strangers.any()
    assert said in str(found.format)


@pytest.mark.parametrize("mark", ["", "NA", "n/a", "?", "<NA>", "#N/A", "-", "null", None])
def test_marks_of_missing_numbers_are_null(mark: str | None) -> None:
    found = read("1.5", mark, "2.5")
    assert found.values.to_pylist() == [1.5, None, 2.5]
    assert not found.strangers.any()


def test_what_is_no_number_is_a_stranger() -> None:
    found = read("1.5", "closed", "2.5", "1.2.3")
    assert found.values.to_pylist() == [1.5, None, 2.5, None]
    assert found.strangers.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("cells", "comma_likely", "values"),
    [
        (("1,234", "5,678"), False, [1234, 5678]),
        (("1,234", "5,678"), True, [1.234, 5.678]),
        (("1.234", "5.678"), True, [1234, 5678]),
    ],
)
def test_where_both_marks_fit_the_file_decides_and_it_is_a_guess(
    cells: tuple[str, ...], comma_likely: bool, values: list[float]
) -> None:
    found = read(*cells, comma_likely=comma_likely)
    assert found.values.to_pylist() == values
    assert found.format.is_guess


def test_a_point_is_a_decimal_mark_unless_the_file_speaks_against_it() -> None:
    found = read("1.234", "5.678")
    assert found.values.to_pylist() == [1.234, 5.678]
    assert not found.format.is_guess


def test_a_person_decides_and_nothing_is_guessed() -> None:
    found = read("1,234", "5,678", options=Options(decimal=","))
    assert found.values.to_pylist() == [1.234, 5.678]
    assert not found.format.is_guess


@pytest.mark.parametrize("cells", [("€3", "$4"), ("12%", "0.5", "3", "4"), ("a", "b"), ("", None, "NA")])
def test_several_units_and_no_numbers_are_none(cells: tuple[str | None, ...]) -> None:
    assert numbers.looked_at(column(*cells), NOTHING) is None


@pytest.mark.parametrize(
    ("cells", "are_codes"),
    [
        (("007", "12"), True),
        (("0", "0.5"), False),
        (("12345678901234567",), True),
        (("00:1", "12"), False),
        (("120", "7"), False),
    ],
)
def test_zeros_before_digits_and_too_many_of_them_are_codes(cells: tuple[str, ...], are_codes: bool) -> None:
    assert numbers.has_codes(column(*cells), NOTHING) is are_codes


def test_whole_numbers_stay_whole_and_those_beyond_float64_are_codes() -> None:
    assert read("1", "2", None).values.type == pa.int64()
    assert read("1", "2.0").values.type == pa.float64()
    assert read("9007199254740993", "1").are_codes
    assert not read("9007199254740992", "1").are_codes
    assert not read("1e20", "1").are_codes


finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@given(st.lists(finite, min_size=1, max_size=20))
def test_what_python_writes_is_read_to_the_bit(values: list[float]) -> None:
    assert read(*map(repr, values)).values.cast(pa.float64()).to_pylist() == values


@given(
    st.lists(st.decimals(-(10**9), 10**9, places=2, allow_nan=False, allow_infinity=False), min_size=2, max_size=20),
    st.sampled_from([(".", ","), (",", "."), (",", " "), (".", "'"), (",", "\u202f")]),
)
def test_grouped_numbers_are_read_as_plain_ones(values: list[float], marks: tuple[str, str]) -> None:
    decimal, thousands = marks
    cells = [f"{value:,.2f}".replace(",", "T").replace(".", decimal).replace("T", thousands) for value in values]
    assert read(*cells).values.cast(pa.float64()).to_pylist() == [float(value) for value in values]


def test_a_minus_sign_behind_a_number_is_said() -> None:
    assert typed(column("10-", "20 -", "30"), None, NOTHING).said == ("read with minus signs behind numbers",)
    assert typed(column("10", "-20", "30"), None, NOTHING).said == ()


def test_zeros_before_numbers_are_said() -> None:
    (said,) = typed(column(*["1.5"] * 20, "00"), None, NOTHING).said
    assert "1 cell is read without its zeros" in said
    (said,) = typed(column("01234", "98765"), None, NOTHING).said
    assert "read as codes" in said
