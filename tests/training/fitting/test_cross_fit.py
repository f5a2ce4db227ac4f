"""Calibration of few records by models of folds."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.conftest import as_data
from training import config
from training.config import TrainingConfig
from training.data import kinds
from training.data.read import Data
from training.data.split import Split, split
from training.fitting import checkpoint, cross_fit
from training.fitting.progress import Progress

TINY = {"network": {"hidden": (8,), "latent_size": 2}, "fit": {"epochs": 3}}
CPU = torch.device("cpu")


@pytest.fixture
def few() -> tuple[Data, Split, TrainingConfig]:
    random = np.random.default_rng(0)
    data = as_data(pa.table({"x": random.normal(size=100), "y": random.choice(["a", "b"], 100)}))
    settings = config.build(TINY)
    return data, split(data, settings.data, 0.01, 0), settings


def test_every_row_is_scored_once_by_every_score(few: tuple[Data, Split, TrainingConfig]) -> None:
    data, parts, settings = few
    seen: list[Progress] = []
    fields = kinds.infer(data, parts.normal, settings).fields
    scores, _ = cross_fit.scores(data, parts, fields, settings, CPU, report=seen.append)
    assert {values.shape for values in scores.values()} == {(100,)}
    assert all(np.isfinite(values).all() for values in scores.values())
    assert list(dict.fromkeys(epoch.part for epoch in seen)) == [f"fold {i} of 10" for i in range(1, 11)]


def test_a_row_far_out_is_strange_to_a_model_that_has_not_seen_it(few: tuple[Data, Split, TrainingConfig]) -> None:
    _, parts, settings = few
    values = np.random.default_rng(0).normal(size=100)
    values[parts.folds[3][0]] = 40.0
    data = as_data(pa.table({"x": values, "z": np.random.default_rng(1).normal(size=100)}))
    fields = kinds.infer(data, parts.normal, settings).fields
    scores, _ = cross_fit.scores(data, parts, fields, settings, CPU)
    assert scores["elbo", 16].argmax() == 30  # the first row of the fourth fold


def test_an_interrupted_run_is_taken_up_in_its_fold(
    few: tuple[Data, Split, TrainingConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", -1.0)
    data, parts, settings = few
    fields = kinds.infer(data, parts.normal, settings).fields
    whole, _ = cross_fit.scores(data, parts, fields, settings, CPU)

    def interrupt(progress: Progress) -> None:
        if (progress.part, progress.epoch) == ("fold 3 of 10", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_fit.scores(data, parts, fields, settings, CPU, folder=tmp_path, report=interrupt)
    assert len(list(tmp_path.iterdir())) == 3
    seen: list[Progress] = []
    resumed, forget = cross_fit.scores(
        data, parts, fields, settings, CPU, folder=tmp_path, resume=True, report=seen.append
    )
    assert [(epoch.part, epoch.epoch) for epoch in seen][:2] == [("fold 3 of 10", 3), ("fold 4 of 10", 1)]
    assert all((resumed[key] == whole[key]).all() for key in whole)
    forget()
    assert not any(tmp_path.iterdir())
