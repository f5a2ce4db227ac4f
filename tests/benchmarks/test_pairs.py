"""How two source trees are compared; what they do is measured, not tested."""

import shutil
from pathlib import Path

import pytest

from benchmarks import pairs
from benchmarks.serving.servers import ROOT, Server
from tests.conftest import free_port


def test_the_trees_take_turns_and_their_median_is_of_ratios() -> None:
    old, new = Path("old"), Path("new")
    asked: list[Path] = []

    def measure(tree: Path) -> float:
        asked.append(tree)
        return 100.0 * len(asked) if tree == old else 50.0

    measured = list(pairs.rates(measure, old, new, 3))
    assert asked == [old, new, new, old, old, new]
    assert measured == [(100.0, 50.0), (400.0, 50.0), (500.0, 50.0)]
    assert pairs.ratio(measured) == 0.125


@pytest.fixture
def other_tree(tmp_path: Path) -> Path:
    """A copy of this one."""
    for package in ("bundle", "reading", "service", "surprisal", "training"):
        shutil.copytree(ROOT / package, tmp_path / "other" / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "other"


def test_a_tree_runs_its_own_code(other_tree: Path, models: Path, tmp_path: Path) -> None:
    launched = pairs.launch(other_tree, models)
    assert pairs.source(launched) == other_tree
    assert pairs.source(pairs.launch(ROOT, models)) == ROOT
    with Server(launched, free_port(), tmp_path) as server:
        assert server.ask(pairs.single(models))[0] == 200
        assert len(server.workers()) == pairs.WORKERS
        maps = Path("/proc", str(server.workers()[0]), "environ").read_bytes().split(b"\0")
        assert f"PYTHONPATH={other_tree}".encode() in maps
