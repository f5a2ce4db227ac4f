"""Data frames: one score in each way, the index kept, polars' categories, another false-alarm rate."""

from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import surprisal
from examples import frames
from tests.conftest import NAME
from training.data import transactions


@pytest.fixture(scope="module")
def model(models: Path) -> surprisal.Model:
    return surprisal.load(models / NAME)


def test_it_runs_as_it_stands(models: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    frames.main(str(models / NAME), server)
    printed = capsys.readouterr().out
    assert "because of" in printed
    assert float(printed.partition("largest difference to the service: ")[2].split()[0]) < 1e-5
    assert "cloned_card" in printed


def test_a_frame_keeps_its_index_and_columns(model: surprisal.Model, server: str) -> None:
    payments = transactions.simulate(40, seed=6).to_pandas()
    payments.index = pd.Index([f"payment {number}" for number in range(40)])
    for scored in (frames.scored(payments, model), frames.scored_by_service(payments, server, NAME)):
        pd.testing.assert_frame_equal(scored[payments.columns], payments)
        assert scored["p_value"].between(0, 1).all()


def test_categories_of_polars_are_read_as_their_texts(model: surprisal.Model) -> None:
    payments = pl.DataFrame(transactions.simulate(60, seed=7))
    usual = model.score(payments)
    for kind in (pl.Categorical(), pl.Enum(sorted(set(payments["country"])))):
        assert model.score(payments.with_columns(pl.col("country").cast(kind))).equals(usual)


def test_a_false_alarm_rate_is_asked_for_in_python_too(model: surprisal.Model) -> None:
    payments = transactions.simulate(400, seed=8)
    usual, many = model.score(payments), model.score(payments, false_alarm_rate=0.2)
    assert many["is_anomaly"].to_pylist() == [value <= 0.2 for value in usual["p_value"].to_pylist()]
    assert sum(many["is_anomaly"].to_pylist()) > sum(usual["is_anomaly"].to_pylist())
    with pytest.raises(ValueError, match="false_alarm_rate"):
        model.score(payments, false_alarm_rate=2.0)
