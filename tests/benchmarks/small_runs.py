"""Benchmarks at sizes of no meaning, one after the other in one process, because each loads what the others have.

python small_runs.py FOLDER NAME...

FOLDER gets a model, tables, and `NAME.txt` for each named benchmark: what it printed, and where it failed the
traceback.
"""

import contextlib
import importlib
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import model
from training.fitting import fit

SMALL = {
    "detection": ["{tables}", "--seeds", "1", "--jobs", "1", "--out", "{tables}/figures.json"],
    "contamination": ["{tables}", "--seeds", "1", "--jobs", "1", "--sets", "1_near"],
    "calibration": ["--draws", "2", "--refits", "1", "--jobs", "1"],
    "explanation": ["--seeds", "1", "--rows", "600", "--amounts", "2"],
    "gpu": ["--device", "cpu", "--batches", "2", "--samples", "1", "--seconds", "0.01", "--no-compile"],
    "ordinary": ["{ordinary}", "--epochs", "1"],
    "training": ["--rows", "300", "--fields", "3", "--epochs", "1", "--repeats", "1"],
    "processes": ["--turns", "1", "--seconds", "0.01", "--seeds", "0"],
    "combined": ["--turns", "2"],
    "streaming": [
        *["--rows", "2500", "--fits", "2500", "--turns", "1", "--seeds", "2"],
        *["--small", "1500", "--memory", "10k", "--batch", "64"],
    ],
    "scale": ["{scale}", "--rows", "400"],
    "score_file": ["--models", "{models}", "--rows", "500", "--repeats", "1"],
    "soak": ["--models", "{models}", "--seconds", "2", "--burst", "1", "--overload-seconds", "1", "--records", "4"],
    "counts": ["--models", "{models}", "--requests", "400", "--turns", "1", "--seconds", "1"],
    "reload": ["--models", "{models}", "--changes", "3"],
}
"""Arguments of each, those whose processes are forked from this one first: a server's threads are not there yet."""

SMALLER: dict[str, dict[str, Any]] = {
    "calibration": {"TRAINED": 300, "CALIBRATED": 199, "TESTED": 100, "MOST_FRESH": 100},
    "contamination": {"SHARES": (0.1,)},
    "combined": {"ROWS": 600, "WARM_UP": 1},
    "explanation": {"RECORDS": 300},
    "soak": {"REST_SECONDS": 0.1},
    "scale": {"FILE_ROWS": 100, "TRAINED": 600, "EPOCHS": 1},
    "reload": {"SETTLED": 1, "CLIENTS": 4, "FOLLOWED_SECONDS": 3.0},
}
"""What no argument makes small enough."""

ENDED = "it ran to its end"


def main() -> None:
    """Run them all."""
    folder, chosen = Path(sys.argv[1]), sys.argv[2:]
    models, tables, ordinary = folder / "models", folder / "tables", folder / "ordinary"
    scale = folder / "scale"
    vars(fit)["_STEPS"] = 1  # trainings are as short as they can be
    tables.mkdir()
    random = np.random.default_rng(0)
    for name, away in (("1_near", 1.0), ("2_far", 4.0)):
        rows = np.concatenate([random.normal(size=(160, 3)), random.normal(away, 1.0, size=(40, 3))])
        np.savez(tables / f"{name}.npz", X=rows, y=np.arange(200) >= 160)
    ordinary.mkdir()
    np.savez(ordinary / "normal.npz", train=random.normal(size=(200, 2)))
    np.savez(ordinary / "labelled.npz", X=random.normal(size=(300, 2)), y=np.arange(300) % 30 == 0)
    np.savez(ordinary / "few.npz", train=random.normal(size=(5, 2)))
    for name, arguments in SMALL.items():
        if name not in chosen:
            continue
        if "{models}" in arguments and not models.exists():
            model.train(models, rows=600, epochs=1)
            model.train(models, rows=600, epochs=8)
        module = importlib.import_module(f"benchmarks.{name}")
        vars(module).update(SMALLER.get(name, {}))
        sys.argv = [
            name,
            *(each.format(models=models, tables=tables, ordinary=ordinary, scale=scale) for each in arguments),
        ]
        started = time.perf_counter()
        with Path(folder, f"{name}.txt").open("w") as printed, contextlib.redirect_stdout(printed):
            try:
                module.main()
                print(ENDED)
            except SystemExit as ended:
                print(f"exit status {ended.code}" if ended.code else ENDED)
            except Exception:  # noqa: BLE001 - the others run all the same
                print(traceback.format_exc())
        print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
