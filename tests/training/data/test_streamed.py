"""A data set that is streamed: its split, its sample, and statistics that are those of memory."""

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from bundle.record.fields import CategoricalField, NumericField
from bundle.record.schema import RecordSchema
from reading.formats import columnar, delimited
from training import config
from training.config import TrainingConfig
from training.data import kinds, schema, statistics, transform
from training.data.read import Data, read
from training.data.streamed import Streamed, stream
from training.errors import ConfigInvalid, DataInvalid

ROWS = 3000
LABELLED = config.build({"data": {"label": "label", "normal": "ok"}})
SMALL = config.build({"data": {"label": "label", "normal": "ok", "calibration_most": 100}})
"""Held-out parts that are small enough for a sample of 400 rows."""


def every_kind(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """A column of every kind of field and of every trouble."""
    random = np.random.default_rng(seed)
    size = random.normal(size=rows)
    code = random.choice([0, 1], rows, p=[0.7, 0.3])
    return pa.table(
        {
            "height": pa.array(170 + 10 * size, mask=random.random(rows) < 0.1),
            "offset": 1e9 + random.normal(size=rows),
            "amount": np.round(np.exp(3 + 1.2 * random.normal(size=rows)), 2),
            "balance": 5 * random.normal(size=rows) - 1e6,
            "visits": random.poisson(3, rows),
            "constant": np.full(rows, 7.5),
            "flag": pa.array(code, mask=random.random(rows) < 0.05),
            "member": pa.array(random.random(rows) < 0.3, mask=random.random(rows) < 0.02),
            "colour": pa.array(
                random.choice(["red", "green", "blue", "NA", "teal"], rows, p=[0.5, 0.3, 0.1, 0.08, 0.02])
            ),
            "when": pa.array(
                np.datetime64("2026-03-02T00:00:00") + random.integers(0, 90 * 24, rows).astype("timedelta64[h]"),
                pa.timestamp("us"),
                mask=random.random(rows) < 0.03,
            ),
            "label": pa.array(np.array(["ok", "bad", None])[random.choice(3, rows, p=[0.9, 0.07, 0.03])]),
        }
    )


def written(folder: Path, table: pa.Table, form: str, files: int = 4) -> Path:
    """A folder of parts; of NDJSON a line an object."""
    folder.mkdir(parents=True)
    cuts = np.linspace(0, len(table), files + 1).astype(int).tolist()
    for index, (start, end) in enumerate(pairwise(cuts)):
        part, path = table.slice(start, end - start), folder / f"part-{index}.{form}"
        match form:
            case "parquet":
                pyarrow.parquet.write_table(part, path)
            case "csv":
                pyarrow.csv.write_csv(part, path)
            case "arrow":
                pyarrow.feather.write_feather(part, path)
            case _:
                part.to_pandas().to_json(path, orient="records", lines=True, date_format="iso")
    return folder


def with_timestamps(settings: TrainingConfig, inferred: kinds.Inferred) -> TrainingConfig:
    """The same with a field of the timestamp, which inference leaves out."""
    fields = [field.model_dump(exclude_none=True) for field in inferred.fields]
    return config.build(
        settings.model_dump(exclude_none=True, exclude={"fields"})
        | {"fields": [*fields, {"name": "when", "kind": "timestamp"}]}
    )


def exact(streamed: Streamed, settings: TrainingConfig) -> RecordSchema:
    """Fields decided on the sample, with the statistics of all training rows."""
    fields = kinds.chosen(streamed.sample, streamed.parts.normal, settings).fields
    chosen = transform.choose(streamed.sample, streamed.parts.train, streamed.parts.validation, fields)
    record = schema.fit(streamed.sample, streamed.parts.train, chosen, settings)
    return statistics.exact(record, streamed, {field.name: field for field in fields}, settings)[0]


def training_rows(streamed: Streamed, names: Sequence[str] = ()) -> list[tuple[str, int]]:
    """File and number of every row that is trained on."""
    return [
        (Path(part.block.file).name, int(part.block.numbers[row]))
        for part in streamed.training(names)
        for row in part.rows.tolist()
    ]


def held_out(streamed: Streamed) -> dict[str, list[str]]:
    sample, parts = streamed.sample, streamed.parts
    named = {"validation": parts.validation, "calibration": parts.calibration, "anomalies": parts.anomalies}
    return {part: [sample.place(row) for row in rows.tolist()] for part, rows in named.items()}


def test_the_split_is_disjoint_and_complete_and_as_large_as_that_of_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "parts", every_kind(), "parquet")
    streamed = stream(path, SMALL, sample_rows=400)
    normal = sum(label == "ok" for label in every_kind()["label"].to_pylist())
    assert (streamed.rows, streamed.normal) == (ROWS, normal)
    assert not streamed.is_whole
    assert streamed.parts.validation.size == streamed.parts.calibration.size == 100
    assert streamed.train == normal - 200
    parts = held_out(streamed)
    trained_on = {f"{file}, row {number}" for file, number in training_rows(streamed)}
    assert len(trained_on) == streamed.train
    every = [*trained_on, *parts["validation"], *parts["calibration"]]
    assert len(every) == len(set(every)) == normal
    of_sample = {streamed.sample.place(row) for row in streamed.parts.train.tolist()}
    assert of_sample < trained_on
    assert len(of_sample) == 200
    labels = streamed.sample.table["label"].to_pylist()
    assert all(labels[row] == "ok" for row in streamed.parts.normal.tolist())
    assert [labels[row] for row in streamed.parts.anomalies.tolist()] == ["bad"] * streamed.parts.anomalies.size


