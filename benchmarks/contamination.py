"""Training rows that nobody promises to be normal: what anomalies among them cost, and what --contamination saves.

    python benchmarks/contamination.py FOLDER [--seeds 3] [--jobs 2] [--sets NAME...] [--out FILE.json]

FOLDER holds `.npz` files with `X` (n, d) and `y` (n,), 1 = anomaly. As in `detection.py` a random half of the normal
rows is the model's, 5 000 at most; anomalies are added until they are 5 % or 10 % of these rows, where at least half
of them stay for the test, and they leave it. The rows are divided as `surprisal train` divides them, so that the rows
that stop the training and those that calibrate are contaminated too. Three models a set and seed, with the defaults: of
the normal rows alone; of all, plainly; of all, with `contamination` set to their share. The same test rows for all: the
other normal rows, 5 000 at most, and as many anomalies. The false-alarm rate is that of the default score on these
normal rows, at 1 % asked, of bundles that are not cross-fitted.
"""

import argparse
import json
import sys
import time
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

from benchmarks.detection import DEFAULT, Array, number
from benchmarks.serving.heading import heading
from bundle.contents.calibration import Calibration
from training import config
from training.data import kinds, schema
from training.data.read import Data, Rows
from training.data.split import split
from training.evaluation.measures import detection
from training.fitting import model, thinning, trimming

MOST_ROWS, MOST_TESTED = 5000, 5000
SHARES = (0.05, 0.1)
RATE = 0.01
LOSES = 0.005
WITHIN = (0.005, 0.02)
WAYS = ("normal rows alone", "plain", "contamination")
SMALLEST = 300
"""Normal rows below which calibration is cross-fitted; only detection is measured there."""


@dataclass(frozen=True)
class Outcome:
    """What one way of training reached on one set with one seed."""

    dataset: str
    rows: int
    share: float
    seed: int
    way: str
    auroc: float
    average_precision: float
    false_alarm_rate: float | None


