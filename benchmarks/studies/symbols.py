"""Symbols: scenes of circles and squares on a board of 2 by 2, read from the latent map of a VAE without any label.

    python -m benchmarks.studies.symbols DATA [--budget small|full]

DATA is not read: scenes are drawn here. Each cell of the board is empty or holds a circle or a square, as wide and high
as the circle, in the cell's middle; and once more with symbols moved by up to a pixel either way. A fully convolutional
VAE, trained on unlabelled scenes, has a latent map of 2 by 2; k-means with three centres over the cells of the training
scenes makes symbols of them. Labels only name the three clusters, one to one, and count what is right in fresh scenes.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from benchmarks.studies import fitting, pictures
from benchmarks.studies.arguments import Arguments, parse, study
from benchmarks.studies.table import show
from training.images import Images
from training.model import Model

Levels = npt.NDArray[np.uint8]

SYMBOLS = ("empty", "circle", "square")
BOARD = 2
CELL = 16
"""Pixels a side."""
RADIUS = 5.0
MOVED = {"in the middle": 0.0, "moved by up to a pixel": 1.0}
TESTED = 1000
SCENES = (25, 50, 100, 200, 400)
STEPS = 1500
BATCH = 32
SEEDS = {"small": 1, "full": 10}
"""Each with training scenes of its own."""
SHOWN = 100
"""Training scenes of the model whose reading is shown."""


def draw(scenes: int, moved: float, random: np.random.Generator) -> tuple[Levels, npt.NDArray[np.int64]]:
    """Scenes (n, 32, 32, 1), and what each cell holds, (n, 2, 2): an index of `SYMBOLS`."""
    truth = random.integers(0, len(SYMBOLS), (scenes, BOARD, BOARD))
    centre = (CELL - 1) / 2 + random.uniform(-moved, moved, (2, *truth.shape, 1))
    down, across = np.abs(np.arange(CELL) - centre)
    down, across = down[..., :, None], across[..., None, :]
    kind = truth[..., None, None]
    distance = np.where(kind == SYMBOLS.index("circle"), np.hypot(down, across), np.maximum(down, across))
    cells = np.round(255.0 * np.clip(RADIUS - distance + 0.5, 0.0, 1.0) * (kind > 0)).astype(np.uint8)
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


def learn(scenes: int, moved: float, seed: int, arguments: Arguments) -> npt.NDArray[np.int64]:
    """What a model of so many scenes reads in the fresh ones, (n, 2, 2)."""
    seen, _ = draw(scenes, moved, np.random.default_rng(seed))
    batch = min(scenes, BATCH)
    network = {"kind": "fully-convolutional", "channels": (32, 32, 32, 32), "latent_size": 2}
    epochs = STEPS * batch // scenes
    fit = {"epochs": epochs, "batch_size": batch, "learning_rate": 3e-3, "patience": epochs}
    content = {"seed": seed, "network": network, "fit": fit}
    model, _ = fitting.fit(seen, content, "bernoulli", arguments.device)
    fresh, truth = fresh_scenes(moved)
    return named(read(model, seen, fresh, seed), truth)


def fresh_scenes(moved: float) -> tuple[Levels, npt.NDArray[np.int64]]:
    """Scenes that no model has seen, the same for all."""
    return draw(TESTED, moved, np.random.default_rng(10_000))


def main() -> None:
    """Train with few scenes and with more, and print how many cells are read right."""
    arguments = parse(__doc__)
    fresh, _ = fresh_scenes(0.0)
    rows = []
    with study("Symbols read from a latent map"):
        for scenes in SCENES:
            row: list[object] = [scenes]
            for moved in MOVED.values():
                _, truth = fresh_scenes(moved)
                found = [learn(scenes, moved, seed, arguments) for seed in range(SEEDS[arguments.budget])]
                row.append(float(np.mean([symbols == truth for symbols in found])))
                if (scenes, moved) == (SHOWN, 0.0):
                    shown = found[0]
            rows.append(row)
        show(("training scenes", *(f"cells right, {name}" for name in MOVED)), rows)
        print(f"\nThe first of the fresh scenes as a table, from {SHOWN} training scenes:")
        table = [
            [scene + 1, f"row {row + 1}, column {column + 1}", SYMBOLS[shown[scene, row, column]]]
            for scene in range(2)
            for row in range(BOARD)
            for column in range(BOARD)
        ]
        show(("scene", "location", "type"), table)
    with pictures.drawing(arguments.pictures / "symbols.png", 9, 1.9) as figure:
        for axes, scene, symbols in zip(figure.subplots(1, 6), fresh, shown, strict=False):
            pictures.images(axes, scene, "\n".join(", ".join(SYMBOLS[each] for each in line) for line in symbols))


if __name__ == "__main__":
    main()
