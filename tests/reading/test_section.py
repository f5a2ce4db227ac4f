"""Sections of text: together they are the file, row for row and number for number, wherever it is cut."""

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reading.errors import FileInvalid
from reading.formats.delimited import DelimitedFile
from reading.formats.dialect import Dialect
from reading.formats.ndjson import NdjsonFile
from reading.formats.section import Section, is_bytewise, of_lines, of_rows
from reading.options import Options

LOCAL = pyarrow.fs.LocalFileSystem()
Numbered = list[tuple[int, dict[str, Any]]]


def rows_of(file: DelimitedFile | NdjsonFile) -> Numbered:
    found: Numbered = []
    for block in file.blocks():
        found += zip(block.numbers, block.table.to_pylist(), strict=True)
    return found


def located(section: Section) -> Section:
    return Section(section.start, section.stop, section.before, LOCAL)


def in_sections(path: Path, options: Options, size: int, *, skip: bool) -> tuple[Numbered, list[str], int]:
    """Rows, lines that were passed over, and how many sections there are."""
    whole = DelimitedFile(path, options, skip)
    sections = of_rows(io.BytesIO(path.read_bytes()), whole.dialect, size)
    if sections is None:
        found = rows_of(whole)
        return found, whole.skipped, 1
    assert all(one.stop == other.start for one, other in pairwise(sections))
    assert sections[-1].stop == path.stat().st_size
    rows: Numbered = []
    skipped: list[str] = []
    for section in sections:
        file = DelimitedFile(path, options, skip, located(section), whole.dialect)
        rows += rows_of(file)
        skipped += file.skipped
    return rows, skipped, len(sections)


CELLS = st.text(st.sampled_from("ab1\",\n\r;'ü "), max_size=6)
OPTIONS = Options(delimiter=",", header=1, encoding="utf-8")


@st.composite
def tables(draw: st.DrawFn) -> str:
    """Text of two columns, as programs write it: some cells quoted, some with what only careless ones leave there."""
    lines = ["a,b"]
    for _ in range(draw(st.integers(4, 25))):
        cells = draw(st.lists(CELLS, min_size=2, max_size=draw(st.sampled_from([2, 2, 2, 3]))))
        written = []
        for cell in cells:
            quoted = '"' + cell.replace('"', '""') + '"'
            bare = cell.translate({ord(mark): None for mark in ",\n\r"})
            written.append(draw(st.sampled_from([quoted, quoted + "x", bare.lstrip('"'), f'5{bare}"'])))
        lines.append(draw(st.sampled_from([",".join(written), ",".join(written), ""])))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return end.join(lines) + draw(st.sampled_from(["", end, end * 3]))


@settings(max_examples=300, deadline=None)
@given(text=tables(), size=st.integers(1, 60), mark=st.booleans())
@example(text='a,b\n1,"x\n2,y"\n3,5" z\n4,"w"\n5,v', size=1, mark=False)
@example(text='a,b\r\n"1\r",2\r\n\r\n3,4\r\n5,6\r\n\r\n', size=3, mark=True)
def test_tiny_sections_have_the_rows_of_the_file(tmp_path_factory: Any, text: str, size: int, mark: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "text.csv"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.encode())
    try:
        whole = DelimitedFile(path, OPTIONS, skip=True)
        expected = rows_of(whole)
    except FileInvalid:
        return  # a quote swallows rows: whoever reads it says so
    found, skipped, _ = in_sections(path, OPTIONS, size, skip=True)
    assert found == expected
    assert skipped == whole.skipped


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "windows-1252", "iso-8859-15"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_header_units_and_letters_are_found_once(tmp_path: Path, encoding: str, end: str) -> None:
    lines = ["Export of Müller", "", "amount;place;note", "EUR;;"]
    lines += [f'{n},5;Zürich;"says ""{n}"";{end}then ü"' for n in range(200)]
    path = tmp_path / "in.csv"
    path.write_bytes(end.join(lines).encode(encoding))
    whole = DelimitedFile(path, Options())
    expected = rows_of(whole)
    assert len(expected) == 200
    found, _, count = in_sections(path, Options(), 500, skip=False)
    assert found == expected
    assert count > 5


def test_a_row_without_names_begins_behind_the_mark(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("".join(f"{n},{n}.5\n" for n in range(100)), "utf-8-sig")
    found, _, count = in_sections(path, Options(), 50, skip=False)
    assert found == rows_of(DelimitedFile(path, Options()))
    assert (count > 5, len(found), found[0][1]["column_1"]) == (True, 100, "0")


@pytest.mark.parametrize(
    "written",
    [
        "a,b\n" + "1,2\n" * 100,
        "a\tb\n" + r'"5\" of\nit"' + "\t1\n" + "x\t2\n" * 100,
    ],
)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
def test_where_it_cannot_be_cut_it_is_whole(tmp_path: Path, written: str, encoding: str) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(written.encode(encoding))
    dialect = DelimitedFile(path, Options()).dialect
    sections = of_rows(io.BytesIO(path.read_bytes()), dialect, 50)
    assert (sections is None) == (encoding == "utf-16" or dialect.escape is not None)


def test_a_quote_that_is_never_closed_leaves_the_file_whole() -> None:
    text = b'a,b\n1,"2\n' + b"3,4\n" * 2**22
    dialect = Dialect("utf-8", ",", '"', None, 0, ("a", "b"), 1, False, False, 0, ())
    assert of_rows(io.BytesIO(text), dialect, 2**22) is None


def test_encodings_in_which_other_bytes_hide() -> None:
    for encoding in ("utf-8", "utf-8-sig", "windows-1252", "iso-8859-15", "koi8-r", "cp437", "mac-roman"):
        assert is_bytewise(encoding), encoding
    for encoding in (
        "utf-16",
        "utf-16-le",
        "utf-32",
        "shift_jis",
        "gbk",
        "big5",
        "utf-7",
        "iso2022_jp",
        "iso2022_kr",
        "hz",
        "cp037",
    ):
        assert not is_bytewise(encoding), encoding


@settings(max_examples=100, deadline=None)
@given(
    lines=st.lists(st.sampled_from(['{"a": 1}', '{"a": 2.5, "b": "x"}', '{"b": null}', "", "no", " "]), min_size=3),
    size=st.integers(1, 40),
    ends=st.booleans(),
)
def test_lines_of_json_have_their_numbers_and_one_schema(
    tmp_path_factory: Any, lines: list[str], size: int, ends: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "text.ndjson"
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(['{"a": 0}', *lines]).encode() + b"\n" * ends)
    whole = NdjsonFile(path, Options(), skip=True)
    expected = rows_of(whole)
    sections = of_lines(io.BytesIO(path.read_bytes()), size)
    if sections is None:
        return
    found: Numbered = []
    skipped: list[str] = []
    for section in sections:
        file = NdjsonFile(path, Options(), True, located(section), whole.schema)
        for block in file.blocks():
            assert block.table.schema == whole.schema
            found += zip(block.numbers, block.table.to_pylist(), strict=True)
        skipped += file.skipped
    assert found == expected
    assert skipped == whole.skipped
    assert isinstance(whole.schema, pa.Schema)
