"""How text files are taken apart: what is found by looking, and what a person says."""

import pytest

from reading.errors import FileInvalid
from reading.formats.dialect import Dialect, looked_at
from reading.options import Options


def look(text: str, **said: object) -> Dialect:
    return looked_at(text, True, "utf-8", Options(**said), "a.csv")  # type: ignore[arg-type]


ROWS = [("1.5", "web", "7"), ("2.5", "shop", "8"), ("3.25", "a;b", "9"), ("4.125", "atm", "10")]


def written(delimiter: str, *before: str) -> str:
    lines = [delimiter.join(("amount", "channel", "items")), *(delimiter.join(row) for row in ROWS)]
    return "\n".join([*before, *lines]) + "\n"


@pytest.mark.parametrize("delimiter", [",", "\t", "|"])
def test_the_delimiter_is_found(delimiter: str) -> None:
    found = look(written(delimiter))
    assert (found.delimiter, found.names, found.before, found.after) == (
        delimiter,
        ("amount", "channel", "items"),
        0,
        1,
    )


def test_semicolons_speak_for_a_decimal_comma() -> None:
    found = look("a;b\n1,5;x\n2,25;y\n")
    assert (found.delimiter, found.decimal_comma) == (";", True)
    assert not look("a;b\n1.5;x\n2.25;y\n").decimal_comma
    assert not look("a,b\n1.5,x\n2.25,y\n").decimal_comma


@pytest.mark.parametrize("before", [("Report of 2026",), ("sep=,",), ("Report", "made by hand", "")])
def test_lines_before_the_names_are_passed_over_and_said(before: tuple[str, ...]) -> None:
    found = look(written(",", *before))
    assert found.names == ("amount", "channel", "items")
    assert found.before == len(before)
    assert any("before the names" in said for said in found.said)


def test_a_row_of_units_is_passed_over_and_said() -> None:
    found = look("temp,pressure,note\n°C,hPa,\n20.5,1000,a\n21,1001,b\n22,1002,c\n23,1003,d\n")
    assert found.after == 2
    assert any("units" in said for said in found.said)
    assert look("temp,note\n20.5,a\n21,b\n22,c\n23,d\n").after == 1


def test_a_file_without_names_is_given_some_and_it_is_said() -> None:
    found = look("1.5,7\n2.5,8\n3.5,9\n")
    assert (found.names, found.after) == (("column_1", "column_2"), 0)
    assert any("no row of names" in said for said in found.said)


def test_names_that_are_numbers_that_count_are_names() -> None:
    assert look("2019,2020,2021\n1.5,7,3\n2.5,8,4\n").names == ("2019", "2020", "2021")
    assert look("land,2019,2020,2021\nNO,1.5,7,3\nSE,2.5,8,4\n").names == ("land", "2019", "2020", "2021")
    assert look("NO,19,20,21\nSE,1.5,7,3\nDK,2.5,8,4\n").names[0] == "column_1"


def test_one_cell_more_than_names_is_a_column_without_one() -> None:
    assert look("a,b\n1,2,3\n4,5,6\n").names == ("", "a", "b")
    assert look("a,b\n1,2,\n4,5,\n").names == ("a", "b", "")


def test_spaces_around_names_are_left_out_and_said() -> None:
    found = look("a, b ,c\n1,2,3\n4,5,6\n")
    assert found.names == ("a", "b", "c")
    assert any("spaces" in said for said in found.said)


def test_spaces_after_delimiters_are_left_out() -> None:
    assert look("a, b\nx, y\nz, w\n").spaced
    assert not look("a,b\nx, y\nz,w\n").spaced


def test_quotes_may_be_single() -> None:
    assert look("a,b\n'x, y',1\n'z',2\n'w',3\n").quote == "'"
    assert look('a,b\n"x, y",1\n').quote == '"'


def test_a_person_decides() -> None:
    found = look("a|b,c\n1|2,3\n", delimiter="|", header=1)
    assert found.names == ("a", "b,c")
    assert look("one\na,b\n1,2\n", header=2).names == ("a", "b")
    assert look("a,b\nc,d\n", header=0).names == ("column_1", "column_2")
    with pytest.raises(FileInvalid, match=r"a\.csv: header = 9, and there are 2 lines"):
        look("a,b\n1,2\n", header=9)


@pytest.mark.parametrize("text", ["", "\n\n", " \n"])
def test_nothing_is_refused(text: str) -> None:
    with pytest.raises(FileInvalid, match="holds no rows"):
        look(text)
