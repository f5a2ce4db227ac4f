"""A model of the table of `tables.py`, and what it says of a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from reading.options import Options
from service import files
from service.files.scoring import Scoring
from tests.cases import tables
from tests.conftest import FAST, as_data, once
from training import config, pipeline
from training.data import kinds
from training.data.read import Data, read

Scores = Callable[..., pa.Table]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the base table."""

    def train(out: Path) -> pipeline.Trained:
        data = as_data(tables.base(tables.NORMAL_ROWS, seed=1))
        return pipeline.train(data, out, "base", config.build(FAST | {"data": {}}), device="cpu")

    return once(tmp_path_factory, "base", train).folder


@pytest.fixture(scope="session")
def scoring(bundle: Path) -> Scoring:
    return Scoring(bundle)


@pytest.fixture
def scores(scoring: Scoring, tmp_path: Path) -> Scores:
    """Scores a file by all that the command does, and gives what it wrote."""

    def score(path: Path, options: Options | None = None, skip: bool = False, out: str = "out.parquet") -> pa.Table:
        target = tmp_path / out
        question = scoring.question({})
        with (
            files.open_records(path, scoring.schema, options, skip, not out.endswith("csv")) as file,
            files.writer(target) as writer,
        ):
            scoring.file(file, question, files.Selection(), writer, lambda done: None)
        return pyarrow.parquet.read_table(target) if out.endswith("parquet") else read(target).table

    return score


@pytest.fixture
def expected(scores: Scores, tmp_path: Path) -> pa.Table:
    """What is said of the new rows as a program writes them."""
    return scores(tables.save(tmp_path / "plain.parquet", new_rows()))


def new_rows() -> pa.Table:
    """Rows that the model was not trained on."""
    return tables.base(tables.NEW_ROWS, seed=2)


def same(found: pa.Table, expected: pa.Table, *, reordered: bool = False) -> None:
    """Every row has the same scores: to the last bit where rows are cut alike, so not where they are reordered."""
    for name in ("anomaly_score", "elbo") if reordered else ("anomaly_score", "p_value", "elbo"):
        one, other = np.asarray(found[name]), np.asarray(expected[name])
        np.testing.assert_allclose(one, other, atol=1e-4 if reordered else 0, rtol=0, err_msg=name)


def kinds_of(data: Data) -> dict[str, str]:
    """What each field is taken for."""
    label = {"data": {"label": "label"}} if "label" in data.table.column_names else {}
    inferred = kinds.infer(data, np.arange(data.table.num_rows), config.build(label))
    return {field.name: field.kind for field in inferred.fields}


BASE_KINDS = {
    "amount": "numeric",
    "temp": "numeric",
    "pressure": "numeric",
    "items": "numeric",
    "channel": "categorical",
    "member": "boolean",
}
