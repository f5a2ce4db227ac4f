"""Whether two processes train faster than one, and whether they give the same model.

    python benchmarks/processes.py [--turns 7] [--seconds 2] [--seeds 5] [--rows 6000]

A step of training at several sizes: by one process with one thread, by one with two threads, by two with one thread
each. They take turns in one run, because other work on a machine touches them all; the figures are medians, and the
median of the ratios of each turn. Then the validation ELBO of whole trainings with several seeds, by the command line:
one process, two, and two of which one is killed after the first checkpoint, resumed by one.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

# As a script, this file would stand in for the package of its name.
sys.path[0] = str(Path(__file__).parents[1])

import training  # noqa: F401, I001 - before torch, whose threads it sets

import numpy as np
import pyarrow.parquet
import torch

from bundle.record.fields import NumericField
from bundle.record.schema import TableSchema
from training import modality
from training.config import FitConfig, NetworkConfig, ObjectiveConfig
from training.data import transactions
from training.fitting.fit import Fit
from training.fitting.ranks import ALONE, Ranks, joined

SIZES = ((512, 4096), (512, 512), (128, 256))
"""Widths of both hidden layers, and rows of a batch."""
FIELDS, WARM_UP = 30, 2
SETTINGS = "[network]\nhidden = [64]\n[fit]\nepochs = 40\npatience = 40\n"
WAYS = ("one process, one thread", "one process, two threads", "two processes")
ROOT = Path(__file__).parents[1]


def fitting(hidden: int, batch: int, ranks: Ranks) -> Fit:
    """A training of random numbers."""
    names = [f"x{place}" for place in range(FIELDS)]
    fields = tuple(NumericField(name=name, mean=0.0, scale=1.0, missing_rate=1e-6) for name in names)
    torch.manual_seed(0)
    vae = modality.of(TableSchema(fields=fields)).vae(NetworkConfig(hidden=(hidden, hidden)))
    rows = vae.standardise({"numeric": torch.from_numpy(np.random.default_rng(0).normal(size=(batch, FIELDS)))})
    config = FitConfig(batch_size=batch)
    return Fit(vae, rows, rows.take(torch.arange(1)), ObjectiveConfig(), config, names=names, seed=0, ranks=ranks)


def seconds(trial: Fit, steps: int, threads: int) -> float:
    """Seconds a step."""
    torch.set_num_threads(threads)
    trial.try_steps(WARM_UP)
    began = time.perf_counter()
    trial.try_steps(steps)
    return (time.perf_counter() - began) / steps


def measure(turns: int, budget: float) -> None:
    """Measure every size, in each of two processes; the first prints."""
    with joined("cpu") as ranks:
        for hidden, batch in SIZES:
            alone, together = fitting(hidden, batch, ALONE), fitting(hidden, batch, ranks)
            first = torch.tensor(seconds(together, WARM_UP, 1), dtype=torch.float64)
            steps = max(3, round(budget / (float(ranks.sum(first)) / ranks.count)))
            found = []
            for _ in range(turns):
                # Where the first one works alone, the other waits for the sum.
                single = [seconds(alone, steps, threads) if ranks.leads else 0.0 for threads in (1, 2)]
                ranks.sum(torch.zeros(1))
                found.append([*single, seconds(together, steps, 1)])
            if ranks.leads:
                say(hidden, batch, found)


def say(hidden: int, batch: int, found: list[list[float]]) -> None:
    """Print a size's steps a second, and how many times as fast two processes are."""
    print(f"hidden {hidden}, batch {batch}, steps/s (median of {len(found)})")
    for name, each in zip(WAYS, zip(*found, strict=True), strict=True):
        print(f"  {name}: {1 / statistics.median(each):.2f}")
    for place, name in enumerate(WAYS[:2]):
        ratios = sorted(turn[place] / turn[2] for turn in found)
        print(f"  two processes / {name}: {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


def elbos(seeds: int, rows: int) -> None:
    """Print the validation ELBO of whole trainings by each way, and how far the ways are apart."""
    with tempfile.TemporaryDirectory() as folder:
        data, settings = Path(folder, "payments.parquet"), Path(folder, "settings.toml")
        pyarrow.parquet.write_table(transactions.simulate(rows, seed=1), data)
        settings.write_text(SETTINGS)
        ways: dict[str, Callable[[list[str], Path], None]] = {"one": one, "two": two, "killed and resumed": killed}
        found: dict[str, list[float]] = {way: [] for way in ways}
        for seed in range(seeds):
            for way, train in ways.items():
                out = Path(folder, f"{way}-{seed}")
                labels = ["--label", transactions.LABEL, "--normal", transactions.NORMAL]
                call = ["train", str(data), *labels, "--config", str(settings), "--seed", str(seed), "--out", str(out)]
                train(call, out)
                manifest = json.loads((out / "payments" / "1" / "manifest.json").read_text())
                found[way].append(manifest["training"]["metrics"]["validation_elbo"])
            print(f"seed {seed}: " + ", ".join(f"{way} {values[-1]:.6f}" for way, values in found.items()), flush=True)
    deviation = statistics.stdev(found["one"]) if seeds > 1 else float("nan")
    for way in list(ways)[1:]:
        off = max(abs(value - whole) for value, whole in zip(found[way], found["one"], strict=True))
        print(f"{way}: off by at most {off:.1e} nats; deviation between seeds {deviation:.1e}")


def one(call: list[str], out: Path) -> None:
    """One process."""
    subprocess.run(command(call), check=True, capture_output=True)


def two(call: list[str], out: Path) -> None:
    """Two processes."""
    subprocess.run(command([*call, "--processes", "2"]), check=True, capture_output=True)


def killed(call: list[str], out: Path) -> None:
    """Two processes, one of which is killed after the first checkpoint; one process goes on."""
    with subprocess.Popen(
        command([*call, "--processes", "2"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as begun:
        while not list(out.glob("payments/.checkpoint-*.pt")):
            if begun.poll() is not None:
                raise RuntimeError("it ended before its first checkpoint")
            time.sleep(0.02)
        children = Path(f"/proc/{begun.pid}/task/{begun.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        begun.communicate()
    if begun.returncode != 1:
        raise RuntimeError(f"it ended with status {begun.returncode}, though one of its processes was killed")
    one([*call, "--resume"], out)


def command(call: list[str]) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "surprisal", *call]


def main() -> None:
    """Begin two processes that measure, and print what they found; then train with several seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="about so long each is measured in a turn")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=6000)
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        measure(arguments.turns, arguments.seconds)
        return
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.platform()}, torch {torch.__version__}, {os.cpu_count()} cores")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    if arguments.turns:
        measured = [*torchrun, "--turns", str(arguments.turns), "--seconds", str(arguments.seconds)]
        print(subprocess.run(measured, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout, end="")
    if arguments.seeds:
        elbos(arguments.seeds, arguments.rows)


if __name__ == "__main__":
    main()
