"""One of PyOD's detectors with its defaults, for benchmarks/detection.py; runs in a virtual environment that has pyod.

    python detectors.py IN.npz OUT.npz SEED NAME

IN holds `train` (n, d) and `test` (m, d), standardised; OUT gets (m,) `scores` and the two `seconds`, to fit and to
score.
"""

import sys
import time
from collections.abc import Callable
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
    """Fit and score the detector that is named."""
    source, target, seed, name = sys.argv[1:]
    torch.set_num_threads(1)
    with np.load(source) as tables:
        train, test = tables["train"], tables["test"]
    started = time.perf_counter()
    detector = DETECTORS[name](int(seed))
    detector.fit(train)
    fitted = time.perf_counter()
    # Some divide by what a constant column leaves at 0, and no measure takes an infinity.
    scores = np.nan_to_num(np.asarray(detector.decision_function(test), np.float64))
    np.savez(target, scores=scores, seconds=np.array([fitted - started, time.perf_counter() - fitted]))


if __name__ == "__main__":
    main()
