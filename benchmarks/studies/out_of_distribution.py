"""Foreign images: which scores tell them from those that a model was trained on, and what mends the one that fails.

    python -m benchmarks.studies.out_of_distribution DATA [--budget small|full] [--svhn FILE.npz]

DATA holds `fashion_mnist.npz`, `mnist.npz`, `cifar10.npz`, `svhn100.npz`, `gtsrb.npz` and `textures.npz`; the hundred
crops of SVHN there give an AUROC to about 0.03, `--svhn` takes all of them. Models have the product's defaults and are
scored by their exported graph. Coloured MNIST are digits on a board of 32 by 32, blended between two random colours;
low contrast is 127 + 0.35 (x - 127) of a model's own test images. The default score was chosen with the pairs
marked * in sight; the others were first looked at here.

CIFAR-10 and SVHN's crops in that folder went through JPEG and the textures were resized: part of what tells them may be
compression, not content. The questions vary the maps of the convolutions, the depth and 32 latent dimensions being the
same, on fewer images. Intervals are over images; another training would differ, too.

Reference:
    Nalisnick et al. 2019, "Do deep generative models know what they don't know?"; Efron & Tibshirani 1993, chapter 13,
    for the intervals.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.studies import figures, fitting, image_sets
from benchmarks.studies.arguments import Arguments, parse, study
from benchmarks.studies.markdown import show
from bundle.record.schema import RecordSchema
from training.evaluation.measures import detection, measures
from training.export import graphs, runs
from training.fitting.model import Model

Levels = npt.NDArray[np.uint8]
Scores = dict[str, npt.NDArray[np.float64]]

SAMPLES = 16
DEFAULT = "combined"
SCORES = (
    "combined",
    "elbo",
    "reconstruction",
    "iwae",
    "expected_log_likelihood",
    "complexity",
    "typicality",
    "texture",
    "neighbours",
)
LIKELIHOOD = "discretised-logistic"
NAMES = {"fashion_mnist": "FashionMNIST", "mnist": "MNIST", "cifar10": "CIFAR-10", "gtsrb": "traffic signs"}
FILES = ("fashion_mnist.npz", "mnist.npz", "cifar10.npz", "svhn100.npz", "gtsrb.npz", "textures.npz")
CLASSIC = {"fashion_mnist": "MNIST *", "cifar10": "SVHN *"}
QUESTIONS: dict[str, dict[str, Any]] = {
    "8 and 16 maps": {"network": {"channels": (8, 16)}},
    "16 and 32 maps": {"network": {"channels": (16, 32)}},
    "32 and 64 maps": {"network": {"channels": (32, 64)}},
    "16 and 32 maps, forward KL": {"network": {"channels": (16, 32)}, "objective": {"kind": "forward-kl", "draws": 4}},
    "16 and 32 maps, IWAE": {
        "network": {"channels": (16, 32)},
        "objective": {"kind": "importance-weighted", "draws": 4},
    },
}


@dataclass(frozen=True)
class Budget:
    """How much is spent.

    Args:
        epochs: By training set.
        images: Training images of each set, at most.
        tested: Test images of each set, at most.
        asked_images: Training images of the models of the questions.
        asked_epochs: Their epochs.
    """

    epochs: dict[str, int]
    images: int
    tested: int
    asked_images: int
    asked_epochs: int


BUDGETS = {
    "small": Budget({"fashion_mnist": 10, "mnist": 6, "cifar10": 8, "gtsrb": 20}, 30_000, 1000, 4000, 6),
    "full": Budget({"fashion_mnist": 60, "mnist": 40, "cifar10": 100, "gtsrb": 200}, 60_000, 10_000, 60_000, 40),
}
SIGNS_TRAINED = 1600


def grey(images: Levels) -> Levels:
    """The middle 28 by 28 of images (n, 32, 32, 3), without colour."""
    middle: Levels = np.round(images[:, 2:-2, 2:-2].mean(axis=-1, keepdims=True)).astype(np.uint8)
    return middle


def sets(name: str, arguments: Arguments) -> tuple[Levels, dict[str, Levels]]:
    """Training images, and by name what is scored: the model's own test images first, then foreign ones."""
    folder, seed = arguments.data, arguments.seed
    signs, textures = (image_sets.foreign(folder / f"{each}.npz") for each in ("gtsrb", "textures"))
    svhn = image_sets.foreign(arguments.svhn or folder / "svhn100.npz")
    if name == "gtsrb":
        order = np.random.default_rng(seed).permutation(len(signs))
        train, test = signs[order[:SIGNS_TRAINED]], signs[order[SIGNS_TRAINED:]]
        cifar = image_sets.read(folder, "cifar10").test
        return train, {"own": test, "CIFAR-10": cifar, "SVHN": svhn, "textures": textures}
    own = image_sets.read(folder, name)
    found = {"own": own.test, "low contrast *": image_sets.low_contrast(own.test)}
    if name == "cifar10":
        digits = image_sets.coloured(image_sets.read(folder, "mnist").test, seed)
        noise = np.random.default_rng(seed).integers(0, 256, own.test.shape, np.uint8)
        foreign = {"SVHN *": svhn, "traffic signs *": signs, "textures *": textures, "coloured MNIST *": digits}
        return own.train, {**found, **foreign, "uniform noise": noise}
    other, label = ("mnist", "MNIST *") if name == "fashion_mnist" else ("fashion_mnist", "FashionMNIST *")
    foreign = {label: image_sets.read(folder, other).test, "signs, grey": grey(signs), "textures, grey": grey(textures)}
    return own.train, {**found, **foreign}


