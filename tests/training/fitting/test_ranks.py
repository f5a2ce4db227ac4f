"""Several processes train as one does: the gradient of a step, twenty steps, what they refuse, and their shares."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import free_port
from tests.training.fitting import one_of_ranks
from training.errors import ConfigInvalid
from training.fitting.ranks import ALONE, Ranks, device_of

ROOT = Path(__file__).parents[3]
GRADIENT, EXACT = 1e-5, 1e-9
"""How far several processes may be off one, as a share: the gradient of a step in float32, 21 steps in float64."""


def begin(rank: int, count: int, port: int, left: Path) -> subprocess.Popen[str]:
    """A process of so many, with the variables that torchrun gives it."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PYTHONPATH": ROOT, "OMP_NUM_THREADS": 1}
    variables = os.environ | {name: str(value) for name, value in (place | address).items()}
    command = [sys.executable, "-m", "tests.training.fitting.one_of_ranks", str(left)]
    return subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What one, two and three processes computed, by their number."""
    folder, found = tmp_path_factory.mktemp("ranks"), {}
    for count in (1, 2, 3):
        left, port = folder / f"{count}.pt", free_port()
        processes = [begin(rank, count, port, left) for rank in range(count)]
        ended = [(*process.communicate(timeout=120), process.returncode) for process in processes]
        assert [status for *_, status in ended] == [0] * count, ended
        found[count] = torch.load(left)
    return found


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_the_gradient_of_a_step_is_that_of_one_process(computed: dict[int, dict[str, Any]], count: int) -> None:
    """The last batch has two rows: of three processes one has none."""
    whole, shared = (computed[number]["gradients"] for number in (1, count))
    assert len(whole) == 2 * len(one_of_ranks.OBJECTIVES) + 1
    assert all(gradient.norm() > 0.01 for gradient in whole.values())
    assert {name: off(shared[name], whole[name]) for name in whole if off(shared[name], whole[name]) > GRADIENT} == {}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_weights_and_history_of_twenty_steps_are_those_of_one_process(
    computed: dict[int, dict[str, Any]], count: int
) -> None:
    whole, shared = (computed[number]["trained"] for number in (1, count))
    assert len(whole) == 2 * (len(one_of_ranks.OBJECTIVES) + 1)
    assert {name: off(shared[name], whole[name]) for name in whole if off(shared[name], whole[name]) > EXACT} == {}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_a_nan_that_one_process_has_is_named_by_all(computed: dict[int, dict[str, Any]], count: int) -> None:
    assert computed[1]["refusal"].startswith("epoch 1, batch 1: a NaN or an infinity in field x2;")
    assert computed[count]["refusal"] == computed[1]["refusal"]


@pytest.mark.parametrize("rows", [1, 2, 3, 16, 17])
def test_shares_are_all_rows_in_order_and_differ_by_one_at_most(rows: int) -> None:
    places = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    shares = [Ranks(rank, 3).share(places) for rank in range(3)]
    assert torch.cat(shares).equal(places)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_changes() -> None:
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert ALONE.share(values).equal(values)
    assert ALONE.sum(values) is values
    assert ALONE.gather(values, 5) is values
    assert ALONE.mean(values).equal(values.mean(dim=0))
    assert ALONE.agree([1, 2], torch.device("cpu"))
    assert (ALONE.leads, Ranks(1, 2).leads) == (True, False)


def test_each_process_has_the_gpu_of_its_place_and_there_is_one_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("auto") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto", Ranks(3, 4)) == torch.device("cuda", 1)
    assert device_of("cpu", Ranks(3, 4)) == torch.device("cpu")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ConfigInvalid, match="3 processes train here on 2 GPUs"):
        device_of("auto", Ranks(3, 6))
