"""CSV as people have it: read as the plain file is, and said."""

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reading.errors import FileInvalid
from reading.options import Options
from tests.cases import tables
from tests.cases.conftest import BASE_KINDS, Scores, kinds_of, new_rows, same
from training.data.read import read
from training.errors import DataInvalid

Cells = dict[str, Callable[[Any], str]]


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (lambda t: tables.delimited(t, delimiter=";"), "utf-8", "semicolon"),
        (lambda t: tables.delimited(t, delimiter=";", decimal=","), "utf-8", "semicolon"),
        (lambda t: tables.delimited(t, delimiter="\t", decimal=","), "utf-8", "tab"),
        (lambda t: tables.delimited(t, delimiter="|"), "utf-8", "bar"),
        (lambda t: tables.delimited(t, decimal=","), "utf-8", ""),
        (lambda t: tables.delimited(t), "utf-8-sig", ""),
        (lambda t: tables.delimited(t), "utf-16", "utf-16"),
        (lambda t: tables.delimited(t), "utf-16-le", "utf-16-le"),
        (lambda t: tables.delimited(t, before=["sep=,"]), "utf-8", "1 line before"),
        (lambda t: tables.delimited(t, before=["Readings of May", ""]), "utf-8", "2 lines before"),
        (lambda t: tables.delimited(t, after_names=[["EUR", "°C", "hPa", "-", "", ""]]), "utf-8", "row of units"),
        (lambda t: tables.delimited(t).replace("\n", "\r\n"), "utf-8", ""),
        (lambda t: tables.delimited(t).replace("\n", "\r"), "utf-8", ""),
        (lambda t: tables.delimited(t).replace(",", ", "), "utf-8", "spaces"),
        (lambda t: tables.delimited(t).replace("\n", ",\n"), "utf-8", ""),
    ],
)
def test_how_lines_are_written_is_found_and_said(
    content: Callable[[pa.Table], str], encoding: str, said: str, tmp_path: Path, scores: Scores, expected: pa.Table
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(content(new_rows()).encode(encoding))
    data = read(path)
    assert kinds_of(data) == BASE_KINDS
    assert said in ", ".join(data.said)
    same(scores(path), expected)


AMOUNTS: dict[str, Callable[[float], str]] = {
    "comma between thousands": lambda value: f"{value:,.2f}",
    "decimal comma, point between thousands": lambda value: f"{value:,.2f}".translate(str.maketrans(",.", ".,")),
    "decimal comma, space between thousands": lambda value: f"{value:,.2f}".translate(str.maketrans(",.", " ,")),
    "apostrophe between thousands": lambda value: f"{value:,.2f}".replace(",", "'"),
    "€ left out": lambda value: f"€{value:.2f}",
    "$ left out": lambda value: f"${value:,.2f}",
    "% left out": lambda value: f"{value:.2f} %",
}


@pytest.mark.parametrize("said", AMOUNTS)
def test_how_numbers_are_written_is_found_and_said(said: str, tmp_path: Path, scores: Scores) -> None:
    table = new_rows()
    table = tables.with_column(table, "amount", [value * 100 for value in table["amount"].to_pylist()])
    expected = scores(
        tables.save(
            tmp_path / "plain.parquet",
            tables.with_column(table, "amount", [float(f"{value:.2f}") for value in table["amount"].to_pylist()]),
        )
    )
    path = tmp_path / "in.csv"
    path.write_text(tables.delimited(table, written={"amount": AMOUNTS[said]}), encoding="utf-8")
    data = read(path)
    assert kinds_of(data) == BASE_KINDS
    assert said in data.columns["amount"][0]
    same(scores(path), expected)


@pytest.mark.parametrize("mark", ["?", "n/a", "<NA>", "", "NULL", "-", "#N/A"])
@pytest.mark.parametrize("name", ["temp", "items"])
def test_a_few_strangers_in_a_column_of_numbers_are_missing(
    mark: str, name: str, tmp_path: Path, scores: Scores
) -> None:
    rows = (40, 70, 110)
    holes = [None if row in rows else value for row, value in enumerate(new_rows()[name].to_pylist())]
    expected = scores(tables.save(tmp_path / "plain.parquet", tables.with_column(new_rows(), name, holes)))
    path = tmp_path / "in.csv"
    marked = [mark if value is None else tables.text(value) for value in holes]
    path.write_text(tables.delimited(tables.with_column(new_rows(), name, marked)), encoding="utf-8")
    data = read(path)
    assert kinds_of(data) == BASE_KINDS
    if mark:
        assert "rows 41, 71, 111" in data.columns[name][0]
    same(scores(path), expected)


def test_a_stranger_is_missing_in_training_and_a_fault_of_its_row_in_scoring(tmp_path: Path, scores: Scores) -> None:
    temp = [tables.text(value) for value in new_rows()["temp"].to_pylist()]
    temp[40] = temp[70] = "closed"
    path = tmp_path / "in.csv"
    path.write_text(tables.delimited(tables.with_column(new_rows(), "temp", temp)), encoding="utf-8")
    data = read(path)
    assert kinds_of(data) == BASE_KINDS
    assert "2 cells are missing ('closed'; rows 41, 71)" in data.columns["temp"][0]
    with pytest.raises(
        FileInvalid, match=r"in\.csv: row 41, column 'temp': a number is expected; row 71, .*--on-error skip"
    ):
        scores(path)
    found = scores(path, skip=True)
    assert [row for row, fault in enumerate(found["error"].to_pylist()) if fault] == [40, 70]
    assert found["anomaly_score"].null_count == 2


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-16", "utf-8"])
def test_letters_beyond_ascii_are_read_in_names_and_cells(encoding: str, tmp_path: Path) -> None:
    names = {"web": "Büro", "shop": "Café", "atm": "Straße"}
    table = tables.with_column(new_rows(), "channel", [names[each] for each in new_rows()["channel"].to_pylist()])
    table = table.rename_columns({"amount": "Größe"})
    path = tmp_path / "in.csv"
    path.write_bytes(tables.delimited(table).encode(encoding))
    found = read(path)
    assert found.table.column_names == table.column_names
    assert found.table["channel"].to_pylist() == table["channel"].to_pylist()
    assert (encoding in ", ".join(found.said)) is (encoding != "utf-8")


def test_a_wrong_encoding_is_said_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes("a,b\nBüro,1\n".encode("windows-1252"))
    with pytest.raises(DataInvalid, match=r"in\.csv: is not utf-8: byte 0xfc .* say the encoding"):
        read(path, Options(encoding="utf-8"))


PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst", ".zip"])
@pytest.mark.parametrize("ending", [".csv", ".ndjson", ".CSV"])
def test_packed_files_are_unpacked(
    packing: str, ending: str, tmp_path: Path, scores: Scores, expected: pa.Table
) -> None:
    plain = tables.save(tmp_path / f"plain{ending.lower()}", new_rows()).read_bytes()
    path = tmp_path / f"in{ending}{packing}"
    match packing:
        case ".zst":
            path.write_bytes(_zstd(plain))
        case ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"in{ending}", plain)
        case _:
            path.write_bytes(PACKERS[packing](plain))
    assert kinds_of(read(path)) == BASE_KINDS
    same(scores(path), expected)
    if packing != ".zip":
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(FileInvalid, match=r"in\."):
            scores(path)


def _zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def test_quoted_newlines_over_a_block_are_read(
    tmp_path: Path, scores: Scores, expected: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reading.formats.delimited._BLOCK", 2**14)
    notes = [("free text " * 45) + "\n" + ("second, line " * 3) + str(row) for row in range(tables.NEW_ROWS)]
    path = tables.save(tmp_path / "in.csv", tables.with_column(new_rows(), "note", notes, 6))
    assert kinds_of(read(path)) == BASE_KINDS
    found = scores(path)
    same(found, expected)
    assert found["note"].to_pylist() == notes


def test_rows_that_are_ragged_are_named_or_passed_over_and_counted(
    tmp_path: Path, scores: Scores, expected: pa.Table
) -> None:
    lines = tables.delimited(new_rows()).splitlines()
    lines.insert(51, "1,2,3")
    lines.append("Total,17")
    path = tmp_path / "in.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(FileInvalid, match=r"in\.csv: row 51 has 3 cells, and there are 6 columns"):
        scores(path)
    # What is passed over counts, so the rows behind it have other numbers.
    same(scores(path, skip=True), expected, reordered=True)
