"""A data set of payments in a few files, and the calls that score it."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from service.files.dataset import run, shard
from service.files.dataset.driver import Progress, Summary
from service.files.dataset.run import Request
from tests.conftest import NAME, simulate_payments
from training.data import transactions

FILES, ROWS, GROUP = 4, 500, 100
Score = Callable[..., Summary]


@pytest.fixture(scope="session")
def payments() -> pa.Table:
    """Unlabelled payments, `FILES * ROWS` of them."""
    return simulate_payments(seed=6).slice(0, FILES * ROWS).drop_columns([transactions.LABEL])


@pytest.fixture
def source(payments: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """IN: a file for each of some days, of five row groups, cut into shards of two."""
    monkeypatch.setattr(shard, "ROWS", 2 * GROUP)
    for number in range(FILES):
        path = tmp_path / "in" / f"day={number % 2}" / f"part-{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(payments.slice(number * ROWS, ROWS), path, row_group_size=GROUP)
    return tmp_path / "in"


@pytest.fixture
def score(models: Path, source: Path, tmp_path: Path) -> Score:
    """Scores IN into OUT, on one process."""

    def call(
        out: str = "out",
        report: Callable[[Progress], None] = lambda done: None,
        say: Any = lambda line: None,
        **asked: Any,
    ) -> Summary:
        named = out if "://" in out else str(tmp_path / out)
        request = Request(bundle=models / NAME, source=str(source), out=named, workers=1)
        return run.run(replace(request, **asked), say, report)

    return call


def digests(out: Path) -> dict[str, str]:
    """The digest of every result, by its path below OUT."""
    paths = (path for path in out.rglob("*.parquet") if "_surprisal" not in path.parts)
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}
