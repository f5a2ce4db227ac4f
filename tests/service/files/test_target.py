"""Files of scored records: what they hold, when they appear, and whose fault it is when they cannot be written."""

import csv
import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from service import files

FORMS = ("csv", "parquet", "ndjson")


@pytest.mark.parametrize("suffix", FORMS)
def test_a_file_that_cannot_be_finished_does_not_appear(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    path.write_text("before")
    with pytest.raises(RuntimeError), files.writer(path) as target:  # noqa: PT012
        target.write_table(pa.table({"x": [1]}))
        raise RuntimeError
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "before"


def test_a_list_cannot_be_written_as_csv(tmp_path: Path) -> None:
    with pytest.raises(files.FileInvalid, match=r"out\.csv: column 'x' holds list.*--keep"):  # noqa: SIM117
        with files.writer(tmp_path / "out.csv") as target:
            target.write_table(pa.table({"x": [[1, 2]]}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", FORMS)
def test_a_disk_that_is_full_is_a_fault_of_the_file_that_is_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    (tmp_path / f".out.{suffix}.writing").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as refusal, files.writer(path) as target:
        target.write_table(pa.table({"x": range(100_000)}))
    assert refusal.value.filename == str(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", FORMS)
def test_a_file_that_cannot_be_begun_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / ("o" * 250 + f".{suffix}")
    with pytest.raises(OSError, match="name too long") as refusal, files.writer(path):
        pass
    assert refusal.value.filename == str(path)


@pytest.mark.parametrize("suffix", FORMS)
def test_a_fault_of_the_file_that_is_read_is_not_one_of_the_file_that_is_written(tmp_path: Path, suffix: str) -> None:
    reading = pa.ArrowInvalid("In CSV column #3: invalid UTF8 data")
    with pytest.raises(pa.ArrowInvalid) as refusal, files.writer(tmp_path / f"out.{suffix}"):
        raise reading
    assert refusal.value is reading


VALUES: dict[str, Any] = {
    "text": ["plain", 'say "a, b"', "two\nlines", "", "007", None],
    "a, b": [1, 2, 3, None, 5, 6],
    "number": [1.5, 0.1, 1e-300, None, 2.0, -3.25],
    "flag": [True, False, None, True, True, False],
    "at": [datetime(2024, 1, 1, 7, 30), None, *[datetime(2024, 1, 2)] * 4],
    "price": [Decimal("7.10"), None, *[Decimal("2.00")] * 4],
    "kind": pa.array(["x", "y", None, "x", 'q"', "x"]).dictionary_encode(),
}


def written(path: Path, table: pa.Table) -> Path:
    with files.writer(path) as target:
        target.write_table(table.slice(0, 2))
        target.write_table(table.slice(2, 0))
        target.write_table(table.slice(2))
    return path


def test_csv_has_quotes_where_a_cell_needs_them(tmp_path: Path) -> None:
    path = written(tmp_path / "out.csv", pa.table(VALUES))
    assert path.read_text().splitlines()[:2] == [
        'text,"a, b",number,flag,at,price,kind',
        "plain,1,1.5,true,2024-01-01 07:30:00.000000,7.10,x",
    ]
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == list(VALUES)
    assert [row[0] for row in rows] == [text or "" for text in VALUES["text"]]
    assert [row[1] for row in rows] == ["1", "2", "3", "", "5", "6"]
    assert [float(row[2]) if row[2] else None for row in rows] == VALUES["number"]
    assert [row[6] for row in rows] == ["x", "y", "", "x", 'q"', "x"]


def test_every_type_stays_what_it_is(tmp_path: Path) -> None:
    table = pa.table(VALUES)
    assert pyarrow.parquet.read_table(written(tmp_path / "out.parquet", table)).equals(table)
    lines = [json.loads(line) for line in written(tmp_path / "out.ndjson", table).read_text().splitlines()]
    for name in ("text", "a, b", "number", "flag"):
        assert [line[name] for line in lines] == VALUES[name]
        assert {type(line[name]) for line in lines} == {type(value) for value in VALUES[name]}
    assert lines[0]["price"] == "7.10"


@pytest.mark.parametrize("suffix", FORMS)
def test_no_row_at_all_is_a_file_with_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    with files.writer(path) as target:
        target.write_table(pa.table(VALUES).slice(0, 0))
    match suffix:
        case "csv":
            assert path.read_text() == 'text,"a, b",number,flag,at,price,kind\n'
        case "parquet":
            assert pyarrow.parquet.read_table(path).column_names == list(VALUES)
        case _:
            assert path.read_bytes() == b""
