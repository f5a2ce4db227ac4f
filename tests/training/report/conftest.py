"""Evidence that reports are made from, as whole training runs gather it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import as_data
from tests.training.conftest import mixed_table
from training import config, pipeline
from training.report import page
from training.report.evidence import Evidence

Gather = Callable[[pa.Table, dict[str, Any]], Evidence]
TINY = {"network": {"hidden": (8,), "latent_size": 2}, "fit": {"epochs": 2}}
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="session")
def gather(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gather]:
    """Trains on a table, and gives what its report was made from."""
    seen: list[Evidence] = []
    write = page.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "write", lambda evidence: (seen.append(evidence), write(evidence))[1])

        def run(table: pa.Table, settings: dict[str, Any]) -> Evidence:
            out: Path = tmp_path_factory.mktemp("report") / "models"
            pipeline.train(as_data(table), out, "odd", config.build(settings), device="cpu")
            return seen.pop()

        yield run


@pytest.fixture(scope="session")
def evidence(gather: Gather) -> Evidence:
    """Of a table with fields of every kind and labelled anomalies."""
    fields = [
        {"name": "height", "kind": "numeric"},
        {"name": "visits", "kind": "numeric"},
        {"name": "member", "kind": "boolean"},
        {"name": "colour", "kind": "categorical"},
    ]
    settings = {"network": {"hidden": (8,), "latent_size": 3}, "fit": {"epochs": 3}, "fields": fields}
    return gather(mixed_table(), settings | {"data": {"label": "label", "normal": "ok"}})


@pytest.fixture(scope="session")
def hostile(gather: Gather) -> Evidence:
    """Of a table whose names, categories and labels are markup, mathematics or not to be printed."""
    random = np.random.default_rng(0)
    rows = 300
    table = pa.table(
        {
            HOSTILE: random.choice([HOSTILE, "$x_1$ & 'y'", "日本語\x0b\x00", "x" * 500], rows),
            "$\\frac{1}{2}": random.normal(size=rows) * 1e150,
            "wide" * 100: random.standard_cauchy(rows) * 1e9,
            '"><img src=x onerror=alert(1)>': np.where(random.random(rows) < 0.5, np.nan, 1.0),
            "label": random.choice(["ok", HOSTILE], rows, p=[0.9, 0.1]),
        }
    )
    return gather(table, TINY | {"data": {"label": "label", "normal": "ok"}})
