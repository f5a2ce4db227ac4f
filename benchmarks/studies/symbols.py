"""Symbols: scenes of circles and squares on a board of 2 by 2, read from the latent map of a VAE without any label.

    python -m benchmarks.studies.symbols DATA [--budget small|full]

DATA is not read: scenes are drawn here. Each cell of the board is empty or holds a circle or a square, as wide and high
as the circle, in the cell's middle; and once more with symbols moved by up to a pixel either way. A fully convolutional
VAE, trained on unlabelled scenes, has a latent map of 2 by 2; k-means with three centres over the cells of the training
scenes makes symbols of them. Labels only name the three clusters, one to one, and count what is right in fresh scenes.
Of symbols in the middle there are no more than 81 scenes: those that were not trained on are counted apart. Beside the
latent map stands the same k-means over the cells' pixels, without any network.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from benchmarks.studies import figures, fitting
from benchmarks.studies.arguments import Arguments, parse, study
from benchmarks.studies.markdown import show
from training.fitting.model import Model
from training.image.batch import Images

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


def pixels(scenes: Levels) -> npt.NDArray[np.float64]:
    """(n * 4, 256): the pixels of each cell."""
    tiles = scenes.reshape(len(scenes), BOARD, CELL, BOARD, CELL).transpose(0, 1, 3, 2, 4)
    return tiles.reshape(-1, CELL * CELL).astype(np.float64)


def read(seen: npt.NDArray[np.float64], fresh: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.int64]:
    """(n, 2, 2) cluster of each cell of n fresh scenes; clusters are made of the cells that were seen."""
    scale = seen.std(axis=0).max()
    clusters = KMeans(len(SYMBOLS), n_init=10, random_state=seed).fit(seen / scale)
    cells: npt.NDArray[np.int64] = clusters.predict(fresh / scale).reshape(-1, BOARD, BOARD)
    return cells


def named(clusters: npt.NDArray[np.int64], truth: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The clusters under the names that fit best, each name once."""
    counts = np.array([[np.sum((clusters == each) & (truth == name)) for name in range(3)] for each in range(3)])
    renamed: npt.NDArray[np.int64] = linear_sum_assignment(-counts)[1][clusters]
    return renamed


def learn(seen: Levels, seed: int, arguments: Arguments) -> Model:
    """A model of scenes."""
    batch = min(len(seen), BATCH)
    network = {"kind": "fully-convolutional", "channels": (32, 32, 32, 32), "latent_size": 2}
    epochs = STEPS * batch // len(seen)
    fit = {"epochs": epochs, "batch_size": batch, "learning_rate": 3e-3, "patience": epochs}
    model, _ = fitting.fit(seen, {"seed": seed, "network": network, "fit": fit}, "bernoulli", arguments.device)
    return model


@dataclass(frozen=True)
class Reading:
    """What one model, and pixels alone, read in the fresh scenes.

    Args:
        symbols: (n, 2, 2) by the latent map.
        right: Share of the cells that are right.
        right_in_new: The same of scenes that were not trained on, or None if there are none.
        new: Share of such scenes.
        right_by_pixels: Share of the cells that k-means over pixels has right.
    """

    symbols: npt.NDArray[np.int64]
    right: float
    right_in_new: float | None
    new: float
    right_by_pixels: float


def reading(scenes: int, moved: float, seed: int, arguments: Arguments) -> Reading:
    """Learn so many scenes and read the fresh ones."""
    seen, _ = draw(scenes, moved, np.random.default_rng(seed))
    fresh, truth = fresh_scenes(moved)
    model = learn(seen, seed, arguments)
    symbols = named(read(cells(model, seen), cells(model, fresh), seed), truth)
    by_pixels = named(read(pixels(seen), pixels(fresh), seed), truth)
    known = {scene.tobytes() for scene in seen}
    new = np.array([scene.tobytes() not in known for scene in fresh])
    right = symbols == truth
    in_new = float(right[new].mean()) if new.any() else None
    return Reading(symbols, float(right.mean()), in_new, float(new.mean()), float((by_pixels == truth).mean()))


def fresh_scenes(moved: float) -> tuple[Levels, npt.NDArray[np.int64]]:
    """Scenes drawn apart from those that are trained on, the same for all models."""
    return draw(TESTED, moved, np.random.default_rng(10_000))


def mean(values: list[float | None]) -> str:
    """The mean of what there is, with its standard error where there are several."""
    there = [value for value in values if value is not None]
    if not there:
        return ""
    error = f" ± {np.std(there, ddof=1) / np.sqrt(len(there)):.3f}" if len(there) > 1 else ""
    return f"{np.mean(there):.3f}{error}"


def main() -> None:
    """Train with few scenes and with more, and print how many cells are read right."""
    arguments = parse(__doc__)
    fresh, _ = fresh_scenes(0.0)
    seeds = range(arguments.seed, arguments.seed + SEEDS[arguments.budget])
    with study("Symbols read from a latent map"):
        for name, moved in MOVED.items():
            print(f"\nSymbols {name}: share of cells read right")
            rows = []
            for scenes in SCENES:
                found = [reading(scenes, moved, seed, arguments) for seed in seeds]
                rows.append(
                    (
                        scenes,
                        mean([each.right for each in found]),
                        mean([each.right_in_new for each in found]),
                        mean([each.new for each in found]),
                        mean([each.right_by_pixels for each in found]),
                    )
                )
                if (scenes, moved) == (SHOWN, 0.0):
                    shown = found[0].symbols
            columns = ("training scenes", "latent map", "in scenes not trained on", "share of these", "pixels alone")
            show(columns, rows)
        print(f"\nThe first of the fresh scenes as a table, from {SHOWN} training scenes:")
        table = [
            [scene + 1, f"row {row + 1}, column {column + 1}", SYMBOLS[shown[scene, row, column]]]
            for scene in range(2)
            for row in range(BOARD)
            for column in range(BOARD)
        ]
        show(("scene", "location", "type"), table)
    with figures.drawing(arguments.pictures / "symbols.png", 9, 1.9) as figure:
        for axes, scene, symbols in zip(figure.subplots(1, 6), fresh, shown, strict=False):
            figures.images(axes, scene, "\n".join(", ".join(SYMBOLS[each] for each in line) for line in symbols))


if __name__ == "__main__":
    main()
