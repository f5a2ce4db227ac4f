"""The public face: names, the same numbers as the command, threads, pickles, and what is refused."""

import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import surprisal
from service.engine.graph import Graph
from service.files.piece import ROWS
from training import pipeline
from training.data import transactions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def records() -> pa.Table:
    table = transactions.simulate(2 * ROWS + 77, seed=5)
    return table.drop_columns([transactions.LABEL])


def same(one: pa.Table, other: pa.Table) -> bool:
    """To the last bit; NaN is NaN, which Arrow denies."""
    lists = (pickle.dumps([column.combine_chunks().to_pylist() for column in each.columns]) for each in (one, other))
    return one.schema.equals(other.schema) and len(set(lists)) == 1


def test_the_public_names_are_those_that_are_documented() -> None:
    assert surprisal.__all__ == ["Model", "__version__", "load", "score_dataset", "train"]
    assert all(hasattr(surprisal, name) for name in surprisal.__all__)
    assert surprisal.__version__ == "0.2.0"


def test_every_way_gives_the_same_numbers_to_the_last_bit(
    trained: pipeline.Trained, records: pa.Table, tmp_path: Path
) -> None:
    """A CSV file is read in pieces of another size, and threads are none of a record's business."""
    found = surprisal.load(trained.folder).score(records)
    for suffix, threads in ((".parquet", "1"), (".csv", "1"), (".parquet", "2")):
        source, target = tmp_path / f"in{suffix}", tmp_path / "out.parquet"
        (pyarrow.csv.write_csv if suffix == ".csv" else pyarrow.parquet.write_table)(records, source)
        command = [sys.executable, "-m", "surprisal", "score", str(trained.folder), str(source), str(target)]
        environment = os.environ | {"SURPRISAL_THREADS": threads}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        written = pyarrow.parquet.read_table(target)
        for name in found.column_names:
            assert same(written.select([name]), found.select([name])), (suffix, threads, name)


def test_a_model_is_used_by_many_threads_and_is_pickled_by_its_path(
    trained: pipeline.Trained, records: pa.Table
) -> None:
    model = surprisal.load(trained.folder.parent)
    some = records.slice(0, 300)
    expected = model.score(some)
    with ThreadPoolExecutor(4) as threads:
        assert all(same(found, expected) for found in threads.map(model.score, [some] * 8))
    again = pickle.loads(pickle.dumps(model))
    assert (again.name, again.version) == (trained.name, trained.version)
    assert same(again.score(some), expected)
    assert repr(again) == repr(model)


def test_what_is_asked_changes_what_is_answered(
    trained: pipeline.Trained, records: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = Graph.__init__

    def noted(graph: Graph, *given: Any, **options: Any) -> None:
        opened.append("a graph")
        real(graph, *given, **options)

    monkeypatch.setattr(Graph, "__init__", noted)
    model = surprisal.load(trained.folder)
    some = records.slice(0, 50)
    usual = model.score(some)
    other = model.score(some, score="elbo", samples=64, explain=True)
    assert usual.num_rows == other.num_rows == 50
    assert "explanation_1_field" in other.column_names
    assert "explanation_1_field" not in usual.column_names
    assert not usual["anomaly_score"].equals(other["anomaly_score"])
    np.testing.assert_allclose(-np.asarray(other["elbo"]), np.asarray(other["anomaly_score"]), rtol=1e-6)
    batch = some.to_batches()[0]
    assert same(model.score(batch), usual)
    assert same(model.score(some, samples=64, score="elbo", explain=True), other)
    assert len(opened) == 2, "scorer and explainer once each, whatever is asked"


def test_what_cannot_be_scored_is_refused_in_words(trained: pipeline.Trained, records: pa.Table) -> None:
    model = surprisal.load(trained.folder)
    with pytest.raises(TypeError, match="data frame is expected, not list"):
        model.score([1, 2])
    with pytest.raises(ValueError, match="none of the model's fields is a column"):
        model.score(pa.table({"other": [1.0]}))
    with pytest.raises(ValueError, match="samples"):
        model.score(records.slice(0, 1), samples=3)
    with pytest.raises(ValueError, match="at least one record"):
        model.score(records.slice(0, 0))
    with pytest.warns(UserWarning, match="no column hour; missing in every row"):
        model.score(records.slice(0, 1).drop_columns(["hour"]))
    doubled = records.slice(0, 1).append_column("amount", pa.array([1.0]))
    with pytest.raises(ValueError, match="amount: more than one column"):
        model.score(doubled)
    wrong = records.slice(0, 2).set_column(records.column_names.index("amount"), "amount", pa.array(["a", "b"]))
    with pytest.raises(ValueError, match=r"^column 'amount', rows 1, 2: a number is expected$"):
        model.score(wrong)
    empty = pa.table({"amount": [1.0, None, None]})
    absent = pytest.warns(UserWarning, match="missing in every row")
    with absent, pytest.raises(ValueError, match=r"^rows 2, 3: no field is present$"):
        model.score(empty)


def test_text_that_a_file_would_be_read_from_is_refused_with_the_way_out(
    trained: pipeline.Trained, records: pa.Table
) -> None:
    model = surprisal.load(trained.folder)
    place, rows = records.column_names.index("amount"), records.num_rows
    commas = records.set_column(place, "amount", pa.array([f"{row},25" for row in range(rows)]))
    with pytest.raises(ValueError, match="column 'amount', rows 1, 2, 3 and at least 97 more: a number is") as refused:
        model.score(commas)
    said = str(refused.value)
    assert "'amount' holds text that looks like numbers (read with decimal comma): score the file with" in said
    assert len(said) < 400


def ran(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python in a folder of the user's, which comes first on its path."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("hides", ["training", "service"])
def test_a_folder_of_the_users_that_hides_a_package_is_named(tmp_path: Path, hides: str) -> None:
    (tmp_path / hides).mkdir()
    (tmp_path / hides / "__init__.py").write_text("")
    result = ran("import surprisal", tmp_path)
    assert result.returncode == 1
    assert f"its own package '{hides}'" in result.stderr
    assert str(tmp_path) in result.stderr


def test_another_project_of_that_name_is_named(tmp_path: Path) -> None:
    other = tmp_path / "surprisal-0.1.8.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: surprisal\nVersion: 0.1.8\nSummary: of texts\n")
    result = ran("import surprisal", tmp_path)
    assert result.returncode == 1
    assert "pip uninstall surprisal" in result.stderr


def test_training_in_python_is_what_the_command_does(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 2100))
    table = pa.table(dict(zip("xyz", values, strict=True)))
    pyarrow.parquet.write_table(table, tmp_path / "numbers.parquet")
    config = {"fit": {"epochs": 2}, "network": {"hidden": [32]}}
    model = surprisal.train(tmp_path / "numbers.parquet", tmp_path / "models", config=config, device="cpu")
    assert (model.name, model.version) == ("numbers", 1)
    assert model.score(table).num_rows == 2100
