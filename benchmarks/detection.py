"""Detection on a folder of tables, one class: every score beside what users would pick instead, in one run.

    python benchmarks/detection.py FOLDER [--seeds 3] [--jobs 2] [--peers PYTHON] [--kept FOLDER] [--sets NAME...]
        [--out FILE.json]

FOLDER holds `.npz` files with `X` (n, d) and `y` (n,), 1 = anomaly. Of each the model learns a random half of the
normal rows, 50 000 at most, and is tested on the other rows. All defaults are the product's, the same for every set; a
tenth of the training rows stops the training. kNN (k = 5, over all training rows) and the norm of the row get the same
rows, standardised; with `--peers`, the Python of a virtual environment that has pyod and tqdm, its detectors do as
well, with their defaults. These take hours and are always the same, so that `--kept` keeps what each reached for the
next run.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata
from sklearn.neighbors import NearestNeighbors

from benchmarks.serving.heading import heading
from bundle.contents.scores import TABLE_SCORES
from training import config
from training.data import kinds, schema
from training.data.read import Data
from training.evaluation.measures import detection
from training.fitting import model, trimming

MOST_ROWS = 50_000
SMALL_ROWS = 1000
DEFAULT = "combined"
PEERS = ("PyOD VAE", "PyOD AutoEncoder", "PyOD LOF", "PyOD OCSVM", "PyOD ECOD", "PyOD IForest", "PyOD PCA")
RESAMPLES = 10_000
ROWS_AT_A_TIME = 20_000
Array = npt.NDArray[np.float64]
Scored = tuple[Array, float, float]
"""Scores of the test rows, higher = stranger; seconds to fit and to score."""


@dataclass(frozen=True)
class Outcome:
    """What one detector reached on one set with one seed."""

    dataset: str
    rows: int
    seed: int
    detector: str
    auroc: float
    average_precision: float
    fit_seconds: float
    score_seconds: float


def divide(path: Path, seed: int) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    """Training rows, test rows, and which of these are anomalies."""
    with np.load(path, allow_pickle=False) as archive:
        table, labels = archive["X"].astype(np.float64, copy=False), archive["y"].ravel() != 0
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~labels))
    train, rest = normal[: normal.size // 2][:MOST_ROWS], normal[normal.size // 2 :]
    test = np.concatenate([rest, np.flatnonzero(labels)])
    return table[train], table[test], labels[test]


def as_data(table: Array) -> Data:
    """Columns named by their place."""
    columns = {f"x{place}": np.ascontiguousarray(column) for place, column in enumerate(table.T)}
    return Data("table.npz", "", pa.table(columns))


def ours(train: Array, test: Array, seed: int) -> tuple[dict[str, Array], float, float]:
    """Every score of the product, and its seconds to fit and to score."""
    started = time.perf_counter()
    data = as_data(train)
    rows = np.random.default_rng(seed).permutation(len(train))
    settings = config.build({"seed": seed})
    held_out = max(1, round(settings.data.validation_share * len(train)))
    fields = kinds.infer(data, np.arange(len(train)), settings).fields
    prepared = trimming.prepare(data, np.sort(rows[held_out:]), np.sort(rows[:held_out]), fields, settings)
    fitted = model.fit(data, *prepared, settings, torch.device("cpu"))
    ready = time.perf_counter()
    found: dict[str, list[Array]] = {score.name: [] for score in TABLE_SCORES}
    for first in range(0, len(test), ROWS_AT_A_TIME):
        asked = as_data(test[first : first + ROWS_AT_A_TIME])
        tensors = schema.tensors(prepared[0], asked, np.arange(asked.table.num_rows))
        for name, values in fitted.anomaly_scores(tensors, settings.scoring.samples).items():
            found[name].append(values.astype(np.float64))
    return {name: np.concatenate(parts) for name, parts in found.items()}, ready - started, time.perf_counter() - ready


def standardised(train: Array, test: Array) -> tuple[Array, Array]:
    """Both by the training rows; what does not vary is left at 0."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    scale = np.where(deviation > 1e-9 * np.maximum(1.0, np.abs(mean)), deviation, np.inf)
    return (train - mean) / scale, (test - mean) / scale


