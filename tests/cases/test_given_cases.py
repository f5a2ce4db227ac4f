"""Files as pandas and polars write them, from a collection beside the project; those of `tables.py` are its kinds."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bundle.record.fields import CategoricalField, NumericField
from bundle.record.schema import TableSchema
from reading.errors import FileInvalid
from tests.cases.conftest import BASE_KINDS, Scores, kinds_of, same
from tests.surprisal.cli.command import surprisal
from training import config, pipeline
from training.data import kinds, schema
from training.data.read import read
from training.errors import ConfigInvalid, DataInvalid

COLLECTION = Path(__file__).parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not COLLECTION.is_dir(), reason=f"the collection is not at {COLLECTION}")

NUMERIC, CATEGORICAL, BOOLEAN = "numeric", "categorical", "boolean"
FIELDS: dict[str, dict[str, str]] = {
    # file: fields beside those of the base table, or without some of them
    "C01_train.parquet": {},
    "C02_train.parquet": {},
    "C02_cat.parquet": {},
    "C02_view.parquet": {},
    "C02_same.csv": {},
    "C03_big.csv": {},
    "C04_cp1252_values.csv": {"amount": "", "size": NUMERIC},
    "C04_cp1252_header.csv": {"amount": "", "Größe": NUMERIC},
    "C04_utf16.csv": {"amount": "", "Größe": NUMERIC},
    "C04_utf8.csv": {"amount": "", "Größe": NUMERIC},
    "C05_bom.csv": {},
    "C05_bom.ndjson": {},
    "C06_semicolon.csv": {},
    "C06_semicolon_point.csv": {},
    "C06_tab.csv": {},
    "C07_thousands.csv": {"rate": NUMERIC, "price": NUMERIC},
    "C07_comma_quoted.csv": {},
    "C08_question.csv": {},
    "C08_lower.csv": {},
    "C08_pandas.csv": {},
    "C08_question_items.csv": {},
    "C10_dmy_train.csv": {},
    "C10_dots_train.csv": {},
    "C10_mdy_train.csv": {},
    "C10_iso_train.csv": {},
    "C11_id_train.csv": {},
    "C11_epoch_train.csv": {},
    "C11_customer_train.csv": {},
    "C11_unnamed_train.csv": {},
    "C11_unnamed2_train.csv": {},
    "C13_half.parquet": {},
    "C13_half_polars.parquet": {},
    "C13_dict_large.parquet": {"dd": CATEGORICAL},
    "C15_ids.csv": {},
    "C15_ids.ndjson": {},
    "C16_clean.ndjson": {},
    "C16_mixed_other.ndjson": {},
    "C16_mixed_field.ndjson": {},
    "C16_late.ndjson": {},
    "C17_spark.parquet": {},
    "C20_codes_float.csv": {"code": NUMERIC},
    "C20_codes.parquet": {"code": NUMERIC},
}
ALIKE = [
    ("C02_same.csv", "C02_train.parquet"),
    ("C02_same.csv", "C02_cat.parquet"),
    ("C02_same.csv", "C02_view.parquet"),
    ("C05_plain.csv", "C05_bom.csv"),
    ("C05_plain.csv", "C05_bom.ndjson"),
    ("C05_plain.csv", "C06_semicolon.csv"),
    ("C05_plain.csv", "C06_semicolon_point.csv"),
    ("C05_plain.csv", "C06_tab.csv"),
    ("C16_clean.ndjson", "C16_mixed_other.ndjson"),
    ("C16_clean.ndjson", "C16_mixed_field.ndjson"),
    ("C16_clean.ndjson", "C16_late.ndjson"),
    ("C15_ids.csv", "C15_ids.ndjson"),
]
"""Files that hold the same values of the base table's fields."""


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the files."""
    folder = tmp_path_factory.mktemp("given")
    script = [sys.executable, str(COLLECTION / "make.py"), str(folder)]
    made = subprocess.run(script, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.mark.parametrize("name", FIELDS)
def test_the_fields_are_those_of_the_values(name: str, given: Path) -> None:
    expected = {field: kind for field, kind in (BASE_KINDS | FIELDS[name]).items() if kind}
    assert kinds_of(read(given / name)) == expected


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_the_same_values_have_the_same_scores(one: str, other: str, given: Path, scores: Scores) -> None:
    same(scores(given / other), scores(given / one))


ANOTHER_DAY = (
    "C01_new.parquet",
    "C03_small.csv",
    "C10_dmy_new.csv",
    "C10_dots_new.csv",
    "C10_mdy_new.csv",
    "C10_iso_new.csv",
    "C11_id_new.csv",
    "C11_epoch_new.csv",
    "C11_unnamed2_new.csv",
    "C13_wide.parquet",
    "C17_spark.parquet",
)


@pytest.mark.parametrize("name", ANOTHER_DAY)
def test_the_file_of_another_day_is_usual(name: str, given: Path, scores: Scores) -> None:
    flagged = np.asarray(scores(given / name)["is_anomaly"])
    assert len(flagged) >= 400
    assert flagged.mean() < 0.04


def test_columns_of_every_type_come_out_as_they_went_in(given: Path, scores: Scores) -> None:
    found, source = scores(given / "C13_wide.parquet"), read(given / "C13_wide.parquet").table
    carried = pa.parquet.read_table(given / "C13_wide.parquet")
    assert source.num_rows == found.num_rows
    for name in carried.column_names:
        assert found[name].to_pylist() == carried[name].to_pylist() or name == "nan", name
    assert np.isnan(np.asarray(found["nan"], float)).all()


def test_what_varies_little_beside_its_mean_is_no_constant(given: Path) -> None:
    data = read(given / "C12_train.csv")
    every = np.arange(data.table.num_rows)
    settings = config.build({})
    fields = {
        field.name: field
        for field in schema.fit(data, every, kinds.infer(data, every, settings).fields, settings).fields
    }
    for name, deviation in (("hertz", 3.0), ("metres", 0.01)):
        field = fields[name]
        assert isinstance(field, NumericField)
        assert field.scale == pytest.approx(deviation, rel=0.1)
    assert isinstance(fields["mode"], CategoricalField)


def test_codes_with_gaps_have_one_spelling(given: Path) -> None:
    settings = config.build(config.read_toml(given / "C20.toml"))
    found = []
    for name in ("C20_codes_float.csv", "C20_codes.parquet"):
        data = read(given / name)
        every = np.arange(data.table.num_rows)
        found.append(schema.fit(data, every, kinds.chosen(data, every, settings).fields, settings))
    assert found[0] == found[1]
    assert isinstance(found[0], TableSchema)
    assert {field.name: field.vocabulary for field in found[0].categorical}["code"] == ("1", "2", "5", "9")


def test_names_that_answers_have_are_refused_before_training(given: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="column 'elbo' is called like a column that scored files have: rename"):
        pipeline.train(read(given / "C22_outputs.csv"), tmp_path, "names", config.build({}), device="cpu")


def test_a_name_that_stands_twice_is_refused(given: Path) -> None:
    with pytest.raises((DataInvalid, FileInvalid), match="temp"):
        read(given / "C22_doubled.csv")


def test_odd_names_and_spaces_around_them_work(given: Path) -> None:
    assert set(kinds_of(read(given / "C22_names.csv")).values()) == {NUMERIC, CATEGORICAL}
    assert kinds_of(read(given / "C22_spaces.csv")) == BASE_KINDS


def test_images_of_many_kinds_are_read(given: Path) -> None:
    data = read(given / "C18_mixed")
    assert data.table.num_rows == 240


def test_an_ordinary_table_is_trained(tmp_path: Path) -> None:
    (tmp_path / "fast.toml").write_text("[fit]\nepochs = 3\n")
    done = surprisal(
        "train",
        COLLECTION / "refused_as_a_bug.parquet",
        "--config",
        tmp_path / "fast.toml",
        "--out",
        tmp_path / "models",
    )
    assert done.returncode == 0, done.stderr
