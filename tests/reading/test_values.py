"""What of a file reaches the fields of a model: as in training, block by block, and nothing is lost without a word."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bundle.record.fields import CategoricalField, DateOrder, Derived, NumericField
from bundle.record.schema import TableSchema
from reading import opening
from reading.options import Options
from reading.values import Values
from training.data.read import read

AMOUNT = NumericField(name="amount", missing_rate=0.1, mean=0.0, scale=1.0)
HOURS = tuple(str(hour) for hour in range(24))


def schema(order: DateOrder | None = None) -> TableSchema:
    derived = Derived(source="at", part="hour", order=order)
    return TableSchema(
        fields=(AMOUNT, CategoricalField(name="at_hour", missing_rate=0.1, vocabulary=HOURS, derived=derived))
    )


def values(
    path: Path, options: Options | None = None, order: DateOrder | None = None
) -> tuple[Mapping[str, list[Any]], list[tuple[int, str]], Mapping[str, str]]:
    """The values of a file by field; the rows that have a problem, and of which field; and what was said."""
    options = options or Options()
    file = opening.opened(path, options)
    reader = Values(schema(order), file, options)
    found: dict[str, list[Any]] = {}
    problems, before = [], 0
    for block in file.blocks():
        given, wrong = reader.of(block.table)
        for name, some in given.items():
            found.setdefault(name, []).extend(some.tolist())
        problems += [(before + each.row, each.field or "") for each in wrong]
        before += block.table.num_rows
    return found, problems, reader.said


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_order_that_training_found_holds_where_it_fits(tmp_path: Path) -> None:
    path = written(tmp_path / "in.csv", "amount,at\n1,05/03/2026\n2,04/03/2026\n3,06/03/2026\n")
    found, _, said = values(path, order="dmy")
    assert [each.month for each in found["at"]] == [3, 3, 3]
    assert not said
    found, _, said = values(path)
    assert [each.month for each in found["at"]] == [5, 4, 6]
    assert said == {"at": "mm/dd/yyyy (a guess; date_format says it)"}
    data = read(path, kinds={"at": "timestamp"}, date_orders={"at": "dmy"})
    assert [each.month for each in data.table["at"].to_pylist()] == [3, 3, 3]
    assert data.columns["at"] == ("read as dd/mm/yyyy",)
    path = written(tmp_path / "other.csv", "amount,at\n1,05/13/2026\n")
    assert values(path, order="dmy")[0]["at"][0].month == 5


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("moments", [[1_700_000_000, -1, 1_700_003_600], [20260131, -1, 20260202]])
def test_numbers_that_are_timestamps_are_read_as_in_training(moments: list[int], ending: str, tmp_path: Path) -> None:
    path, options = tmp_path / f"in.{ending}", Options(missing_values=("-1",))
    table = pa.table({"amount": [1.0, 2.0, 3.0], "at": moments})
    if ending == "csv":
        written(path, "amount,at\n" + "".join(f"1,{moment}\n" for moment in moments))
    else:
        pyarrow.parquet.write_table(table, path)
    found, problems, _ = values(path, options)
    trained = read(path, options, {"at": "timestamp"}).table["at"].to_pylist()
    assert found["at"] == trained
    assert [each is None for each in trained] == [False, True, False]
    assert not problems


def test_a_number_that_is_no_day_is_said(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(pa.table({"amount": [1.0, 2.0], "at": [20260131, 20260231]}), path)
    _, problems, _ = values(path)
    assert problems == [(1, "at")]
    data = read(path, kinds={"at": "timestamp"})
    assert data.columns["at"] == ("1 cell is missing ('20260231'; row 2)",)


ROWS = 100_000
"""More than a block of a text file has."""


@pytest.mark.parametrize(
    ("delimiter", "last", "number", "said"),
    [
        (",", '"1,5"', 1.5, "decimal comma"),
        (",", '"1,234.5"', 1234.5, "comma between thousands"),
        (";", "1,5", 1.5, "decimal comma"),
        (";", "1.234", 1234.0, "decimal comma, point between thousands (a guess; decimal says it)"),
        (";", "1.25", 1.25, ""),
    ],
)
def test_marks_that_come_late_are_read_and_said(
    delimiter: str, last: str, number: float, said: str, tmp_path: Path
) -> None:
    lines = [f"{row}{delimiter}{'x' * 100}" for row in range(ROWS)]
    path = written(tmp_path / "in.csv", "\n".join([f"amount{delimiter}note", *lines, f"{last}{delimiter}x"]))
    found, problems, notes = values(path)
    np.testing.assert_array_equal(found["amount"], [*range(ROWS), number])
    assert not problems
    assert notes.get("amount", "") == said
