"""A small case of each theme, against a real server."""

from functools import partial
from pathlib import Path

import orjson
import pytest

from benchmarks.attack import arrow, bundles, images, metrics_folder, processes, refused, report, starving
from benchmarks.attack.__main__ import CASES
from benchmarks.attack.bodies import SHAPES
from benchmarks.attack.case import JSON, RECORD, Case
from benchmarks.attack.exchange import Request
from tests.attack.conftest import BUDGET, DOCUMENTED, OVER_REST

MOST = 2**20


def row_of(case: Case, models: Path) -> report.Row:
    row = report.run(case, models, BUDGET)
    assert row is not None
    return row


def holds(row: report.Row) -> None:
    """What a case leaves behind, whatever it does."""
    assert row.alive
    assert row.exit_code == 0
    assert row.checks.failed == 0
    assert row.checks.answered > 0
    assert row.peak <= OVER_REST


def test_names_of_cases_are_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", [SHAPES[0].case(MOST), arrow.CASES[0]], ids=["body", "arrow"])
def test_bodies(case: Case, models: Path) -> None:
    row = row_of(case, models)
    holds(row)
    assert set(row.seen) <= DOCUMENTED


def test_images(image_models: Path) -> None:
    row = row_of(next(case for case in images.CASES if "2^31" in case.name), image_models)
    holds(row)
    assert set(row.seen) <= DOCUMENTED


def test_a_model_that_is_not_there_leaves_the_case_out(models: Path) -> None:
    assert report.run(images.CASES[0], models) is None


def test_refused(models: Path) -> None:
    row = row_of(Case("refused", partial(refused.prepare, "no object", 2, 3)), models)
    holds(row)
    assert sum(count for status, count in row.seen.items() if status in DOCUMENTED) == 5


@pytest.mark.parametrize("pair", ["another key", "another address"])
def test_victims(models: Path, pair: str) -> None:
    single = Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": [RECORD]}))
    act = partial(starving.beside, single, single, pair, 0.3, 0.5)
    environment = next(case.environment for case in starving.CASES if case.name.endswith(pair))
    row = row_of(Case("victims", lambda: act, environment=environment), models)
    holds(row)
    assert any(str(each).startswith("victim alone 200 x") for each in row.seen)


def test_a_spoilt_version(models: Path) -> None:
    row = row_of(Case("flipped", lambda: partial(bundles.arrive, bundles.CHANGES["a bit flipped"])), models)
    holds(row)
    assert {str(each).partition(" after ")[0] for each in row.seen} == {
        "refused",
        "the other model loaded",
        "200",
        "unload 200",
    }


def test_a_worker_is_killed(models: Path) -> None:
    row = row_of(next(case for case in processes.CASES if case.name == "process: killed, 2 workers"), models)
    assert row.alive
    assert row.exit_code == 0
    assert any(str(each).startswith("replaced after") for each in row.seen)


def test_the_metrics_folder(models: Path, tmp_path: Path) -> None:
    case = Case("metrics folder", lambda: partial(metrics_folder.fills, tmp_path, 3), 2)
    row = row_of(case, models)
    assert row.alive
    assert "full {200: 3}" in row.seen
