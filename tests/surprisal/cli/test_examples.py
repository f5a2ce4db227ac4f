"""The examples that `--help` shows: every one of them works."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
import typer

from surprisal.cli import demo
from surprisal.cli.examples import EXAMPLES
from surprisal.cli.main import app
from tests.conftest import IMAGES, few_payments, simulate_images
from tests.surprisal.cli.command import surprisal
from training.data import transactions
from training.fitting import fit

FOR_EVER = ("surprisal serve", "SURPRISAL_LOG_FORMAT=json surprisal serve", "surprisal demo")
"""What begins so serves until it is stopped, but for `--no-serve`."""


@pytest.fixture
def folder(image_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all the files that the examples name, in which trainings are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fit, "_STEPS", 1)
    monkeypatch.setattr(demo, "ROWS", 700)
    pyarrow.csv.write_csv(few_payments(), tmp_path / "payments.csv")
    pyarrow.csv.write_csv(transactions.simulate(300, seed=4), tmp_path / "new.csv")
    (tmp_path / "new.ndjson").write_text('{"amount": 12.5, "country": "SE"}\n')
    shutil.copytree(image_models / IMAGES, tmp_path / "models" / "scans")
    np.savez(tmp_path / "scans.npz", X=simulate_images(60, seed=2))
    np.savez(tmp_path / "other.npz", X=simulate_images(60, seed=3, strange=True))
    return tmp_path


def in_a_shell(line: str) -> None:
    """Run what is more than one command of ours."""
    named = line.replace("surprisal ", f"{shlex.quote(sys.executable)} -m surprisal ")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        ["bash", "-c", named], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, (line, done.stderr)


@pytest.mark.slow
def test_every_example_works(folder: Path) -> None:
    for lines in EXAMPLES.values():
        for line in lines:
            words = shlex.split(line)
            if line.startswith(FOR_EVER) and "--no-serve" not in line:
                if words[0] == "surprisal":
                    command = typer.main.get_command(app)
                    assert command.commands[words[1]].make_context(words[1], words[2:])  # type: ignore[attr-defined]
            elif words[0] == "surprisal" and ">" not in words:
                done = surprisal(*words[1:])
                assert done.returncode == 0, (line, done.stderr)
            else:
                in_a_shell(line)
    assert {"scored.csv", "strangest.csv", "curves.png", "scans.html", "both.html"} <= {
        each.name for each in folder.iterdir()
    }


def test_help_shows_them() -> None:
    shown = " ".join(surprisal("models", "list", "--help", COLUMNS="200").stdout.split())
    assert f"Examples: {' '.join(EXAMPLES['list'])}" in shown
