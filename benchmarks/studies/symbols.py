"""Symbols: scenes of circles and squares on a board of 2 by 2, read from the latent map of a VAE without any label.

    python -m benchmarks.studies.symbols DATA [--budget small|full]

DATA is not read: scenes are drawn here. Each cell of the board is empty or holds a circle or a square of random size,
place and shade. A fully convolutional VAE, trained on unlabelled scenes, has a latent map of 2 by 2; k-means with three
centres over the cells of the training scenes makes symbols of them. Labels only name the three clusters, one to one,
and count what is right in fresh scenes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from benchmarks.studies import fitting, pictures
from benchmarks.studies.arguments import parse, study
from benchmarks.studies.table import show
from training.images import Images
from training.model import Model

Levels = npt.NDArray[np.uint8]

SYMBOLS = ("empty", "circle", "square")
BOARD = 2
CELL = 16
"""Pixels a side."""
TESTED = 1000
SCENES = (25, 50, 100, 200, 400)
STEPS = 3000


@dataclass(frozen=True)
class Budget:
    """Seeds, each with training scenes of its own."""

    seeds: int


BUDGETS = {"small": Budget(2), "full": Budget(10)}


def draw(scenes: int, random: np.random.Generator) -> tuple[Levels, npt.NDArray[np.int64]]:
    """Scenes (n, 32, 32, 1), and what each cell holds, (n, 2, 2): an index of `SYMBOLS`."""
    truth = random.integers(0, len(SYMBOLS), (scenes, BOARD, BOARD))
    radius = random.uniform(4.0, 6.0, truth.shape)
    centre = (CELL - 1) / 2 + random.uniform(-1.5, 1.5, (2, *truth.shape))
    shade = random.uniform(160.0, 255.0, truth.shape)
    down, across = (np.abs(np.arange(CELL) - each[..., None]) for each in centre)
    down, across = down[..., :, None], across[..., None, :]
    # A square and a circle of equal area cannot be told by how much is white.
    distance = np.where(
        (truth == 1)[..., None, None], np.hypot(down, across), np.maximum(down, across) * 2 / np.sqrt(np.pi)
    )
    inside = np.clip(radius[..., None, None] - distance + 0.5, 0.0, 1.0) * (truth > 0)[..., None, None]
    cells = np.round(shade[..., None, None] * inside).astype(np.uint8)
    side = BOARD * CELL
    return cells.transpose(0, 1, 3, 2, 4).reshape(scenes, side, side, 1), truth


@torch.no_grad()
def cells(model: Model, scenes: Levels) -> npt.NDArray[np.float64]:
    """(n * 4, maps): the latent mean of each cell."""
    mean = model.scorer.vae.posterior(Images(torch.from_numpy(scenes))).mean
    return mean.reshape(len(scenes), -1, BOARD * BOARD).transpose(1, 2).flatten(0, 1).double().numpy()


def read(model: Model, seen: Levels, fresh: Levels, seed: int) -> npt.NDArray[np.int64]:
    """(n, 2, 2) cluster of each cell of fresh scenes; clusters are made of the scenes that were seen."""
    known = cells(model, seen)
    scale = known.std(axis=0).max()
    clusters = KMeans(len(SYMBOLS), n_init=10, random_state=seed).fit(known / scale)
    return clusters.predict(cells(model, fresh) / scale).reshape(len(fresh), BOARD, BOARD)


def named(clusters: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The clusters under the names that fit best, each name once."""
    counts = np.array([[np.sum((clusters == each) & (truth == name)) for name in range(3)] for each in range(3)])
    return linear_sum_assignment(-counts)[1][clusters]


def main() -> None:
    """Train with few scenes and with more, and print how many cells are read right."""
    arguments = parse(__doc__)
    budget = BUDGETS[arguments.budget]
    fresh, truth = draw(TESTED, np.random.default_rng(10_000))
    rows, shown = [], None
    with study("Symbols read from a latent map"):
        for scenes in SCENES:
            right = []
            for seed in range(budget.seeds):
                seen, _ = draw(scenes, np.random.default_rng(seed))
                batch = min(scenes, 32)
                content = {
                    "seed": seed,
                    "network": {"kind": "fully-convolutional", "channels": (16, 16, 16, 32), "latent_size": 4},
                    "fit": {"epochs": STEPS * batch // scenes, "batch_size": batch, "patience": 10_000},
                }
                model, _ = fitting.fit(seen, content, "bernoulli", arguments.device)
                symbols = named(read(model, seen, fresh, seed), truth)
                right.append(float((symbols == truth).mean()))
                if scenes == 100 and shown is None:
                    shown = symbols
            rows.append([scenes, float(np.mean(right)), min(right), max(right)])
        show(("training scenes", "cells right", "least", "most"), rows)
        assert shown is not None
        print("\nThe first of the fresh scenes as a table, from 100 training scenes:")
        table = [
            [scene, f"row {row + 1}, column {column + 1}", SYMBOLS[shown[scene, row, column]]]
            for scene in range(2)
            for row in range(BOARD)
            for column in range(BOARD)
        ]
        show(("scene", "location", "type"), table)
    with pictures.drawing(arguments.pictures / "symbols.png", 9, 2.2) as figure:
        for axes, scene, symbols in zip(figure.subplots(1, 6), fresh, shown, strict=False):
            pictures.images(axes, scene, "\n".join(", ".join(SYMBOLS[each] for each in line) for line in symbols))


if __name__ == "__main__":
    main()