def neighbours(train: Array, test: Array) -> Scored:
    """Distance to the fifth nearest of all training rows."""
    started = time.perf_counter()
    index = NearestNeighbors(n_neighbors=min(5, len(train))).fit(train)
    ready = time.perf_counter()
    return index.kneighbors(test)[0][:, -1], ready - started, time.perf_counter() - ready


def peers(python: str, names: list[str], train: Array, test: Array, seed: int) -> Iterator[tuple[str, Scored]]:
    """Some of PyOD's detectors, by the Python that has them."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "in.npz", train=train, test=test)
        script = Path(__file__).parent / "peers" / "detectors.py"
        subprocess.run([python, str(script), folder, str(seed), *names], check=True)
        for name in names:
            with np.load(Path(folder) / f"{name}.npz") as answered:
                fitting, scoring = answered["seconds"]
                yield name, (answered["scores"], float(fitting), float(scoring))


def measure(path: Path, seed: int, python: str | None, kept: Path | None) -> tuple[list[Outcome], float]:
    """Every detector on one set with one seed, and the most memory that the process has taken so far, in MiB."""
    torch.set_num_threads(1)
    train, test, anomalous = divide(path, seed)

    def outcome(name: str, values: Array, fitting: float, scoring: float) -> Outcome:
        measures = detection(values[~anomalous], values[anomalous])
        return Outcome(
            path.stem, len(train), seed, name, measures["auroc"], measures["average_precision"], fitting, scoring
        )

    found, fit_seconds, score_seconds = ours(train, test, seed)
    seconds = fit_seconds, score_seconds
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    by_detector: dict[str, tuple[Array, float, float]] = {name: (each, *seconds) for name, each in found.items()}
    usual, asked = standardised(train, test)
    by_detector["kNN, k = 5"] = neighbours(usual, asked)
    by_detector["norm of the row"] = (np.linalg.norm(asked, axis=1), 0.0, 0.0)
    outcomes = [outcome(name, *each) for name, each in by_detector.items()]
    if python is None:
        return outcomes, memory
    known = {} if kept is None else {name: kept / f"{path.stem} {seed} {name}.json" for name in PEERS}
    outcomes += [Outcome(**json.loads(record.read_text())) for record in known.values() if record.exists()]
    missing = [name for name in PEERS if name not in known or not known[name].exists()]
    for name, scored in peers(python, missing, usual, asked, seed) if missing else ():
        outcomes.append(outcome(name, *scored))
        if name in known:
            known[name].parent.mkdir(parents=True, exist_ok=True)
            known[name].write_text(json.dumps(asdict(outcomes[-1])))
    return outcomes, memory


def matrix(outcomes: list[Outcome], detectors: list[str], measure: str, datasets: list[str]) -> Array:
    """(detectors, datasets) means over seeds."""
    values: dict[tuple[str, str], list[float]] = {}
    for outcome in outcomes:
        values.setdefault((outcome.detector, outcome.dataset), []).append(getattr(outcome, measure))
    return np.array([[np.mean(values[detector, name]) for name in datasets] for detector in detectors])


def show(console: Console, outcomes: list[Outcome], datasets: list[str], title: str) -> None:
    """One table: means and mean ranks, and how far the default is ahead, with bootstrap intervals over sets."""
    detectors = list(dict.fromkeys(outcome.detector for outcome in outcomes))
    auroc, precision, fitting, scoring = (
        matrix(outcomes, detectors, name, datasets)
        for name in ("auroc", "average_precision", "fit_seconds", "score_seconds")
    )
    default = detectors.index(DEFAULT)
    drawn = np.random.default_rng(0).integers(0, len(datasets), (RESAMPLES, len(datasets)))
    table = Table(title=f"{title}: {len(datasets)} sets", title_justify="left")
    for name in ("detector", "AUROC", "rank", "default ahead by", "AP", "rank", "default ahead by", "fit s", "score s"):
        table.add_column(name, justify="left" if name == "detector" else "right")
    ranks = [rankdata(-values, axis=0).mean(axis=1) for values in (auroc, precision)]
    for place in np.argsort(-auroc.mean(axis=1)):
        cells = [detectors[place]]
        for values, rank in zip((auroc, precision), ranks, strict=True):
            ahead = values[default] - values[place]
            low, high = np.percentile(ahead[drawn].mean(axis=1), (2.5, 97.5))
            cells += [f"{values[place].mean():.4f}", f"{rank[place]:.2f}"]
            cells += [f"{ahead.mean():+.4f} [dim]({low:+.3f} to {high:+.3f})[/]" if place != default else ""]
        table.add_row(*cells, f"{fitting[place].mean():.1f}", f"{scoring[place].mean():.2f}")
    console.print(table)


def show_sets(console: Console, outcomes: list[Outcome], datasets: list[str]) -> None:
    """AUROC and average precision of some detectors, set by set."""
    chosen = [DEFAULT, "expected_log_likelihood", "neighbours", "typicality", "kNN, k = 5"]
    auroc, precision = (matrix(outcomes, chosen, name, datasets) for name in ("auroc", "average_precision"))
    rows = {outcome.dataset: outcome.rows for outcome in outcomes}
    table = Table("set", "training rows", *chosen, title="Set by set: AUROC / average precision", title_justify="left")
    for place, name in enumerate(datasets):
        cells = [f"{auroc[index, place]:.3f} / {precision[index, place]:.3f}" for index in range(len(chosen))]
        table.add_row(name, f"{rows[name]:,}", *cells)
    console.print(table)


def number(path: Path) -> tuple[int, str]:
    """Sets in the order of the number that their names begin with."""
    digits = path.stem.split("_")[0]
    return (int(digits) if digits.isdigit() else 0), path.stem


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="sets at a time, a thread each")
    parser.add_argument("--peers", help="the python of a virtual environment with pyod")
    parser.add_argument("--kept", type=Path, help="folder of what the peers reached, to be taken from there next time")
    parser.add_argument("--sets", nargs="*", help="names of files without .npz; by default all")
    parser.add_argument("--out", type=Path, help="JSON file of every figure")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("*.npz"), key=number)
    paths = [path for path in paths if not arguments.sets or path.stem in arguments.sets]
    if not paths:
        parser.error(f"there is no .npz file in {arguments.folder}")
    console = Console(width=170)
    started = time.perf_counter()
    outcomes: list[Outcome] = []
    most = 0.0
    # The largest first, so that none is waited for alone.
    with ProcessPoolExecutor(arguments.jobs) as pool:
        largest = sorted(paths, key=lambda path: -path.stat().st_size)
        tasks = [
            pool.submit(measure, path, seed, arguments.peers, arguments.kept)
            for path in largest
            for seed in range(arguments.seeds)
        ]
        for task in tasks:
            measured, memory = task.result()
            outcomes += measured
            most = max(most, memory)
    console.print(heading())
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d}: {time.perf_counter() - started:.0f} s, at most {most:.0f} MiB a process"
    )
    names = [path.stem for path in paths]
    rows = {outcome.dataset: outcome.rows for outcome in outcomes}
    show(console, outcomes, names, "All")
    if len(names) > 1:
        for title, remainder in (("Odd-numbered", 1), ("Even-numbered", 0)):
            part = [path.stem for path in paths if number(path)[0] % 2 == remainder]
            if part:
                show(console, outcomes, part, title)
    for title, part in (
        (f"Under {SMALL_ROWS:,} training rows", [name for name in names if rows[name] < SMALL_ROWS]),
        (f"{SMALL_ROWS:,} training rows and more", [name for name in names if rows[name] >= SMALL_ROWS]),
    ):
        if part:
            show(console, outcomes, part, title)
    show_sets(console, outcomes, names)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")


if __name__ == "__main__":
    main()