def scored(fitted: Model, record: RecordSchema, images: dict[str, Levels], most: int) -> dict[str, Scores]:
    """Every score of every set by the exported graph, higher = stranger."""
    session = runs.session(graphs.export(fitted.scorer, record).scorer, torch.get_num_threads())
    signs = {each.name: (each.output, each.sign) for each in fitted.scores}
    found: dict[str, dict[str, npt.NDArray[np.float64]]] = {}
    for name, levels in images.items():
        outputs = runs.score(session, {"image": levels[:most]}, fitted.noise[:SAMPLES])
        found[name] = {score: sign * outputs[output].astype(np.float64) for score, (output, sign) in signs.items()}
    return found


def draw(arguments: Arguments, by_model: dict[str, dict[str, Scores]]) -> None:
    """The ELBO and the default score of every set, a row for each model."""
    with figures.drawing(arguments.pictures / "out_of_distribution.svg", 11, 3 * len(by_model)) as figure:
        for row, (name, found) in zip(figure.subplots(len(by_model), 2), by_model.items(), strict=True):
            for axes, score, unit in zip(
                row, ("elbo", DEFAULT), ("−ELBO, nats", "combined, robust deviations"), strict=True
            ):
                figures.histograms(axes, {each.rstrip(" *"): values[score] for each, values in found.items()})
                axes.set(title=f"Trained on {NAMES[name]}", xlabel=f"{unit}: stranger to the right", yticks=())
                axes.spines["left"].set_visible(False)
            row[0].legend(fontsize=8)


def ask(name: str, arguments: Arguments) -> list[list[object]]:
    """What more capacity and other objectives do to the ELBO's failure: a row for each model."""
    budget = BUDGETS[arguments.budget]
    train, images = sets(name, arguments)
    wanted = {each: images[each] for each in ("own", CLASSIC[name])}
    rows: list[list[object]] = []
    for title, content in QUESTIONS.items():
        fit = {"epochs": budget.asked_epochs, "batch_size": 64, "patience": budget.asked_epochs}
        model, record = fitting.fit(
            train[: budget.asked_images], {"seed": arguments.seed, "fit": fit, **content}, LIKELIHOOD, arguments.device
        )
        own, foreign = scored(model, record, wanted, budget.tested).values()
        areas = [interval(own[score], foreign[score]) for score in ("elbo", "iwae", DEFAULT)]
        rows.append([NAMES[name], title, f"{own['elbo'].mean():,.0f}", f"{foreign['elbo'].mean():,.0f}", *areas])
    return rows


def interval(own: npt.NDArray[np.float64], foreign: npt.NDArray[np.float64]) -> str:
    """AUROC and where it lies 19 times in 20, by bootstrap over images."""
    area = measures(own, foreign)["auroc"]
    return f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f})"


def main() -> None:
    """Train, score, and print every AUROC; then the questions."""
    arguments = parse(__doc__, *FILES)
    budget = BUDGETS[arguments.budget]
    by_model: dict[str, dict[str, Scores]] = {}
    with study("Foreign images: AUROC of every score"):
        for name, epochs in budget.epochs.items():
            started = time.perf_counter()
            train, images = sets(name, arguments)
            fit = {"epochs": epochs, "batch_size": 128, "patience": epochs}
            train = train[: budget.images]
            model, record = fitting.fit(train, {"seed": arguments.seed, "fit": fit}, LIKELIHOOD, arguments.device)
            seconds = time.perf_counter() - started
            by_model[name] = found = scored(model, record, images, budget.tested)
            own, foreign = found["own"], {each: values for each, values in found.items() if each != "own"}
            said = f"{len(train):,} images of {NAMES[name]} in {seconds:.0f} s"
            print(f"\nTrained on {said}; −ELBO {own['elbo'].mean():,.1f} nats")
            show(
                ("score", *foreign),
                [
                    [score, *(detection(own[score], each[score])["auroc"] for each in foreign.values())]
                    for score in SCORES
                ],
            )
            for each, values in foreign.items():
                found_by_default = interval(own[DEFAULT], values[DEFAULT])
                print(f"{DEFAULT}, {each}: {found_by_default}, {len(values[DEFAULT])} images")
        draw(arguments, by_model)
        columns = ("trained on", "model", "−ELBO: own", "foreign", "AUROC: −ELBO", "IWAE", DEFAULT)
        show(columns, [row for name in CLASSIC for row in ask(name, arguments)])


if __name__ == "__main__":
    main()
