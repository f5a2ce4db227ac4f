"""Files as programs write them, streamed: they are read as in memory, or refused with the same words."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from bundle.record.fields import CategoricalField
from bundle.record.schema import RecordSchema
from reading.options import Options
from tests.training.data.test_streamed import numbers
from training import config
from training.config import TrainingConfig
from training.data import budget, statistics
from training.data.budget import Budget
from training.data.read import read
from training.data.streamed import stream
from training.errors import ConfigInvalid, DataInvalid
from training.fitting.prepared import prepare, prepare_streamed

ROWS = 2000


def settings(**data: Any) -> TrainingConfig:
    return config.build({"data": {"calibration_most": 100, **data}})


def table(**columns: pa.Array) -> pa.Table:
    whole = numbers(ROWS)
    for name, column in columns.items():
        whole = whole.append_column(name, column)
    return whole


def names(path: Path, given: TrainingConfig) -> tuple[str, ...]:
    """The fields of a table that is streamed, which must be those of memory."""
    found = streamed(path, given)
    assert found.names == prepare(read(path, given.data.reading, given.kinds), given, lambda _: None).record.names
    return found.names


def streamed(path: Path, given: TrainingConfig, said: list[str] | None = None, sample_rows: int = 400) -> RecordSchema:
    say = (lambda _: None) if said is None else said.append
    return prepare_streamed(stream(path, given, sample_rows), given, say).record


def written(path: Path, whole: pa.Table, groups: int = 4) -> Path:
    pyarrow.parquet.write_table(whole, path, row_group_size=ROWS // groups)
    return path


def test_columns_that_are_required_are_read(tmp_path: Path) -> None:
    schema = pa.schema([pa.field(each.name, each.type, nullable=False) for each in numbers().schema])
    assert names(written(tmp_path / "a.parquet", numbers().cast(schema)), settings()) == ("x", "member", "n")


def test_dictionaries_of_several_files_that_together_have_more_values_than_their_codes(tmp_path: Path) -> None:
    codes = pa.array(np.arange(ROWS) % 100, pa.int8())
    for index in range(3):
        texts = pa.DictionaryArray.from_arrays(codes, [f"c{index}_{each}" for each in range(100)])
        pyarrow.feather.write_feather(table(c=texts), tmp_path / f"part-{index}.arrow")
    fields = [{"name": "x", "kind": "numeric"}, {"name": "c", "kind": "categorical"}]
    given = config.build({"data": {"calibration_most": 100}, "fields": fields})
    assert names(tmp_path, given) == ("x", "c")


@pytest.mark.parametrize("large_last", [True, False])
def test_decimals_whose_blocks_are_numbers_or_text_by_their_size(tmp_path: Path, large_last: bool) -> None:
    values = [Decimal(each % 300) for each in range(ROWS)]
    values[-1 if large_last else 0] = Decimal(10**30)
    whole = table(d=pa.array(values, pa.decimal128(38, 0)))
    path = written(tmp_path / "a.parquet", whole)
    fields = [{"name": "x", "kind": "numeric"}, {"name": "d", "kind": "categorical"}]
    given = config.build({"data": {"calibration_most": 100}, "fields": fields})
    assert streamed(path, given, sample_rows=ROWS).names == ("x", "d")


def test_a_decimal_that_no_number_holds_is_refused_with_its_place(tmp_path: Path) -> None:
    values = [Decimal(each % 300) for each in range(ROWS)]
    first = stream(written(tmp_path / "a.parquet", table()), settings(), 400)
    known = {first.sample.place(row) for row in range(first.sample.table.num_rows)}
    row = next(row for row in range(ROWS) if f"row {row + 1}" not in known)
    values[row] = Decimal(10**30)
    path = written(tmp_path / "a.parquet", table(d=pa.array(values, pa.decimal128(38, 0))))
    with pytest.raises(DataInvalid, match=rf"column 'd', row {row + 1}: a whole number beyond 2\^53"):
        streamed(path, settings())


def test_labels_of_decimals_and_floats_with_nan_are_those_of_memory(tmp_path: Path) -> None:
    decimals = [Decimal(each % 5 == 0) for each in range(ROWS)]
    decimals[-1] = Decimal(10**30)
    path = written(tmp_path / "d.parquet", table(y=pa.array(decimals, pa.decimal128(38, 0))))
    assert stream(path, settings(label="y", normal="0")).normal == sum(not each for each in decimals)
    floats = np.array([0.0, 0.0, 1.0, np.nan])[np.arange(ROWS) % 4]
    path = written(tmp_path / "f.parquet", table(y=pa.array(floats)))
    found = stream(path, settings(label="y", normal="0"))
    assert (found.normal, found.parts.anomalies.size) == (ROWS // 2, ROWS // 4)


@pytest.mark.parametrize("value", [["x"], {"x": 1}])
def test_a_label_of_lists_or_objects_is_refused(tmp_path: Path, value: object) -> None:
    path = written(tmp_path / "a.parquet", table(y=pa.array([value] * ROWS)))
    with pytest.raises(ConfigInvalid, match="the label 'y' holds lists or objects"):
        stream(path, settings(label="y", normal="x"))


def test_a_timestamp_that_is_said_to_be_one_gives_its_hour_and_weekday(tmp_path: Path) -> None:
    when = pa.array(np.datetime64("2026-01-01T00:00:00", "us") + np.arange(ROWS) * np.timedelta64(3, "h"))
    fields = [{"name": "x", "kind": "numeric"}, {"name": "when", "kind": "timestamp"}]
    given = config.build({"data": {"calibration_most": 100}, "fields": fields})
    assert len(names(written(tmp_path / "a.parquet", table(when=when)), given)) == 3


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_first_file_without_rows_hides_no_others(tmp_path: Path, form: str) -> None:
    for index, part in enumerate((numbers().slice(0, 0), numbers())):
        if form == "parquet":
            pyarrow.parquet.write_table(part, tmp_path / f"part-{index}.parquet")
        else:
            part.to_pandas().to_csv(tmp_path / f"part-{index}.csv", index=False)
    assert budget.choose(tmp_path, Options(), Budget.of("10k")).streams


def test_of_a_vocabulary_that_is_given_no_other_texts_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "MOST_TEXTS", 100)
    texts = [None if row % 10 == 0 else f"k{row % 300}" for row in range(ROWS)]
    path = written(tmp_path / "a.parquet", table(k=pa.array(texts)))
    fields: list[dict[str, Any]] = [{"name": "k", "kind": "categorical", "vocabulary": ["k1", "k2"]}]
    fields.append({"name": "x", "kind": "numeric"})
    given = config.build({"data": {"calibration_most": 100}, "fields": fields})
    (field,) = (each for each in streamed(path, given).fields if each.name == "k")
    assert isinstance(field, CategoricalField)
    assert field.vocabulary == ("k1", "k2")
    assert field.missing_rate == pytest.approx(0.1, abs=0.02)


def test_rows_too_few_to_be_streamed_take_more_memory_and_no_other_rate(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", numbers(67))
    with pytest.raises(ConfigInvalid, match=r"67 normal rows are too few .* give more --memory"):
        stream(path, config.build({}))
    with pytest.raises(DataInvalid, match="or ask for a rate"):
        stream(path, config.build({"scoring": {"false_alarm_rate": 0.01}}))


def test_of_a_label_without_a_normal_value_the_sample_is_said_to_be_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", table(y=pa.array([None, None, None, "fraud"] * (ROWS // 4))))
    said: list[str] = []
    streamed(path, settings(label="y"), said)
    (line,) = (line for line in said if line.startswith("WARNING: the label"))
    assert line.endswith("(counted in the sample)")
