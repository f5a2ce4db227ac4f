"""One process of a training of several, as torchrun begins it: what it computes is left in a file.

python -m tests.training.fitting.one_of_ranks FILE
"""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import torch

from bundle.record.fields import BooleanField, CategoricalField, ImageField, NumericField
from bundle.record.schema import ImageSchema, TableSchema
from training import modality
from training.config import FitConfig, NetworkConfig, ObjectiveConfig
from training.errors import NotANumber
from training.fitting.fit import Fit
from training.fitting.ranks import ALONE, Ranks, joined
from training.network.vae import VAE
from training.table.batch import Standardised

OBJECTIVES = {
    "elbo": ObjectiveConfig(),
    "free nats": ObjectiveConfig(beta=0.5, free_nats=0.0085, draws=2),
    "capacity": ObjectiveConfig(capacity=0.0364, beta=20.0),
    "importance-weighted": ObjectiveConfig(kind="importance-weighted", draws=3),
    "doubly-reparameterised": ObjectiveConfig(kind="doubly-reparameterised", draws=3),
    "forward-kl": ObjectiveConfig(kind="forward-kl", draws=3),
    "autoencoder": ObjectiveConfig(kind="autoencoder"),
}
"""Free nats and capacity lie between what the first weights give the shares of a batch, so that each share by itself
would have another gradient."""
ROWS, BATCH = 34, 16  # the last batch has two rows
NAMES = ("x0", "x1", "x2", "x3", "flag", "colour")


def fitting(
    objective: ObjectiveConfig, ranks: Ranks, config: FitConfig, exact: bool = False, contamination: float = 0.0
) -> Fit:
    numbers = tuple(NumericField(name=name, mean=0.0, scale=1.0, missing_rate=0.1) for name in NAMES[:4])
    others = (
        BooleanField(name="flag", missing_rate=0.1),
        CategoricalField(name="colour", vocabulary=("red", "green"), missing_rate=0.1),
    )
    torch.manual_seed(0)
    record = TableSchema(fields=(*numbers, *others))
    vae = modality.of(record).vae(
        NetworkConfig(hidden=(16,), latent_size=2), deterministic=objective.kind == "autoencoder"
    )
    train, validation = records(vae, ROWS, 1), records(vae, 11, 2)
    if exact:
        vae.double()
        train, validation = doubled(train), doubled(validation)
    return Fit(vae, train, validation, objective, config, names=NAMES, seed=3, contamination=contamination, ranks=ranks)


def records(vae: VAE, rows: int, seed: int) -> Standardised:
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, 2)) @ np.array([[1.0, 0.8, 0.0, 0.3], [0.0, 0.5, 1.0, -0.7]])
    numbers[random.random(numbers.shape) < 0.1] = np.nan
    codes = {"boolean": random.integers(-1, 2, (rows, 1), np.int8), "categorical": random.integers(-1, 3, (rows, 1))}
    given = {"numeric": numbers, **codes}
    return vae.standardise({kind: torch.from_numpy(values) for kind, values in given.items()})


def doubled(batch: Standardised) -> Standardised:
    return Standardised(*(part.double() if part.is_floating_point() else part for part in batch))


def gradients(ranks: Ranks) -> dict[str, torch.Tensor]:
    """Of the first batch and of the last by every objective, flat, before anything is shortened."""
    found = {}
    for name, objective in OBJECTIVES.items():
        for part, places in (("first", torch.arange(BATCH)), ("last", torch.arange(ROWS - ROWS % BATCH, ROWS))):
            fitted = fitting(objective, ranks, FitConfig(batch_size=BATCH, gradient_norm=1e9))
            fitted._step(1, places, 0.7)
            found[f"{name}, {part}"] = gradient(fitted)
    of_images = fitting_images(ranks)
    of_images._step(1, torch.arange(2), 0.7)
    return found | {"images, last": gradient(of_images)}


def gradient(fitted: Fit) -> torch.Tensor:
    parts = [parameter.grad.flatten() for parameter in fitted.parameters if parameter.grad is not None]
    return torch.cat(parts)


def fitting_images(ranks: Ranks) -> Fit:
    torch.manual_seed(0)
    record = ImageSchema(fields=(ImageField(name="image", height=8, width=8, channels=1),))
    vae = modality.of(record).vae(NetworkConfig(channels=(4,), latent_size=2))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8))
    batch = vae.standardise({"image": pixels})
    config = FitConfig(batch_size=4, gradient_norm=1e9)
    return Fit(vae, batch, batch, OBJECTIVES["free nats"], config, names=("image",), seed=3, ranks=ranks)


def trained(ranks: Ranks) -> dict[str, torch.Tensor]:
    """Weights and history after 21 steps in float64, some of them shortened."""
    found = {}
    cases = {**{name: (objective, 0.0) for name, objective in OBJECTIVES.items()}, "trimmed": (OBJECTIVES["elbo"], 0.2)}
    for name, (objective, contamination) in cases.items():
        config = FitConfig(epochs=7, batch_size=BATCH, gradient_norm=1.0)
        fitted = fitting(objective, ranks, config, exact=True, contamination=contamination)
        fitted.run()
        seen = [[e.log_likelihood, e.kl, e.effective_samples, e.validation_elbo] for e in fitted.history]
        found[f"{name}, history"] = torch.tensor(seen, dtype=torch.float64)
        found[f"{name}, weights"] = torch.cat([parameter.detach().flatten() for parameter in fitted.parameters])
    return found


def refusal(ranks: Ranks) -> str:
    """What is said of a NaN in the last row, which one process alone has."""
    fitted = fitting(OBJECTIVES["elbo"], ranks, FitConfig(epochs=1, batch_size=ROWS))
    assert isinstance(fitted.train, Standardised)
    fitted.train.numeric[-1, 2] = torch.nan
    try:
        fitted.run()
    except NotANumber as error:
        return str(error)
    return "nothing"


def main() -> None:
    """Compute everything, and leave it where the first process was told to."""
    torch.set_num_threads(1)
    with joined("cpu") if os.environ["WORLD_SIZE"] != "1" else contextlib.nullcontext(ALONE) as ranks:
        found = {"gradients": gradients(ranks), "trained": trained(ranks), "refusal": refusal(ranks)}
        if ranks.leads:
            torch.save(found, Path(sys.argv[1]))
    os._exit(0)  # as the command does


if __name__ == "__main__":
    main()
