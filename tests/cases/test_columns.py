"""Columns that name rows or tell when they came change nothing; what training never saw is strange, and seen."""

import csv
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from service.settings import Settings
from tests.cases import tables
from tests.cases.conftest import BASE_KINDS, Scores, kinds_of, new_rows, same
from tests.conftest import as_data, in_process, once
from tests.surprisal.cli.command import surprisal
from training import config, pipeline
from training.data import kinds, schema
from training.data.read import read
from training.errors import ConfigInvalid, DataInvalid

RANDOM = np.random.default_rng(5)
ROWS = tables.NEW_ROWS
DAYS = [date(2026, 1, 1) + timedelta(days=int(day)) for day in np.sort(RANDOM.integers(0, 60, ROWS))]
HEX = [f"{value:032x}" for value in RANDOM.integers(0, 2**62, ROWS)]
APART: dict[str, Any] = {
    "id": np.arange(1, ROWS + 1),
    "Unnamed: 0": np.arange(ROWS) * 2,
    "row": RANDOM.permutation(ROWS),
    "customer_id": RANDOM.permutation(900_000)[:ROWS] + 100_000,
    "key": RANDOM.permutation(900_000)[:ROWS] + 100_000,
    "ts": 1_760_000_000 + 60 * np.arange(ROWS),
    "created": 1_760_000_000_000 + RANDOM.integers(0, 10**9, ROWS),
    "uuid": HEX,
    "who": [f"{name}@example.org" for name in HEX],
    "account": [f"DE{value:020}" for value in RANDOM.integers(0, 2**62, ROWS)],
    "user": [f"user{value}" for value in RANDOM.integers(0, 150, ROWS)],
    "address": [f"Main Street {value}" for value in RANDOM.integers(0, 300, ROWS)],
    "booked": [day.strftime("%d/%m/%Y") for day in DAYS],
    "when": [day.strftime("%d.%m.%Y") for day in DAYS],
    "at": [day.strftime("%m/%d/%Y") for day in DAYS],
    "on": [day.isoformat() for day in DAYS],
    "day": [int(day.strftime("%Y%m%d")) for day in DAYS],
    "empty": pa.nulls(ROWS),
}


@pytest.mark.parametrize("name", APART)
@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_what_names_a_row_or_tells_when_it_came_is_no_field(name: str, ending: str, tmp_path: Path) -> None:
    plain = read(tables.save(tmp_path / "plain.parquet", new_rows()))
    added = read(tables.save(tmp_path / f"in.{ending}", tables.with_column(new_rows(), name, APART[name])))
    assert kinds_of(added) == BASE_KINDS
    settings, every = config.build({}), np.arange(ROWS)
    one, other = (
        schema.fit(data, every, kinds.infer(data, every, settings).fields, settings) for data in (plain, added)
    )
    assert one == other


def test_they_are_carried_through_scoring(tmp_path: Path, scores: Scores, expected: pa.Table) -> None:
    table = new_rows()
    for name, values in APART.items():
        table = tables.with_column(table, name, values)
    found = scores(tables.save(tmp_path / "in.parquet", table))
    same(found, expected)
    for name in APART:
        assert found[name].to_pylist() == table[name].to_pylist(), name


