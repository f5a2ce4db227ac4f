"""Beta: what a latent holds of a digit, and how faithfully the digit comes back.

    python -m benchmarks.studies.beta DATA [--budget small|full]

DATA holds `mnist.npz`; its levels are made black and white at the middle, so that the likelihood of a pixel is a
probability and rate and distortion are nats. One model for each beta, all else equal (dense, ten latent dimensions).

Reference:
    Higgins et al. 2017, "beta-VAE"; Alemi et al. 2018, "Fixing a broken ELBO", for rate and distortion; Burda et al.
    2016, section 5, for active dimensions.
"""

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.studies import figures, fitting, image_sets
from benchmarks.studies.arguments import parse, study
from benchmarks.studies.markdown import show
from training.fitting.model import Model
from training.image import encoder_decoder, gallery
from training.image.batch import Images
from training.network.posterior import kl_by_dimension

BETAS = (0.5, 1, 2, 4, 8, 16)
LATENT_SIZE = 10
ACTIVE = 0.01
"""Variance over images of a latent mean above which its dimension is active."""
TRAVERSED = 4


@dataclass(frozen=True)
class Budget:
    """Training images and epochs."""

    images: int
    epochs: int


BUDGETS = {"small": Budget(20_000, 20), "full": Budget(60_000, 100)}


def black_and_white(images: image_sets.Levels) -> image_sets.Levels:
    """Levels of 0 and 255 only."""
    return np.where(images > 127, 255, 0).astype(np.uint8)


@torch.no_grad()
def dimensions(model: Model, images: image_sets.Levels) -> tuple[int, np.ndarray]:
    """How many latent dimensions are active, and all of them in the order of their KL, largest first."""
    posterior = model.scorer.vae.posterior(Images(torch.from_numpy(images)))
    active = int((posterior.mean.var(dim=0) > ACTIVE).sum())
    return active, np.argsort(-kl_by_dimension(posterior).mean(dim=0).numpy(), kind="stable")


def main() -> None:
    """Train a model for each beta; print rate and distortion, draw them and the traversals."""
    arguments = parse(__doc__, "mnist.npz")
    budget = BUDGETS[arguments.budget]
    digits = image_sets.read(arguments.data, "mnist")
    train, test = black_and_white(digits.train[: budget.images]), black_and_white(digits.test)
    rows, sheets, curve = [], [], []
    with study("Beta on black-and-white MNIST"):
        for beta in BETAS:
            content = {
                "seed": arguments.seed,
                "network": {"kind": "dense", "hidden": (400, 200), "latent_size": LATENT_SIZE},
                "objective": {"beta": beta},
                "fit": {"epochs": budget.epochs, "batch_size": 128, "patience": budget.epochs},
            }
            model, _ = fitting.fit(train, content, "bernoulli", arguments.device)
            distortion, rate = fitting.nats(model, test)
            active, order = dimensions(model, test)
            rows.append([f"{beta:g}", f"{rate:.1f}", f"{distortion:.1f}", f"{rate + distortion:.1f}", active])
            curve.append((rate, distortion))
            seen = encoder_decoder.of_network(model.scorer.vae)
            sheet = figures.sheet(gallery.traversals(seen, test[0], order[:TRAVERSED]))
            sheets.append((f"beta {beta:g}: rate {rate:.1f} nats, {active} of {LATENT_SIZE} active", sheet))
        columns = ("beta", "rate: KL, nats", "distortion, nats", "negative ELBO, nats", "active dimensions")
        show(columns, rows)
    with figures.drawing(arguments.pictures / "beta.svg", 6, 4) as figure:
        axes = figure.subplots()
        axes.plot(*zip(*curve, strict=True), marker="o")
        for beta, point in zip(BETAS, curve, strict=True):
            axes.annotate(f"beta {beta:g}", point, xytext=(6, 4), textcoords="offset points")
        axes.margins(x=0.15)
        axes.set(
            title="Rate and distortion of test digits, by beta", xlabel="rate: KL, nats", ylabel="distortion, nats"
        )
        axes.grid(visible=True)
    with figures.drawing(arguments.pictures / "beta_traversals.png", 11, 4.9) as figure:
        for axes, (title, sheet) in zip(figure.subplots(3, 2).flat, sheets, strict=True):
            figures.images(axes, sheet, title)


if __name__ == "__main__":
    main()
