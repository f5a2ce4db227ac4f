"""Checkpoints: whose run may take them up."""

from pathlib import Path

import pytest
import torch

from tests.training.data.test_streamed import FEW, numbers, written
from training.data.streamed import Streamed, stream
from training.errors import ConfigInvalid
from training.fitting.checkpoint import Checkpoint, State

STATE = State(
    model={},
    best_state={},
    optimiser={},
    schedule={},
    generator=torch.zeros(1, dtype=torch.uint8),
    epoch=1,
    best_elbo=0.0,
    best_bound=0.0,
    best_epoch=1,
    history=[],
)
DEVICE = torch.device("cpu")


def checkpoint(folder: Path, streamed: Streamed, *, in_memory: bool = False) -> Checkpoint:
    return Checkpoint.of(folder, streamed.sample, FEW, "", "" if in_memory else streamed.split)


def test_a_file_that_is_renamed_has_other_rows_held_out_and_no_checkpoint(tmp_path: Path) -> None:
    first = written(tmp_path / "parts", numbers(), "parquet", files=1) / "part-0.parquet"
    streamed = stream(first, FEW)
    checkpoint(tmp_path, streamed).write(STATE)
    assert checkpoint(tmp_path, stream(first, FEW)).read(DEVICE)["epoch"] == 1
    renamed = stream(first.rename(first.with_name("other.parquet")), FEW)
    assert renamed.sample.sha256 == streamed.sample.sha256
    with pytest.raises(ConfigInvalid, match="names of streamed files decide which are held out: give them as before"):
        checkpoint(tmp_path, renamed).read(DEVICE)


def test_a_run_in_memory_is_told_of_the_checkpoint_of_one_that_streamed_and_the_other_way_round(tmp_path: Path) -> None:
    streamed = stream(written(tmp_path / "parts", numbers(), "parquet"), FEW)
    for left_in_memory in (True, False):
        folder = tmp_path / str(left_in_memory)
        with pytest.raises(ConfigInvalid, match="to resume from; train without --resume"):
            checkpoint(folder, streamed, in_memory=left_in_memory).read(DEVICE)
        checkpoint(folder, streamed, in_memory=left_in_memory).write(STATE)
        with pytest.raises(ConfigInvalid, match="--memory and --processes decide whether rows are streamed"):
            checkpoint(folder, streamed, in_memory=not left_in_memory).read(DEVICE)
