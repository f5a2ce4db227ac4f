"""Delimited text: every row arrives under its number, and what is passed over is neither more nor less than is said."""

from pathlib import Path
from typing import Any

import pytest

from reading import opening
from reading.errors import FileInvalid

ROWS = "1,2,3\n4,5,6\n7,8,9\n1,5,9\n"
CELLS: list[Any] = [list("123"), list("456"), list("789"), list("159")]


def read(folder: Path, text: str, skip: bool = False) -> tuple[list[str], list[list[Any]], list[int], list[str]]:
    """Names, rows, their numbers, and what was passed over."""
    path = folder / "in.csv"
    path.write_text(text, encoding="utf-8", newline="")
    file = opening.opened(path, skip=skip)
    table, blocks = opening.read(file)
    rows = [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
    return table.column_names, rows, [number for block in blocks for number in block.numbers], list(file.skipped)


@pytest.mark.parametrize(
    "before",
    [
        "one,two,three\n",
        "one,two,three\n\n",
        "\n\none,two,three\n",
        "Report\n\none,two,three\n",
        "Report,Site,Year\n\none,two,three\n",
        '"Report\nof May"\none,two,three\n',
        '"one","two","three"\n\nkg,m,s\n\n',
        "Report\none,two,three\n\nkg,m,s\n",
    ],
)
def test_rows_begin_behind_the_names_and_are_counted_from_there(before: str, tmp_path: Path) -> None:
    names, rows, numbers, skipped = read(tmp_path, before + ROWS)
    assert (names, rows, numbers, skipped) == (["one", "two", "three"], CELLS, [1, 2, 3, 4], [])
    _, rows, numbers, skipped = read(tmp_path, before + "1,2,3\n4,5\n\n" + ROWS, skip=True)
    assert (rows, numbers) == ([CELLS[0], *CELLS], [1, 3, 4, 5, 6])
    assert skipped == ["row 2 has 2 cells, and there are 3 columns ('4,5')"]


def test_names_may_have_two_lines(tmp_path: Path) -> None:
    names, rows, *_ = read(tmp_path, '"a\n(m)",b,c\n' + ROWS)
    assert (names, rows) == (["a\n(m)", "b", "c"], CELLS)


def test_a_swallowed_row_is_told_by_its_number_behind_rows_that_were_passed_over(tmp_path: Path) -> None:
    text = 'a,b,c\n1,2\n1,2,3\n"1,2,3\n4,5,6\n7,8,9\n1",2,3\n'
    with pytest.raises(FileInvalid, match=r"in\.csv: row 3, column 'a': a quote is opened there and 2 rows"):
        read(tmp_path, text, skip=True)


@pytest.mark.parametrize("skip", [False, True])
def test_an_open_quote_does_not_take_the_rest_of_the_file(skip: bool, tmp_path: Path) -> None:
    text = "a,b,c\n" + ROWS + '"1,2,3\n' + ROWS * 50
    with pytest.raises(FileInvalid, match=r"row 5 has 1 cell.*: a quote is opened there and 200 rows stand in it"):
        read(tmp_path, text, skip=skip)


def test_a_fault_is_told_and_not_a_row_that_was_passed_over_before(tmp_path: Path) -> None:
    text = "a,b,c\n1,2\n" + ROWS + '"' + "x" * 2**24 + '",2,3\n'
    with pytest.raises(FileInvalid, match="a row is longer than 8 MiB"):
        read(tmp_path, text, skip=True)


def test_folders_end_in_a_backslash_and_quotes_may_stand_behind_one(tmp_path: Path) -> None:
    text = '"p","n","m"\n' + "".join(f'"C:\\{name}\\","5","1"\n' for name in "abcd")
    assert [row[0] for row in read(tmp_path, text)[1]] == ["C:\\a\\", "C:\\b\\", "C:\\c\\", "C:\\d\\"]
    text = '"p","n"\n"a 5\\" pipe","1"\n"of 6\\"","2"\n'
    assert [row[0] for row in read(tmp_path, text)[1]] == ['a 5" pipe', 'of 6"']
