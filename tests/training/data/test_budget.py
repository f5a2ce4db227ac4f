"""The memory of a training: what a person says, and which tables are streamed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from reading import memory, opening, parts
from reading.options import Options
from tests.training.data.test_streamed import every_kind, numbers, written
from training import config
from training.data import budget
from training.data.budget import Budget
from training.data.read import Data, read
from training.data.streamed import Streamed
from training.errors import ConfigInvalid, DataInvalid


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("8GiB", 2**33),
        ("500M", 500 * 2**20),
        ("1.5 gb", 3 * 2**29),
        ("1000000", 10**6),
        ("2tib", 2**41),
        ("64k", 2**16),
    ],
)
def test_sizes_are_said_as_people_say_them(said: str, size: int) -> None:
    assert Budget.of(said) == Budget(size, True)


@pytest.mark.parametrize("said", ["", "much", "-1GiB", "0", "0.5", "8 GiB of it"])
def test_what_is_no_size_is_refused(said: str) -> None:
    with pytest.raises(ConfigInvalid, match="a number of bytes is expected, as 8GiB"):
        Budget.of(said)


def test_half_of_the_container_or_of_the_machine_is_what_it_is_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("2147483648\n")
    assert memory.container(tmp_path) == 2**31
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.container(tmp_path) is None
    monkeypatch.setattr(memory, "container", lambda: 2**31)
    assert Budget.of(None) == Budget(2**30, False)
    monkeypatch.setattr(memory, "container", lambda: None)
    assert Budget.of(None) == Budget(memory.machine() // 2, False)


@pytest.mark.parametrize("form", ["parquet", "csv", "arrow", "ndjson"])
def test_a_table_has_about_the_size_that_is_estimated(tmp_path: Path, form: str) -> None:
    path = written(tmp_path / "parts", every_kind(40_000), form)
    size = read(path).table.nbytes if form != "csv" else raw_size(path)
    assert budget.estimated(parts.parts(path), Options()) == pytest.approx(size, rel=0.4)


def raw_size(path: Path) -> int:
    """Of text, which becomes numbers only later."""
    return sum(next(iter(opening.opened(each).blocks())).table.nbytes for each in sorted(path.iterdir()))


def test_what_fits_is_read_whole_and_the_rest_is_streamed_and_said(tmp_path: Path) -> None:
    path, said = written(tmp_path / "parts", numbers(), "csv"), list[str]()
    settings = config.build({})
    assert isinstance(budget.read_or_stream(path, settings, "1GiB", said.append), Data)
    assert isinstance(budget.read_or_stream(path, settings, None, said.append), Data)
    assert said == []
    assert isinstance(budget.read_or_stream(path, settings, "100k", said.append), Streamed)
    (line,) = said
    assert line.startswith(f"training on {path} takes about ")
    assert line.endswith("more than the 100.0 KiB that --memory allows: its rows are streamed from disk")


def test_a_file_that_is_packed_or_small_for_its_rows_is_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "same.parquet"
    pyarrow.parquet.write_table(pa.table({"x": np.zeros(200_000), "text": ["all the same"] * 200_000}), path)
    assert path.stat().st_size < 10_000
    assert budget.choose(path, Options(), Budget(10 * 2**20, True)).streams
    packed = tmp_path / "rows.csv.gz"
    with pa.CompressedOutputStream(str(packed), "gzip") as file:
        file.write(b"x,y\n" + b"1.5,2.5\n" * 100_000)
    assert packed.stat().st_size < 10_000
    assert budget.choose(packed, Options(), Budget(2**20, True)).streams


def test_what_cannot_be_streamed_is_read_whole_and_that_is_said(tmp_path: Path) -> None:
    path, said = tmp_path / "table.npz", list[str]()
    np.savez(path, X=np.random.default_rng(0).normal(size=(500, 3)))
    assert isinstance(budget.read_or_stream(path, config.build({}), "1k", said.append), Data)
    assert said == [f"{path}: an npz file is one array and read whole, whatever --memory says"]
    with pytest.raises(ConfigInvalid, match="there is no such file"):
        budget.read_or_stream(tmp_path / "none.csv", config.build({}), "1k")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataInvalid, match="damaged"):
        budget.read_or_stream(tmp_path / "bad.parquet", config.build({}), "1k")