def test_the_split_does_not_depend_on_blocks_nor_on_when_files_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "parts", every_kind(), "csv")
    first = stream(path, SMALL, sample_rows=400)
    again = tmp_path / "again"
    again.mkdir()
    for part in sorted(path.iterdir(), reverse=True):
        shutil.copy(part, again / part.name)
    monkeypatch.setattr(delimited, "_BLOCK", 2**14)
    second = stream(again, SMALL, sample_rows=400)
    assert held_out(first) == held_out(second)
    assert training_rows(first) == training_rows(second)
    assert first.sample.table.equals(second.sample.table)
    other = stream(path, SMALL.model_copy(update={"seed": 1}), sample_rows=400)
    assert held_out(first) != held_out(other)


@pytest.mark.parametrize("form", ["parquet", "csv", "arrow", "ndjson"])
@pytest.mark.parametrize("order", ["random", "colour", "amount"])
def test_statistics_are_those_of_memory(tmp_path: Path, form: str, order: str) -> None:
    table = every_kind()
    if order != "random":
        table = table.sort_by(order)
    path = written(tmp_path / "parts", table, form)
    few = stream(path, SMALL, sample_rows=400)
    settings = with_timestamps(SMALL, kinds.chosen(few.sample, few.parts.normal, SMALL))
    few = stream(path, settings, sample_rows=400)
    found = exact(few, settings)
    # The same rows in memory, with the kinds and the transforms that the sample has decided.
    whole = stream(path, settings)
    assert whole.is_whole
    sample_fields = kinds.chosen(few.sample, few.parts.normal, settings).fields
    chosen = transform.choose(few.sample, few.parts.train, few.parts.validation, sample_fields)
    expected = schema.fit(whole.sample, whole.parts.train, chosen, settings)
    assert [field.name for field in found.fields] == [field.name for field in expected.fields]
    logged = [field.name for field in found.fields if isinstance(field, NumericField) and field.offset is not None]
    assert logged == ["amount"]
    for ours, theirs in zip(found.fields, expected.fields, strict=True):
        if isinstance(ours, NumericField) and ours.offset is not None:
            # The offset is the sample's; the sums are those of all rows with it.
            assert isinstance(theirs, NumericField)
            values = np.asarray(whole.sample.table[ours.name])[whole.parts.train]
            logs = np.log(values + ours.offset)
            assert ours.mean == pytest.approx(logs.mean(), rel=1e-9)
            assert ours.scale == pytest.approx(logs.std(), rel=1e-9)
            assert (ours.missing_rate, ours.nonnegative) == (theirs.missing_rate, theirs.nonnegative)
            continue
        same(ours.model_dump(), theirs.model_dump())


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for key, value in ours.items():
        expected = pytest.approx(theirs[key], rel=1e-9) if isinstance(value, float) else theirs[key]
        assert value == expected, (ours["name"], key)


