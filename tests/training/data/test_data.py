"""Data files and their split."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from bundle.contents.calibration import least_rate
from tests.conftest import as_data
from tests.training.conftest import mixed_table
from training import config
from training.config import DataConfig
from training.data import image_files
from training.data.read import Data, digest, read
from training.data.split import attainable, split
from training.errors import ConfigInvalid, DataInvalid


def test_one_table_reads_the_same_from_every_format(tmp_path: Path) -> None:
    table = mixed_table(50).select(["height", "visits", "colour", "member"])
    pyarrow.csv.write_csv(table, tmp_path / "a.csv")
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.ndjson").write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    expected = table.to_pydict()
    for suffix in ("csv", "parquet", "ndjson"):
        assert read(tmp_path / f"a.{suffix}").table.to_pydict() == expected


def test_an_npz_gives_numbered_columns_and_the_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=np.arange(6.0).reshape(3, 2), y=np.array([0, 1, 0]))
    table = read(tmp_path / "a.npz").table
    assert table.to_pydict() == {"x0": [0.0, 2.0, 4.0], "x1": [1.0, 3.0, 5.0], "y": [0, 1, 0]}


def test_text_columns_keep_their_leading_zeros(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("zip,n\n00123,1\n00456,2\n")
    assert read(tmp_path / "a.csv", kinds={"zip": "categorical"}).table["zip"].to_pylist() == ["00123", "00456"]


def test_empty_cells_are_missing_and_of_texts_they_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,t,b\n1,x,true\n,,\nNA,null,NaN\n")
    assert read(tmp_path / "a.csv").table.to_pydict() == {
        "n": [1, None, None],
        "t": ["x", None, "null"],
        "b": [True, None, None],
    }


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.csv", b"", DataInvalid, "a.csv"),
        ("a.csv", b"a,b\n", DataInvalid, "no rows"),
        ("a.csv", b"a,a\n1,2\n", DataInvalid, "'a'"),
        ("a.csv", b"a,b\n1\n1,2,3\n", DataInvalid, "a.csv"),
        ("a.parquet", b"PAR1", DataInvalid, "a.parquet"),
        ("a.ndjson", b'{"a": 1}\n{"a"', DataInvalid, "a.ndjson"),
        ("a.npz", b"PK", DataInvalid, "a.npz"),
        ("a.xlsx", b"", ConfigInvalid, "save the sheet as CSV"),
    ],
)
def test_what_is_no_table_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, kind: type[Exception], words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=words):
        read(tmp_path / name)


def test_a_file_that_is_not_there_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no such file"):
        read(tmp_path / "nothing.csv")


def test_a_pickled_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=np.array([[{}]], object))
    with pytest.raises(DataInvalid):
        read(tmp_path / "a.npz")


def test_the_parts_share_no_row_and_leave_none_out(mixed: Data) -> None:
    parts = split(mixed, DataConfig(label="label", normal="ok"), 0.01, seed=0)
    every = np.concatenate([parts.train, parts.validation, parts.calibration, parts.anomalies])
    assert sorted(every) == list(range(mixed.table.num_rows))
    labels = np.array(mixed.table["label"].to_pylist())
    assert set(labels[parts.normal]) == {"ok"}
    assert set(labels[parts.anomalies]) == {"bad"}
    assert parts.calibration.size >= 99


def test_the_split_follows_its_seed(mixed: Data) -> None:
    one, same, other = (split(mixed, DataConfig(), 0.01, seed).train.tolist() for seed in (1, 1, 2))
    assert one == same != other


def test_the_calibration_part_grows_with_the_rate_asked_for() -> None:
    data = as_data(pa.table({"x": np.arange(3000.0)}))
    assert split(data, DataConfig(), 0.01, 0).calibration.size == 600
    assert split(data, DataConfig(), 0.001, 0).calibration.size == 999


def test_rows_that_would_go_to_calibration_by_more_than_a_third_are_divided_into_folds() -> None:
    data = as_data(pa.table({"x": np.arange(100.0)}))
    assert split(data, DataConfig(), 0.05, 0).calibration.size == 20
    parts = split(data, DataConfig(), 0.01, 0)
    assert parts.calibration.size == 0
    assert [fold.size for fold in parts.folds] == [10] * 10
    assert sorted(np.concatenate(parts.folds)) == sorted(parts.normal) == list(range(100))
    assert (parts.train.size, parts.validation.size) == (90, 10)


def test_fewer_images_than_rows_are_held_out_unless_it_is_said() -> None:
    rows = as_data(pa.table({"x": np.arange(60_000.0)}))
    images = as_data(pa.table({"image": image_files.column(np.zeros((60_000, 2, 2, 1), np.uint8))}))
    held_out = [
        (parts.calibration.size, parts.validation.size)
        for parts in (
            split(rows, DataConfig(), 0.01, 0),
            split(images, DataConfig(), 0.01, 0),
            split(images, DataConfig(calibration_most=5000), 0.01, 0),
        )
    ]
    assert held_out == [(10_000, 6000), (2000, 2000), (5000, 5000)]


@pytest.mark.parametrize(
    ("rows", "rate", "contamination", "words"),
    [
        (98, 0.01, 0.0, "98 normal rows are too few: a false-alarm rate of 0.01 takes 99; .* rate of 0.0102 or more"),
        (100, 0.01, 0.1, "takes 110; .* rate of 0.011 or more"),
        (19, 0.1, 0.0, "takes 20; give as many$"),
        (20_000, 1e-5, 0.0, "takes 99999 rows for calibration, and data.calibration_most allows 10000"),
    ],
)
def test_too_few_rows_for_the_rate_say_how_many_it_takes(
    rows: int, rate: float, contamination: float, words: str
) -> None:
    data = as_data(pa.table({"x": np.arange(float(rows))}))
    with pytest.raises(DataInvalid, match=words):
        split(data, DataConfig(contamination=contamination), rate, 0)


@pytest.mark.parametrize("contamination", [0.0, 0.05, 0.2])
def test_the_rate_that_is_named_instead_is_answered(contamination: float) -> None:
    for rows in range(20, 99):
        data = as_data(pa.table({"x": np.arange(float(rows))}))
        with pytest.raises(DataInvalid) as refused:
            split(data, DataConfig(contamination=contamination), 0.005, 0)
        named = float(str(refused.value).split("for a rate of ")[1].split()[0])
        assert split(data, DataConfig(contamination=contamination), named, 0).folds


@pytest.mark.parametrize("contamination", [0.0, 0.2])
def test_where_no_rate_is_named_few_rows_take_the_least_that_they_allow(contamination: float) -> None:
    named = config.build({"scoring": {"false_alarm_rate": 0.01}, "data": {"contamination": contamination}})
    none_named = config.build({"data": {"contamination": contamination}})
    for rows in range(1, 140):
        data = as_data(pa.table({"x": np.arange(float(rows))}))
        assert attainable(data, named) is named
        found = attainable(data, none_named)
        if rows < 20 or rows * (1 - contamination) >= 99:
            assert found is none_named
            continue
        rate = found.scoring.false_alarm_rate
        assert rate == float(least_rate(math.floor(rows * (1 - contamination)))) > 0.01
        assert split(data, found.data, rate, 0).folds
        assert found == none_named.model_copy(update={"scoring": found.scoring})


def test_what_contamination_will_take_from_the_calibration_is_allowed_for() -> None:
    data = as_data(pa.table({"x": np.arange(400.0)}))
    assert split(data, DataConfig(calibration_share=0.1, contamination=0.1), 0.01, 0).calibration.size == 110


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (DataConfig(label="nothing", normal="0"), "no column 'nothing'"),
        (DataConfig(label="label", normal="good"), "its values are bad, ok"),
        (DataConfig(normal="ok"), "--label"),
    ],
)
def test_a_label_that_is_not_there_is_a_wrong_call(mixed: Data, config: DataConfig, words: str) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        split(mixed, config, 0.01, 0)


@pytest.mark.parametrize("label", [pa.array([0, 1] * 300), pa.array([0.0, 1.0] * 300), pa.array([False, True] * 300)])
def test_labels_of_any_type_are_told_by_their_text(label: pa.Array) -> None:
    data = as_data(pa.table({"x": np.arange(600.0), "y": label}))
    for normal in ("false", "False") if pa.types.is_boolean(label.type) else ("0",):
        parts = split(data, DataConfig(label="y", normal=normal), 0.01, 0)
        assert parts.normal.tolist() == list(range(0, 600, 2))


def test_rows_without_a_label_are_neither_normal_nor_anomalies() -> None:
    data = as_data(pa.table({"x": np.arange(600.0), "y": pa.array([0, None, 1] * 200)}))
    parts = split(data, DataConfig(label="y", normal="0"), 0.05, 0)
    assert (parts.normal.size, parts.anomalies.size) == (200, 200)


def test_a_partition_that_is_renamed_is_other_data(tmp_path: Path) -> None:
    (tmp_path / "all" / "day=1").mkdir(parents=True)
    (tmp_path / "all" / "day=1" / "x.csv").write_text("a,b\n1,2\n")
    before = digest(tmp_path / "all")
    (tmp_path / "all" / "day=1").rename(tmp_path / "all" / "day=2")
    assert digest(tmp_path / "all") != before
