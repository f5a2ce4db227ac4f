"""A few stray cells and lines: they cost no column, and what they were taken for is said."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cases.conftest import kinds_of, new_rows
from tests.cases.tables import save, with_column
from tests.surprisal.cli.command import surprisal
from training import config
from training.config import DataConfig
from training.data import kinds, split
from training.data.read import Data, read
from training.errors import ConfigInvalid, DataInvalid

ROWS = 300
RANDOM = np.random.default_rng(3)
AMOUNTS = np.round(RANDOM.lognormal(3, 1, ROWS), 2)


def table(path: Path, cell: Callable[[int], str], head: str = "n,v") -> Data:
    """A file of a column as it is written, and a plain one."""
    lines = [f"{cell(row)},{row % 7}" for row in range(ROWS)]
    path.write_text("\n".join([head, *lines]) + "\n")
    return read(path)


def said(data: Data, name: str = "n") -> str:
    found = kinds.infer(data, np.arange(data.table.num_rows), config.build({}))
    return " | ".join((*found.notes.get(name, ()), *found.warnings))


@pytest.mark.parametrize(
    ("stray", "remark"),
    [
        ("007", "1 cell is read without its zeros"),
        ("02.01.2024", "1 cell is missing ('02.01.2024'; row 9)"),
        ("00:15", "1 cell is missing ('00:15'; row 9)"),
        ("0 pieces", "1 cell is missing ('0 pieces'; row 9)"),
        ("01a", "1 cell is missing ('01a'; row 9)"),
        ("\\N", ""),
        ("(null)", "1 cell is missing ('(null)'; row 9)"),
    ],
)
def test_one_stray_cell_leaves_a_number_a_number(stray: str, remark: str, tmp_path: Path) -> None:
    data = table(tmp_path / "in.csv", lambda row: stray if row == 8 else str(row % 59 + 1))
    assert kinds_of(data)["n"] == "numeric"
    assert remark in said(data)
    assert "brackets" not in said(data)


@pytest.mark.parametrize("cell", [lambda row: f"{row * 331 % 100000:05d}", lambda row: f"{row % 40:03d}"])
def test_digits_of_one_width_or_often_with_zeros_are_codes(cell: Callable[[int], str], tmp_path: Path) -> None:
    data = table(tmp_path / "in.csv", cell)
    assert data.table.schema.field("n").type == "string"
    assert "read as codes" in said(data) or kinds_of(data).get("n") != "numeric"


def test_points_that_may_be_thousands_are_said_to_be_guessed(tmp_path: Path) -> None:
    both = table(tmp_path / "both.csv", lambda row: f"{row % 90 + 1}.{row % 900 + 100}")
    assert "decimal point; a guess" in said(both)
    # Beside whole numbers under 1000 every point has three digits behind it, and no program rounds so.
    mixed = table(tmp_path / "mixed.csv", lambda row: f"{row + 1}" if row % 3 else f"{row % 90 + 1}.{row % 900 + 100}")
    assert "point between thousands; a guess" in said(mixed)
    assert max(mixed.table["n"].to_pylist()) > 50_000
    decimals = table(tmp_path / "decimals.csv", lambda row: str(AMOUNTS[row]))
    assert said(decimals) == ""


def test_cells_without_the_unit_of_the_others_are_named(tmp_path: Path) -> None:
    data = table(tmp_path / "in.csv", lambda row: "0.5" if row % 30 == 0 else f"{row % 40 + 1}.5%")
    assert "10 cells are read without % ('0.5'; rows 1, 31" in said(data)


@pytest.mark.parametrize(
    "title", ["Title", "# logger v2.1\n# second", "Monthly report\nGenerated 2024-05-01\n", "#a\n#b\n#c"]
)
def test_titles_narrower_than_the_table_are_passed_over(title: str, tmp_path: Path) -> None:
    data = table(tmp_path / "in.csv", lambda row: str(AMOUNTS[row]), f"{title}\nn,v")
    assert data.table.column_names == ["n", "v"]
    assert data.table["n"].to_pylist() == AMOUNTS.tolist()


@pytest.mark.parametrize("first", ["Al,NA,44", "Al,,44", "Al,true,F", "Al,12.30,F"])
def test_a_first_row_of_data_is_no_row_of_names(first: str, tmp_path: Path) -> None:
    path, kind = tmp_path / "in.csv", first.split(",")[1]
    middle = {"true": "false", "12.30": "7.5"}.get(kind, "3.25")
    last = "F" if first.endswith("F") else "7"
    rest = [f"Bo{row % 5},{'NA' if row % 9 == 0 and kind in ('NA', '') else middle},{last}" for row in range(ROWS)]
    path.write_text("\n".join([first, *rest]) + "\n")
    assert read(path).table.column_names == ["column_1", "column_2", "column_3"]


@pytest.mark.parametrize("head", [",a,b", "name,2019,b", "a,b,c"])
def test_a_row_of_names_stays_one(head: str, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("\n".join([head, *(f"{row},{row % 7}.5,{row % 60}" for row in range(ROWS))]) + "\n")
    assert read(path).table.column_names == head.split(",")


def test_two_exports_one_behind_the_other_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("n,v\n" + "1,2\n" * ROWS + "v,n\n" + "2,1\n" * ROWS)
    with pytest.raises(DataInvalid, match=rf"row {ROWS + 1} has the names of the columns in another order"):
        read(path)


def test_all_digits_of_a_sentinel_are_said(tmp_path: Path) -> None:
    data = table(tmp_path / "in.csv", lambda row: "999999999" if row % 60 == 0 else str(row * 17 % 5000))
    assert 'missing_values = ["999999999"]' in said(data)


def test_a_row_of_totals_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("item,n\n" + "".join(f"item{row % 9},{row}\n" for row in range(ROWS)) + "Summe,44850\n")
    assert "row 301 looks like totals of others ('Summe' in 'item', row 301)" in said(read(path))


def test_rows_without_a_label_and_spellings_of_the_normal_one_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    labels = ["no", "no", "", "No", "yes"]
    path.write_text("n,label\n" + "".join(f"{AMOUNTS[row]},{labels[row % 5]}\n" for row in range(ROWS)))
    lines = list(split.of_labels(read(path).table, DataConfig(label="label", normal="no")))
    assert lines[0].startswith("60 rows have no 'label'")
    assert lines[1].startswith("60 rows have label = 'No', which is not 'no'")
    shown = surprisal("train", path, "--label", "label", "--normal", "no", "--schema-only")
    assert shown.returncode == 0, shown.stderr
    assert all(line in shown.stderr for line in lines)


def test_a_label_without_its_normal_value_is_warned_of_with_its_values(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("n,label\n" + "".join(f"{AMOUNTS[row]},{'NNNY'[row % 4]}\n" for row in range(ROWS)))
    (line,) = split.of_labels(read(path).table, DataConfig(label="label"))
    assert line.startswith("WARNING: the label 'label' has the values N, Y, ")
    assert "--normal N " in line
    shown = surprisal("train", path, "--label", "label", "--schema-only")
    assert shown.returncode == 0, shown.stderr
    assert line in shown.stderr


def test_of_a_column_that_is_left_out_only_the_way_to_have_it_otherwise_is_said(tmp_path: Path) -> None:
    codes = table(tmp_path / "codes.csv", lambda row: f"TX{row:08d}")
    assert "n" in kinds.infer(codes, np.arange(ROWS), config.build({})).left_out
    assert said(codes) == ""
    mixed = table(tmp_path / "mixed.csv", lambda row: f"seen {row}" if row % 5 == 0 else f"{row * 1.7:.3f}")
    assert "n" in kinds.infer(mixed, np.arange(ROWS), config.build({})).left_out
    assert 'kind = "numeric" has the others missing' in said(mixed)


def test_a_field_that_is_empty_in_every_row_is_said(tmp_path: Path, bundle: Path) -> None:
    path = save(tmp_path / "in.csv", with_column(new_rows(), "temp", [None] * new_rows().num_rows))
    done = surprisal("score", bundle, path, tmp_path / "out.csv", "--json")
    assert done.returncode == 0, done.stderr
    assert "temp is empty in every row" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["empty_fields"] == ["temp"]


def test_frauds_marked_and_all_others_blank_is_a_label(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("n,fraud\n" + "".join(f"{AMOUNTS[row]},{'yes' if row % 30 == 0 else ''}\n" for row in range(ROWS)))
    table = read(path).table
    normal, anomalies = split.by_label(table, DataConfig(label="fraud", normal=""))
    assert (normal.size, anomalies.size) == (ROWS - 10, 10)
    (line,) = split.of_labels(table, DataConfig(label="fraud", normal=""))
    assert line == "290 rows have no 'fraud' and count as normal; the others are anomalies"
    with pytest.raises(ConfigInvalid, match=r"its values are yes\. 290 rows have none: --normal '' learns from these"):
        split.by_label(table, DataConfig(label="fraud", normal="no"))
    (warned,) = split.of_labels(table, DataConfig(label="fraud"))
    assert warned.endswith("--normal '' learns from the 290 rows without one alone")
    shown = surprisal("train", path, "--label", "fraud", "--normal", "", "--schema-only")
    assert shown.returncode == 0, shown.stderr
    assert line in shown.stderr
    unnamed = surprisal("train", path, "--schema-only")
    assert "--label fraud --normal '' learns the rows without one alone, if those are normal" in unnamed.stdout