def test_a_sample_that_holds_every_row_is_the_table_of_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "parts", every_kind(), "csv")
    streamed, whole = stream(path, LABELLED), read(path, LABELLED.data.reading)
    labelled = np.flatnonzero([label is not None for label in whole.table["label"].to_pylist()])
    assert streamed.sample.table.equals(whole.table.take(pa.array(labelled)).combine_chunks())
    assert streamed.sample.sha256 == whole.sha256
    assert streamed.sample.said == whole.said
    assert [streamed.sample.place(row) for row in range(50)] == [whole.place(row) for row in labelled[:50].tolist()]
    found = exact(streamed, LABELLED)
    normal = np.searchsorted(labelled, labelled)[streamed.parts.train]
    fields = kinds.chosen(whole, labelled[streamed.parts.normal], LABELLED).fields
    chosen = transform.choose(whole, labelled[normal], labelled[streamed.parts.validation], fields)
    for ours, theirs in zip(found.fields, schema.fit(whole, labelled[normal], chosen, LABELLED).fields, strict=True):
        same(ours.model_dump(), theirs.model_dump())


def test_tensors_of_blocks_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "parts", every_kind(), "parquet")
    monkeypatch.setattr(columnar, "_ROWS", 111)
    streamed = stream(path, LABELLED)
    record = exact(streamed, LABELLED)
    pieces = [
        schema.tensors(record, Data("", "", pa.table({n: r.column for n, r in part.columns.items()})), part.rows)
        for part in streamed.training(statistics.sources(record))
    ]
    whole = schema.tensors(record, streamed.sample, streamed.parts.train)
    for kind, values in whole.items():
        assert np.array_equal(np.concatenate([piece[kind] for piece in pieces]), values, equal_nan=kind == "numeric")


def break_row(path: Path, row: int, column: int, cell: str) -> None:
    """Put another cell into a row of a CSV file; the first behind the names is 1."""
    lines = path.read_text().splitlines()
    cells = lines[row].split(",")
    cells[column] = cell
    lines[row] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


def numbers(rows: int = 2000) -> pa.Table:
    random = np.random.default_rng(3)
    return pa.table({"x": random.normal(size=rows), "member": random.random(rows) < 0.5, "n": random.poisson(9, rows)})


FEW = config.build({"data": {"calibration_most": 100}})


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        (0, "inf", "column 'x', part-2.csv, row 400: an infinity"),
        (1, "maybe", "column 'member', part-2.csv, row 400: true or false is expected"),
        (2, str(2**53 + 1), r"column 'n', part-2.csv, row 400: a whole number beyond 2\^53"),
    ],
)
def test_a_value_that_does_not_fit_ends_the_run_with_its_place(
    tmp_path: Path, column: int, cell: str, reason: str
) -> None:
    path = written(tmp_path / "parts", numbers(), "csv")
    first = stream(path, FEW, sample_rows=400)
    trained_on = training_rows(first)
    in_sample = {first.sample.place(row) for row in range(first.sample.table.num_rows)}
    assert ("part-2.csv", 400) in trained_on
    assert "part-2.csv, row 400" not in in_sample
    break_row(path / "part-2.csv", 400, column, cell)
    with pytest.raises(DataInvalid, match=reason):
        exact(stream(path, FEW, sample_rows=400), FEW)


def test_few_texts_among_numbers_are_missing_and_said_as_in_memory_and_many_end_the_run(tmp_path: Path) -> None:
    path = written(tmp_path / "parts", numbers(), "csv")
    for row in (400, 401):
        break_row(path / "part-2.csv", row, 0, "broken")
    streamed = stream(path, FEW, sample_rows=400)
    fields = kinds.chosen(streamed.sample, streamed.parts.normal, FEW).fields
    record = schema.fit(streamed.sample, streamed.parts.train, fields, FEW)
    found, _, said = statistics.exact(record, streamed, {field.name: field for field in fields}, FEW)
    whole = read(path)
    assert "2 cells are missing ('broken'; rows 1400, 1401)" in whole.columns["x"]
    assert said == ("x: 2 cells are missing (a number is expected: part-2.csv, row 400; part-2.csv, row 401)",)
    missing = {"part-2.csv, row 400", "part-2.csv, row 401"}
    trained_on = {f"{file}, row {number}" for file, number in training_rows(streamed)}
    expected = (len(missing & trained_on) + 0.5) / (streamed.train + 1)
    assert isinstance(found.fields[0], NumericField)
    assert found.fields[0].missing_rate == pytest.approx(expected)
    in_sample = {streamed.sample.place(row) for row in range(streamed.sample.table.num_rows)}
    for row in range(1, 400):
        if f"part-2.csv, row {row}" not in in_sample:
            break_row(path / "part-2.csv", row, 0, "broken")
    streamed = stream(path, FEW, sample_rows=400)
    with pytest.raises(DataInvalid, match=r"column 'x', part-2.csv, row \d+: a number is expected"):
        statistics.exact(record, streamed, {field.name: field for field in fields}, FEW)


