"""Autoencoders of MNIST, dense and fully convolutional: the binary cross-entropy that a test image costs, in nats.

    python -m benchmarks.studies.autoencoders DATA [--budget small|full]

DATA holds `mnist.npz`. Both networks are trained by the same code for 15 epochs on all training images but 2 000, which
tell the best epoch; both budgets are the same. Dense is 784-32-784; fully convolutional has 32 and 4 maps, pooling,
4 maps of 7 by 7 as the code with a convolution of 1 by 1 on either side of it, and the same backwards with up-sampling.
Optimiser, schedule and those convolutions are ours: what is published is of the same task and sizes, not of the same
recipe.
"""

import time

import numpy as np

from benchmarks.studies import figures, fitting, image_sets
from benchmarks.studies.arguments import parse, study
from benchmarks.studies.markdown import show
from training.image import encoder_decoder, gallery

EPOCHS = 15
BATCH = 64
NETWORKS = {
    "dense 784-32-784": ({"kind": "dense", "hidden": (), "latent_size": 32}, 71.94),
    "fully convolutional 32-4-4-32": (
        {"kind": "fully-convolutional", "channels": (32, 4), "latent_size": 4, "activation": "relu"},
        64.89,
    ),
}
SHOWN = 12


def main() -> None:
    """Train both and print what they reach."""
    arguments = parse(__doc__, "mnist.npz")
    digits = image_sets.read(arguments.data, "mnist")
    rows, sheets = [], []
    with study("Autoencoders of MNIST"):
        for name, (network, published) in NETWORKS.items():
            started = time.perf_counter()
            content = {
                "seed": arguments.seed,
                "network": network,
                "objective": {"kind": "autoencoder"},
                "fit": {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": 2e-3, "patience": EPOCHS},
            }
            model, _ = fitting.fit(digits.train, content, "bernoulli", arguments.device)
            seconds = time.perf_counter() - started
            cost = fitting.scores(model, digits.test)["expected_log_likelihood"]
            vae = model.scorer.vae
            parameters = sum(parameter.numel() for parameter in vae.parameters())
            error = float(cost.std(ddof=1) / np.sqrt(len(cost)))
            nats = [f"{cost.mean():.2f}", f"{error:.2f}", f"{published:.2f}"]
            rows.append([name, vae.latent_size, f"{parameters:,}", *nats, f"{seconds:.0f}"])
            sheets.append(
                (name, figures.sheet(gallery.reconstructions(encoder_decoder.of_network(vae), digits.test[:SHOWN])))
            )
        columns = ("network", "code", "parameters", "nats an image", "standard error", "published", "seconds")
        show(columns, rows)
    with figures.drawing(arguments.pictures / "autoencoders.png", 9, 4) as figure:
        for axes, (name, sheet) in zip(figure.subplots(len(sheets), 1), sheets, strict=True):
            figures.images(axes, sheet, f"{name}: test images above their reconstructions")


if __name__ == "__main__":
    main()
