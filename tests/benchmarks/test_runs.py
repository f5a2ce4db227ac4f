"""Benchmarks that cannot rot: each one starts, and what they share runs at sizes of no meaning."""

import subprocess
import sys
from pathlib import Path

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
