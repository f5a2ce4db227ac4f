"""Benchmarks that cannot rot: each one starts, and what they share runs at sizes of no meaning."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving import limits, model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "peers"
SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if "argparse" in path.read_text())
PACKAGES = ("attack", "serving", "studies")


def test_every_module_can_be_imported() -> None:
    """But those of the peers, whose packages have environments of their own."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "benchmarks").rglob("*.py"))
        if PEERS not in path.parents and path.stem not in ("__main__", "__init__")
    ]
    assert len(modules) > 40
    code = f"import importlib\nfor name in {modules!r}: importlib.import_module(name)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


HELP = """
import runpy, sys
for name in sys.argv[1:]:
    sys.argv = [name, "--help"]
    try:
        run = runpy.run_path if name.endswith(".py") else runpy.run_module
        run(name, run_name="__main__")
    except SystemExit as end:
        assert not end.code, name
    else:
        raise AssertionError(f"{name} ran")
"""


def test_each_says_how_it_is_called() -> None:
    """One after the other in one process, because each takes seconds to load what the others have."""
    names = [*map(str, SCRIPTS), *(f"benchmarks.{package}" for package in PACKAGES)]
    command = [sys.executable, "-c", HELP, *names]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("usage:") == len(names) > 10


def test_the_limits_without_http(tmp_path: Path) -> None:
    model.train(tmp_path, rows=600, epochs=1)
    for make in (limits.graph_alone, limits.json_to_json):
        turn = make(tmp_path)
        turn()


def test_training_beside_a_bare_loop() -> None:
    options = ("--rows", "300", "--fields", "3", "--epochs", "1", "--repeats", "1")
    command = [sys.executable, str(ROOT / "benchmarks" / "training.py"), *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "ours / bare" in result.stdout


def test_the_default_score_beside_the_elbo_alone() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "combined.py"), "--turns", "2"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "POST /score, one worker" in result.stdout


def test_ordinary_tables_are_trained_and_what_is_refused_is_said(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "normal.npz", train=random.normal(size=(200, 2)))
    np.savez(tmp_path / "labelled.npz", X=random.normal(size=(300, 2)), y=np.arange(300) % 30 == 0)
    np.savez(tmp_path / "few.npz", train=random.normal(size=(5, 2)))
    command = [sys.executable, str(ROOT / "benchmarks" / "ordinary.py"), str(tmp_path), "--epochs", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said = dict(line.split(", seed 0, ") for line in result.stdout.splitlines() if ", seed 0, " in line)
    assert "refused: DataInvalid: " in said["few"]
    for name in ("normal", "labelled"):
        assert re.search(r"\d% of the bound +trained$", said[name])
    assert re.search(r"^2 trained, 1 refused; nearest \d+\.\d%", result.stdout, re.MULTILINE)