def test_an_index_of_pandas_is_no_field_and_is_carried(tmp_path: Path, scores: Scores, expected: pa.Table) -> None:
    table = new_rows().append_column("__index_level_0__", pa.array(np.sort(RANDOM.integers(0, 90_000, ROWS))))
    said = {"index_columns": ["__index_level_0__"], "columns": [], "pandas_version": "3.0.0"}
    path = tables.save(tmp_path / "in.parquet", table.replace_schema_metadata({"pandas": json.dumps(said)}))
    assert kinds_of(read(path)) == BASE_KINDS
    found = scores(path)
    same(found, expected)
    assert found["__index_level_0__"].equals(table["__index_level_0__"])


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of numbers of a large mean and a small spread, and of constants."""
    random = np.random.default_rng(12)
    rows = tables.NORMAL_ROWS

    def train(out: Path) -> pipeline.Trained:
        table = pa.table(
            {
                "hertz": 1e10 + 3 * random.standard_normal(rows),
                "metres": 2.2e7 + 0.01 * random.standard_normal(rows),
                "temp": 20 + random.standard_normal(rows),
                "mode": np.full(rows, 7),
                "site": ["north"] * rows,
            }
        )
        # What never varies is learnt to be so only after some epochs.
        settings = config.build({"fit": {"epochs": 12}})
        return pipeline.train(as_data(table), out, "far", settings, device="cpu")

    return once(tmp_path_factory, "far", train).folder


@pytest.mark.parametrize(
    ("name", "value", "flagged"),
    [
        ("hertz", 1e10 + 3000, True),
        ("metres", 2.2e7 + 10, True),
        ("mode", 99, True),
        ("site", "south", True),
        ("mode", 7, False),
        ("hertz", 1e10, False),
    ],
)
def test_a_thousand_deviations_and_another_constant_are_flagged(
    name: str, value: object, flagged: bool, far: Path, tmp_path: Path
) -> None:
    record: dict[str, Any] = {"hertz": 1e10, "metres": 2.2e7, "temp": 20.0, "mode": 7, "site": "north"}
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_text(tables.delimited(pa.Table.from_pylist([record | {name: value}] * 40)))
    done = surprisal("score", far, path, out)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {row["is_anomaly"] for row in rows} == {str(flagged).lower()}
    if flagged:
        assert "most rows are flagged" in done.stderr
    if name in ("mode", "site") and flagged:
        assert f"hardly ever saw them: {name} in 40 rows" in done.stderr


def test_a_column_of_0_and_1_is_a_category_so_that_a_12_is_scored_and_strange(tmp_path: Path) -> None:
    flags = (RANDOM.random(ROWS) < 0.3).astype(int)
    settings, every = config.build({}), np.arange(ROWS)
    for ending in ("csv", "parquet", "ndjson"):
        data = read(tables.save(tmp_path / f"in.{ending}", tables.with_column(new_rows(), "flag", flags)))
        record = schema.fit(data, every, kinds.infer(data, every, settings).fields, settings)
        strange = tables.save(tmp_path / f"new.{ending}", tables.with_column(new_rows(), "flag", [12, *flags[1:]]))
        later = read(strange, kinds={field.name: field.kind for field in record.fields})
        place = record.columns["flag"]
        assert schema.tensors(record, later, every)["categorical"][:, place].tolist() == [0, *(flags[1:] + 1)]


def test_a_record_with_nothing_in_it_is_answered_for_itself(tmp_path: Path, scores: Scores, expected: pa.Table) -> None:
    for ending in ("csv", "parquet", "ndjson"):
        rows = new_rows().to_pylist()
        rows[7] = dict.fromkeys(rows[7])
        table = tables.with_column(pa.Table.from_pylist(rows, new_rows().schema), "note", ["a"] * ROWS)
        found = scores(tables.save(tmp_path / f"in.{ending}", table))
        assert found["error"].to_pylist() == [None] * 7 + ["no field is present"] + [None] * (ROWS - 8)
        assert found["is_anomaly"][7].as_py() is None
        places = pa.array([row for row in range(ROWS) if row != 7])
        same(found.take(places), expected.take(places))


@pytest.mark.parametrize("name", ["elbo", "p_value", "is_anomaly", "latent_mean_0", "latent_mean", "error"])
def test_names_that_answers_have_are_refused_before_training(name: str, tmp_path: Path) -> None:
    data = as_data(new_rows().rename_columns({"amount": name}))
    with pytest.raises(ConfigInvalid, match=f"column '{name}' is called like a column that scored files have: rename"):
        pipeline.train(data, tmp_path, "names", config.build({}), device="cpu")
    assert not list(tmp_path.iterdir())


def test_two_columns_of_one_name_are_refused(tmp_path: Path, scores: Scores) -> None:
    path = tmp_path / "in.csv"
    path.write_text(tables.delimited(new_rows()).replace("items", "temp", 1))
    with pytest.raises(DataInvalid, match=r"in\.csv: two columns are named 'temp'; rename one of them"):
        read(path)
    with pytest.raises(Exception, match=r"in\.csv: two columns are named 'temp'; rename one of them"):
        scores(path)


def test_names_of_any_letters_are_names(tmp_path: Path) -> None:
    odd = dict(zip(BASE_KINDS, ("a b", "x.y", "Größe [mm]", "_id", "日本/~1\"'<b>", "numeric"), strict=True))
    for ending in ("csv", "parquet", "ndjson"):
        data = read(tables.save(tmp_path / f"in.{ending}", new_rows().rename_columns(odd)))
        assert list(kinds_of(data)) == list(odd.values())


async def test_values_have_the_same_scores_over_http(bundle: Path, scores: Scores, expected: pa.Table) -> None:
    async with in_process(Settings(models=bundle.parents[1], default_model="base")) as (client, _):
        answer = await client.post("/score", json={"records": new_rows().to_pylist()})
        text = await client.post("/score", content=tables.delimited(new_rows()), headers={"Content-Type": "text/csv"})
    found = [result["anomaly_score"] for result in answer.json()["results"]]
    np.testing.assert_allclose(found, np.asarray(expected["anomaly_score"]), atol=1e-4)
    assert text.status_code == 200
    lines = list(csv.DictReader(text.text.splitlines()))
    np.testing.assert_allclose([float(line["anomaly_score"]) for line in lines], found, atol=1e-4)
