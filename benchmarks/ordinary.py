"""Ordinary tables: does each train with the defaults, and how near does float32 come to what parity allows?

    python benchmarks/ordinary.py FOLDER... [--seeds 1] [--epochs N] [--rows 1500]

A FOLDER holds `.npz` files, with `train` (n, d), or with `X` (n, d) and `y` (n,), 1 = anomaly, which is left out; a
file by itself may be of any kind that `surprisal train` reads. Of each the first rows are trained on as the command
does, with its defaults, but for the number of epochs where `--epochs` names one for a quick pass. The share is the
largest distance between ONNX Runtime and the network in float64, as a share of what is allowed; above 100 % the bundle
is refused. Graphs of an architecture that was exported before come from the cache.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
import pyarrow as pa
from rich.console import Console

from benchmarks.serving.heading import heading
from bundle.record import npz_file
from training import config, pipeline
from training.data.read import Data, read
from training.errors import TrainingError

ROWS = 1500


class Outcome(NamedTuple):
    """What became of one table with one seed.

    Args:
        share: How near the bound the nearest comparison came; None where there was none.
        refused: Why there is no bundle; empty where there is one.
        seconds: All of it.
    """

    share: float | None
    refused: str
    seconds: float


def tables(path: Path) -> Iterator[Path]:
    """A file itself, or those of a folder."""
    yield from sorted(path.glob("*.npz")) if path.is_dir() else [path]


def first_rows(path: Path, rows: int) -> Data:
    """The first normal rows of a file."""
    if path.suffix != ".npz":
        data = read(path)
        return Data(data.name, data.sha256, data.table.slice(0, rows))
    with np.load(path, allow_pickle=False) as archive:
        features = archive["train"] if "train" in archive else archive["X"][archive["y"].ravel() == 0]
    return Data(path.name, "", pa.table(npz_file.columns(features[:rows])))


def attempt(path: Path, rows: int, seed: int, epochs: int | None) -> Outcome:
    """Train on a table, and throw the bundle away."""
    settings = config.build({"seed": seed} | ({} if epochs is None else {"fit": {"epochs": epochs}}))
    said: list[str] = []
    refused = ""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        try:
            pipeline.train(first_rows(path, rows), Path(out), "ordinary", settings, say=said.append)
        except TrainingError as error:
            refused = f"{type(error).__name__}: {error}"
    agreed = re.search(r"off by at most ([\d.]+)% of the tolerance", " ".join(said))
    return Outcome(float(agreed[1]) / 100 if agreed else None, refused, time.perf_counter() - started)


def main() -> None:
    """A line for each table and seed, and what all of them say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="at most; by default as many as the command takes")
    parser.add_argument("--rows", type=int, default=ROWS, help="of each table at most")
    arguments = parser.parse_args()
    console = Console(width=160, highlight=False, soft_wrap=True)
    console.print(heading())
    outcomes = []
    for path in (table for folder in arguments.folders for table in tables(folder)):
        for seed in range(arguments.seeds):
            outcome = attempt(path, arguments.rows, seed, arguments.epochs)
            share = "" if outcome.share is None else f"{outcome.share:6.1%} of the bound"
            verdict = f"refused: {outcome.refused}" if outcome.refused else "trained"
            console.print(f"{path.stem}, seed {seed}, {outcome.seconds:.0f} s, {share:20} {verdict}", markup=False)
            outcomes.append(outcome)
    shares = sorted(outcome.share for outcome in outcomes if outcome.share is not None)
    refused = sum(bool(outcome.refused) for outcome in outcomes)
    nearest = f"; nearest {shares[-1]:.1%}, median {shares[len(shares) // 2]:.1%} of the bound" if shares else ""
    seconds = sum(outcome.seconds for outcome in outcomes)
    console.print(f"{len(outcomes) - refused} trained, {refused} refused{nearest}; {seconds:.0f} s")


if __name__ == "__main__":
    main()