def test_labels_of_every_spelling_are_those_of_memory(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = numbers().append_column(
        "fraud", pa.array(random.choice(["0", "1", "1.0", ""], 2000, p=[0.9, 0.05, 0.03, 0.02]))
    )
    path = written(tmp_path / "parts", table, "csv")
    settings = config.build({"data": {"label": "fraud", "normal": "0"}})
    streamed = stream(path, settings)
    values = np.array(table["fraud"].to_pylist())
    assert streamed.normal == (values == "0").sum()
    assert streamed.parts.anomalies.size == np.isin(values, ["1", "1.0"]).sum()
    assert list(streamed.labels.lines(settings.data)) == [
        f"{(values == '').sum():,} rows have no 'fraud': they are neither learnt from nor evaluated"
    ]
    with pytest.raises(ConfigInvalid, match="no row has fraud = 2; its values are 0, 1"):
        stream(path, config.build({"data": {"label": "fraud", "normal": "2"}}))
    with pytest.raises(ConfigInvalid, match="there is no column 'frau'"):
        stream(path, config.build({"data": {"label": "frau", "normal": "0"}}))
    with pytest.raises(ConfigInvalid, match="takes a label column"):
        stream(path, config.build({"data": {"normal": "0"}}))


def test_folders_name_columns_and_files_of_one_name_are_several(tmp_path: Path) -> None:
    for day in ("01", "02"):
        written(tmp_path / "all" / f"day={day}", numbers(), "parquet", files=1)
    streamed = stream(tmp_path / "all", FEW, sample_rows=400)
    assert streamed.rows == 4000
    assert set(streamed.sample.table["day"].to_pylist()) == {"01", "02"} or set(
        streamed.sample.table["day"].to_pylist()
    ) == {1, 2}
    by_day = [part.rows.size for part in streamed.training(["day"])]
    assert sum(by_day) == streamed.train
    first, second = (row for row in (by_day[: len(by_day) // 2], by_day[len(by_day) // 2 :]))
    assert first != second, "the same rows of two files would go one way"


def test_a_file_that_changes_between_two_readings_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "parts", numbers(), "csv")
    streamed = stream(path, FEW, sample_rows=400)
    with (path / "part-1.csv").open("a") as file:
        file.write("1.0,true,3\n")
    with pytest.raises(DataInvalid, match=r"part-1.csv: has changed since the training began"):
        list(streamed.training([]))


def test_what_cannot_be_streamed_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = written(tmp_path / "parts", numbers(200), "csv")
    with pytest.raises(ConfigInvalid, match=r"200 normal rows are too few .* give more --memory"):
        stream(path, config.build({}))
    with pytest.raises(ConfigInvalid, match="there is no such file"):
        stream(tmp_path / "nowhere.csv", config.build({}))


def test_more_texts_than_are_counted_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST_TEXTS", 3)
    path = written(tmp_path / "parts", every_kind(), "parquet")
    with pytest.raises(DataInvalid, match="column 'colour' has more than 3 different texts"):
        exact(stream(path, LABELLED), LABELLED)


def test_a_vocabulary_that_is_said_stays(tmp_path: Path) -> None:
    path = written(tmp_path / "parts", every_kind(), "parquet")
    settings = config.build(
        {
            "fields": [{"name": "colour", "kind": "categorical", "vocabulary": ["red", "NA"]}],
            "data": {"calibration_most": 100},
        }
    )
    (field,) = exact(stream(path, settings, sample_rows=400), settings).fields
    assert isinstance(field, CategoricalField)
    assert field.vocabulary == ("red", "NA")
    assert "NA" not in field.missing_texts