def divide(path: Path, seed: int, share: float) -> tuple[Array, Array, Rows, Rows, Rows] | None:
    """The table with its labels, the model's normal rows, the anomalies among them, and the test rows.

    None where fewer than half of the anomalies would stay for the test.
    """
    with np.load(path, allow_pickle=False) as archive:
        table, labels = archive["X"].astype(np.float64), archive["y"].ravel() != 0
    random = np.random.default_rng(seed)
    normal, anomalies = (random.permutation(np.flatnonzero(chosen)) for chosen in (~labels, labels))
    rest = normal[normal.size // 2 :][:MOST_TESTED]
    normal = normal[: normal.size // 2][:MOST_ROWS]
    added = round(share / (1 - share) * normal.size)
    if added > anomalies.size // 2:
        return None
    test = np.concatenate([rest, anomalies[added:][:MOST_TESTED]])
    return table, labels.astype(np.float64), normal, anomalies[:added], test


def trained(table: Array, normal: Rows, anomalies: Rows, test: Rows, share: float, seed: int) -> tuple[Array, float]:
    """The default score of the test rows, and the threshold for the rate; infinite where folds would calibrate."""
    data = Data("table.npz", "", pa.table({f"x{i}": np.ascontiguousarray(column) for i, column in enumerate(table.T)}))
    settings = config.build({"seed": seed, "data": {"contamination": share}})
    known = np.sort(np.concatenate([normal, anomalies]))
    few = normal.size < SMALLEST
    # Positions among the known rows: the split shuffles the rows of a whole file.
    parts = split(Data("", "", data.table.take(pa.array(known))), settings.data, 0.1 if few else RATE, seed)
    fields = kinds.infer(data, known, settings).fields
    record, train, validation = trimming.prepare(data, known[parts.train], known[parts.validation], fields, settings)
    fitted = model.fit(data, record, train, validation, settings, torch.device("cpu"))

    def scores(rows: Rows) -> npt.NDArray[np.float32]:
        return fitted.anomaly_scores(schema.tensors(record, data, rows), settings.scoring.samples)[DEFAULT]

    threshold = np.inf
    if not few:
        held_out = scores(known[parts.calibration])
        kept = held_out[thinning.presumed_normal(held_out, share)]
        key = (DEFAULT, settings.scoring.samples)
        threshold = Calibration({key: kept}).threshold(*key, RATE)
    return scores(test).astype(np.float64), threshold


def measure(path: Path, seed: int, share: float) -> list[Outcome]:
    """Every way of training on one set with one seed."""
    torch.set_num_threads(1)
    divided = divide(path, seed, share)
    if divided is None:
        return []
    table, labels, normal, anomalies, test = divided
    anomalous = labels[test] > 0
    outcomes = []
    for way in WAYS:
        among = anomalies[:0] if way == WAYS[0] else anomalies
        scores, threshold = trained(table, normal, among, test, share if way == WAYS[2] else 0.0, seed)
        found = detection(scores[~anomalous], scores[anomalous])
        alarms = float((scores[~anomalous] > threshold).mean()) if np.isfinite(threshold) else None
        auroc, precision = found["auroc"], found["average_precision"]
        outcomes.append(Outcome(path.stem, normal.size, share, seed, way, auroc, precision, alarms))
    return outcomes


def show(console: Console, outcomes: list[Outcome], share: float) -> None:
    """Set by set, and what is lost over the sets where plain training loses."""
    part = [outcome for outcome in outcomes if outcome.share == share]
    names = list(dict.fromkeys(outcome.dataset for outcome in part))

    def mean(name: str, way: str, measure: str) -> float:
        values = [getattr(each, measure) for each in part if (each.dataset, each.way) == (name, way)]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else float("nan")

    table = Table(title=f"{share:.0%} of the training rows are anomalies", title_justify="left")
    columns = ("set", "rows", "AUROC", "plain loses", "trimmed", "AP", "plain loses", "trimmed")
    for name in (*columns, "false alarms", "plain", "trimmed"):
        table.add_column(name, justify="left" if name == "set" else "right")
    losses = {measure: np.zeros((2, len(names))) for measure in ("auroc", "average_precision")}
    for place, name in enumerate(names):
        rows = next(each.rows for each in part if each.dataset == name)
        cells = [name, f"{rows:,}"]
        for measure, lost in losses.items():
            clean, *others = (mean(name, way, measure) for way in WAYS)
            lost[:, place] = [clean - other for other in others]
            cells += [f"{clean:.4f}", *(f"{each:+.4f}" for each in lost[:, place])]
        rates = (mean(name, way, "false_alarm_rate") for way in WAYS)
        table.add_row(*cells, *(f"{rate:.2%}" if np.isfinite(rate) else "" for rate in rates))
    console.print(table)
    chosen = losses["auroc"][0] >= LOSES
    if not chosen.any():
        return
    for measure, lost in losses.items():
        plain, trimmed = lost[:, chosen].mean(axis=1)
        console.print(
            f"{measure}, mean over the {chosen.sum()} sets where plain training loses {LOSES} AUROC: plain loses "
            f"{plain:.4f}, contamination {trimmed:.4f} ({trimmed / plain:.2f} of it)"
        )
    for way in WAYS:
        found = np.array([mean(name, way, "false_alarm_rate") for name in names])
        found = found[np.isfinite(found)]
        if not found.size:
            continue
        inside = ((found >= WITHIN[0]) & (found <= WITHIN[1])).sum()
        console.print(
            f"false alarms at {RATE:.0%}, {way}: mean {found.mean():.2%}, {inside} of {found.size} sets within "
            f"{WITHIN[0]:.1%} to {WITHIN[1]:.1%}"
        )


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="sets at a time, a thread each")
    parser.add_argument("--sets", nargs="*", help="names of files without .npz; by default all")
    parser.add_argument("--out", type=Path, help="JSON file of every figure")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("*.npz"), key=number)
    paths = [path for path in paths if not arguments.sets or path.stem in arguments.sets]
    if not paths:
        parser.error(f"there is no .npz file in {arguments.folder}")
    console = Console(width=190)
    started = time.perf_counter()
    outcomes: list[Outcome] = []
    with ProcessPoolExecutor(arguments.jobs, max_tasks_per_child=1) as pool:
        tasks = [
            pool.submit(measure, path, seed, share)
            for seed in range(arguments.seeds)
            for path in paths
            for share in SHARES
        ]
        for task in tasks:
            outcomes += task.result()
            if arguments.out is not None:
                arguments.out.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    console.print(heading())
    console.print(f"{datetime.now(UTC):%Y-%m-%d}: {time.perf_counter() - started:.0f} s, {arguments.seeds} seeds")
    for share in SHARES:
        if any(outcome.share == share for outcome in outcomes):
            show(console, outcomes, share)


if __name__ == "__main__":
    main()
