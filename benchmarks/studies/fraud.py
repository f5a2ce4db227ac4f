"""Card fraud on two public sets: what is found where false alarms must be few.

    python -m benchmarks.studies.fraud DATA [--budget small|full]

DATA holds `creditcard_subset.parquet` and `fdh_transactions_3w.parquet`. The first is split at random and used without
`source`, which leaks the label, and `Time`, which its parts do not share; fraud is 6 % of it and 0.17 % of the
original, so that average precision here is not that of that task; 0.1 % of its normal rows are three, so that recall
there is rough. The second is split by time (two weeks, then one) and used without ids and raw clock columns; once with
and once without the columns that count earlier frauds of a terminal, which are labels of the past. Models and detectors
of scikit-learn have the same normal rows (kNN 50 000 of them at most) and defaults.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.studies import tabular
from benchmarks.studies.arguments import Arguments, parse, study
from benchmarks.studies.markdown import show
from benchmarks.studies.tabular import labelled, without
from training.data.read import Data, Rows, read
from training.evaluation.measures import detection

SEEDS = {"small": 1, "full": 5}
FALSE_ALARMS = 0.001
LOOKED_AT = 100
DAYS = 14


@dataclass(frozen=True)
class Task:
    """A table, its normal rows to train on, the rows to test on, and which of these are frauds."""

    data: Data
    train: Rows
    tested: Rows
    fraud: npt.NDArray[np.bool_]


def credit_cards(folder: Path, seed: int) -> Task:
    """Half of the normal rows to train on, drawn at random; the other half and all frauds to test on."""
    data = without(read(folder / "creditcard_subset.parquet"), ("source", "Time"))
    data, fraud = labelled(data, "Class")
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~fraud))
    train, rest = np.array_split(normal, 2)
    tested = np.sort(np.concatenate([rest, np.flatnonzero(fraud)]))
    return Task(data, np.sort(train), tested, fraud[tested])


def simulated_cards(folder: Path, seed: int, *, told: bool = True) -> Task:
    """The normal rows of the first two weeks to train on, all rows of the third to test on.

    Args:
        folder: Holds the file.
        seed: Draws nothing here, as time decides.
        told: Whether the columns that count earlier frauds stay.
    """
    data = read(folder / "fdh_transactions_3w.parquet")
    days = data.table["TX_TIME_DAYS"].to_numpy()
    early = days < days.min() + DAYS
    ids = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_TIME_SECONDS", "TX_TIME_DAYS")
    counts = () if told else tuple(name for name in data.table.column_names if "_RISK_" in name)
    data, fraud = labelled(without(data, (*ids, "TX_FRAUD_SCENARIO", *counts)), "TX_FRAUD")
    tested = np.flatnonzero(~early)
    return Task(data, np.flatnonzero(early & ~fraud), tested, fraud[tested])


def figures(normal: npt.NDArray[np.float64], frauds: npt.NDArray[np.float64]) -> dict[str, float]:
    """What a score finds."""
    allowed = int(FALSE_ALARMS * len(normal))
    strangest = np.argsort(-np.concatenate([normal, frauds]), kind="stable")[:LOOKED_AT]
    return {
        **detection(normal, frauds),
        "recall": float((frauds > np.sort(normal)[::-1][allowed]).mean()),
        "precision": float((strangest >= len(normal)).mean()),
    }


def measure(task: Task, seed: int, arguments: Arguments) -> dict[str, dict[str, float]]:
    """Every score and detector on one task."""
    model, record = tabular.fit(task.data, task.train, {"seed": seed}, arguments.device)
    found = tabular.scores(model, record, task.data, task.tested)
    found |= tabular.others(record, (task.data, task.train), (task.data, task.tested), seed)
    return {name: figures(values[~task.fraud], values[task.fraud]) for name, values in found.items()}


def main() -> None:
    """Train and measure on both sets."""
    arguments = parse(__doc__, "creditcard_subset.parquet", "fdh_transactions_3w.parquet")
    tasks: dict[str, Callable[[Path, int], Task]] = {
        "credit cards": credit_cards,
        "simulated cards": simulated_cards,
        "simulated cards, no earlier labels": partial(simulated_cards, told=False),
    }
    with study("Card fraud"):
        for title, make in tasks.items():
            runs = []
            for seed in range(arguments.seed, arguments.seed + SEEDS[arguments.budget]):
                task = make(arguments.data, seed)
                runs.append(measure(task, seed, arguments))
            share = task.fraud.mean()
            rows = f"{len(task.train):,} normal rows to train on, {len(task.fraud):,} to test on"
            allowed = int(FALSE_ALARMS * np.sum(~task.fraud))
            print(f"\n{title}: {rows}, fraud {share:.2%} of these; {FALSE_ALARMS:.1%} are {allowed} false alarms")
            mean = {name: {key: np.mean([run[name][key] for run in runs]) for key in runs[0][name]} for name in runs[0]}
            ordered = sorted(mean, key=lambda name: -mean[name]["average_precision"])
            columns = (
                "score",
                "average precision",
                f"recall at {FALSE_ALARMS:.1%} false alarms",
                f"precision at {LOOKED_AT}",
                "AUROC",
            )
            measures = ("average_precision", "recall", "precision", "auroc")
            show(columns, [[name, *(float(mean[name][key]) for key in measures)] for name in ordered])


if __name__ == "__main__":
    main()
