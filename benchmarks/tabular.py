"""Detection on public tables: every score beside scikit-learn's IsolationForest on the same rows.

    python benchmarks/tabular.py DATA_FOLDER [--seeds 3]

DATA_FOLDER holds `creditcard_subset.parquet`, `nslkdd_train20.parquet` and `nslkdd_test.parquet`. Each model is trained
by the product's own code on a random part of the normal rows; the forest gets the very same training rows, with
categories one-hot coded and missing values replaced by the mean. Card fraud is tested on held-out normal rows and all
frauds of the file, NSL-KDD on its own test file.
"""

import argparse
import platform
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import IsolationForest

from bundle.contents.scores import TABLE_SCORES
from bundle.record.schema import TableSchema
from training import config
from training.data import kinds, schema
from training.data.read import Data, read
from training.data.split import split
from training.evaluation.measures import detection
from training.fitting import trimming
from training.fitting.model import fit


@dataclass(frozen=True)
class Task:
    """A data set and what in it is normal.

    Args:
        train: File to train on.
        test: File to test on; None = the held-out part of `train`.
        label: Column of the label; 0 = normal.
        exclude: Columns that are no features.
    """

    train: str
    test: str | None
    label: str
    exclude: tuple[str, ...]


TASKS = {
    # `source` leaks the label and `Time` is not comparable between the parts of this subset.
    "card fraud": Task("creditcard_subset.parquet", None, "Class", ("Time", "source")),
    "NSL-KDD": Task("nslkdd_train20.parquet", "nslkdd_test.parquet", "label", ("attack", "difficulty")),
}


def compare(folder: Path, task: Task, seed: int) -> dict[str, dict[str, float]]:
    """Train both and test them on the same rows.

    Args:
        folder: Where the files are.
        task: What to do.
        seed: Of the split, the network and the forest.

    Returns:
        `auroc` and `average_precision` by score's name, and of the `forest`.
    """
    settings = config.build({"seed": seed, "data": {"label": task.label, "normal": "0", "exclude": list(task.exclude)}})
    data = read(folder / task.train)
    parts = split(data, settings.data, settings.scoring.false_alarm_rate, seed)
    tested = data if task.test is None else read(folder / task.test)
    if task.test is None:
        normal, anomalies = parts.calibration, parts.anomalies
    else:
        labels = np.asarray(tested.table[task.label])
        normal, anomalies = np.flatnonzero(labels == 0), np.flatnonzero(labels != 0)
    fields = kinds.chosen(data, parts.normal, settings).fields
    record, train, validation = trimming.prepare(data, parts.train, parts.validation, fields, settings)
    assert isinstance(record, TableSchema)
    # The network itself, because its export takes longer than all else and is proved equal to it.
    model = fit(data, record, train, validation, settings, torch.device("cpu"))
    usual, strange = (
        model.anomaly_scores(schema.tensors(record, tested, rows), settings.scoring.samples)
        for rows in (normal, anomalies)
    )
    found = {each.name: detection(usual[each.name], strange[each.name]) for each in TABLE_SCORES}
    forest = IsolationForest(random_state=seed).fit(one_hot(record, data, parts.train))
    isolated = [-forest.score_samples(one_hot(record, tested, rows)).astype(np.float32) for rows in (normal, anomalies)]
    return found | {"forest": detection(*isolated)}


def one_hot(record: TableSchema, data: Data, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The same fields as a matrix for scikit-learn."""
    tensors = schema.tensors(record, data, rows)
    parts = [tensors[kind].astype(np.float64) for kind in ("numeric", "boolean") if kind in tensors]
    if "numeric" in tensors:
        parts[0] = np.where(np.isnan(parts[0]), [field.restore(0.0) for field in record.numeric], parts[0])
    for column, field in enumerate(record.categorical):
        parts.append(np.eye(field.size + 1)[tensors["categorical"][:, column]])
    return np.concatenate(parts, axis=1)


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    console = Console(width=140)
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}, {platform.platform()}")
    for name, task in TASKS.items():
        runs = [compare(arguments.folder, task, seed) for seed in range(arguments.seeds)]
        table = Table("score", "AUROC", "average precision", "by seed (AUROC / AP)", title=name, title_justify="left")
        for score in runs[0]:
            mean = {measure: np.mean([run[score][measure] for run in runs]) for measure in runs[0][score]}
            each = "  ".join(f"{run[score]['auroc']:.4f} / {run[score]['average_precision']:.4f}" for run in runs)
            table.add_row(score, f"{mean['auroc']:.4f}", f"{mean['average_precision']:.4f}", each)
        console.print(table)


if __name__ == "__main__":
    main()
