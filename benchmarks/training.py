"""What the training loop costs beside a bare one: the same network, data and loss, in one run.

    python benchmarks/training.py [--rows 50000] [--fields 30] [--epochs 4] [--repeats 5]

The bare loop is what one would write by hand: the network's input ready in memory, a permutation, forward, ELBO,
backward, Adam. Ours adds standardised data with masks, the KL warm-up, gradient clipping, the learning-rate schedule,
the check for NaN, validation after every epoch and checkpoints. The two take turns; the figure is the median of the
ratios.
"""

import argparse
import math
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

# As a script, this file would stand in for the package of its name.
sys.path[0] = str(Path(__file__).parents[1])

import training  # noqa: F401, I001 - before torch, whose threads it sets

import numpy as np
import torch

from bundle.record.fields import NumericField
from bundle.record.schema import TableSchema
from training.config import FitConfig, NetworkConfig, ObjectiveConfig
from training.fitting.checkpoint import Checkpoint
from training.fitting.fit import Fit
from training.table.batch import Standardised
from training.table.vae import TableVAE
from training import modality

BATCH = 512


def _names(fields: int) -> list[str]:
    return [f"x{index}" for index in range(fields)]


def make(rows: int, fields: int) -> tuple[TableVAE, Standardised, Standardised]:
    """A default network, and correlated normal data in memory; a tenth of it for validation."""
    schema = TableSchema(
        fields=tuple(NumericField(name=name, mean=0.0, scale=1.0, missing_rate=1e-6) for name in _names(fields))
    )
    torch.manual_seed(0)
    vae = modality.of(schema).vae(NetworkConfig())
    random = np.random.default_rng(0)
    values = random.normal(size=(rows, 8)) @ random.normal(size=(8, fields)) / 3 + 0.3 * random.normal(
        size=(rows, fields)
    )
    batch = vae.standardise({"numeric": torch.from_numpy(values)})
    cut = rows // 10
    return vae, batch.take(torch.arange(cut, rows)), batch.take(torch.arange(cut))


def ours(rows: int, fields: int, epochs: int) -> float:
    """Records a second of `Fit.run`, validation and checkpoints included."""
    vae, train, validation = make(rows, fields)
    config = FitConfig(epochs=epochs, batch_size=BATCH, patience=epochs)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "last.pt")
        fit = Fit(
            vae, train, validation, ObjectiveConfig(), config, names=_names(fields), seed=0, checkpoint=checkpoint
        )
        started = time.perf_counter()
        fit.run()
        return epochs * fit.rows / (time.perf_counter() - started)


def bare(rows: int, fields: int, epochs: int) -> float:
    """Records a second of a loop written by hand."""
    vae, train, _ = make(rows, fields)
    inputs, values = vae.preprocess(train), train.numeric
    low, span = vae.likelihood.numeric.low, vae.likelihood.numeric.span
    adam = torch.optim.Adam(vae.parameters(), lr=1e-3, fused=True)
    started = time.perf_counter()
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(values)), BATCH):
            x = values[chosen]
            mean, log_variance = vae.encoder(inputs[chosen]).chunk(2, dim=-1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            location, free = vae.decoder(z).chunk(2, dim=-1)
            log_scale = low + span * torch.sigmoid(free)
            density = -0.5 * (math.log(2 * math.pi) + log_scale + (x - location).square() * torch.exp(-log_scale))
            kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=-1)
            loss = -(density.sum(dim=-1) - kl).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    return epochs * len(values) / (time.perf_counter() - started)


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--fields", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    size = (arguments.rows, arguments.fields, arguments.epochs)
    versions = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.platform()}, {versions}")
    ours(*size), bare(*size)
    pairs = [(ours(*size), bare(*size)) for _ in range(arguments.repeats)]
    for name, rates in zip(("ours", "bare"), zip(*pairs, strict=True), strict=True):
        print(f"{name}: {statistics.median(rates):,.0f} records/s (median of {arguments.repeats})")
    ratios = sorted(mine / by_hand for mine, by_hand in pairs)
    print(f"ours / bare: {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
