"""PyOD's detectors with their defaults, for benchmarks/detection.py; runs in a virtual environment that has pyod.

    python detectors.py FOLDER SEED NAME...

FOLDER/in.npz holds `train` (n, d) and `test` (m, d), standardised; FOLDER/NAME.npz gets (m,) `scores` and the two
`seconds`, to fit and to score. All in one process, because importing them takes longer than most sets.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest
from pyod.models.lof import LOF
from pyod.models.ocsvm import OCSVM
from pyod.models.pca import PCA
from pyod.models.vae import VAE

DETECTORS: dict[str, Callable[[int], Any]] = {
    "PyOD VAE": lambda seed: VAE(random_state=seed, verbose=0),
    "PyOD AutoEncoder": lambda seed: AutoEncoder(random_state=seed, verbose=0),
    "PyOD LOF": lambda seed: LOF(),
    "PyOD OCSVM": lambda seed: OCSVM(),
    "PyOD ECOD": lambda seed: ECOD(),
    "PyOD IForest": lambda seed: IForest(random_state=seed),
    "PyOD PCA": lambda seed: PCA(random_state=seed),
}


def main() -> None:
    """Fit and score the detectors that are named."""
    folder, seed, *names = sys.argv[1:]
    torch.set_num_threads(1)
    with np.load(Path(folder) / "in.npz") as tables:
        train, test = tables["train"], tables["test"]
    for name in names:
        detector = DETECTORS[name](int(seed))
        started = time.perf_counter()
        detector.fit(train.copy())  # Some write into what they are given, and the next gets the same.
        fitted = time.perf_counter()
        # Some divide by what a constant column leaves at 0, and no measure takes an infinity.
        scores = np.nan_to_num(np.asarray(detector.decision_function(test.copy()), np.float64))
        seconds = np.array([fitted - started, time.perf_counter() - fitted])
        np.savez(Path(folder) / f"{name}.npz", scores=scores, seconds=seconds)


if __name__ == "__main__":
    main()
