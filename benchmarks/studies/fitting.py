"""A model of images, trained as the product trains it, without calibration and bundle."""

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from bundle.record.schema import RecordSchema
from training import config
from training.data import schema
from training.data.image_files import COLUMN, column
from training.data.read import Data
from training.fitting import model
from training.fitting.model import Model
from training.fitting.progress import Progress

Levels = npt.NDArray[np.uint8]

_VALIDATION_SHARE = 0.1
_MOST_VALIDATION = 2000


def fit(images: Levels, content: dict[str, Any], likelihood: str, device: torch.device) -> tuple[Model, RecordSchema]:
    """Train on images, a tenth of which stops the training.

    Args:
        images: (n, H, W, C) of normal images.
        content: The configuration, as TOML gives it.
        likelihood: Of a pixel.
        device: Where to train.
    """
    settings = config.build({**content, "fields": [{"name": COLUMN, "kind": "image", "likelihood": likelihood}]})
    assert settings.fields is not None
    data = Data("images", "", pa.table({COLUMN: column(images)}))
    rows = np.random.default_rng(settings.seed).permutation(len(images))
    held_out = min(_MOST_VALIDATION, max(1, round(_VALIDATION_SHARE * len(images))))
    train, validation = np.sort(rows[held_out:]), np.sort(rows[:held_out])
    record = schema.fit(data, train, settings.fields, settings)
    return model.fit(data, record, train, validation, settings, device, report=progress), record


def progress(epoch: Progress) -> None:
    """Say on standard error how far a training is."""
    print(f"epoch {epoch.epoch} of {epoch.epochs}: validation ELBO {epoch.validation_elbo:.2f} nats", file=sys.stderr)


def scores(fitted: Model, images: Levels, samples: int = 16) -> dict[str, npt.NDArray[np.float32]]:
    """Every anomaly score of images (n, H, W, C), (n,) each, higher = stranger."""
    return fitted.anomaly_scores({"image": images}, samples)


def nats(fitted: Model, images: Levels, samples: int = 16) -> tuple[float, float]:
    """Means over images of -1/L sum_l log p(x|z_l) and of the KL."""
    found = scores(fitted, images, samples)
    distortion = float(found["expected_log_likelihood"].mean())
    return distortion, float(found["elbo"].mean()) - distortion if "elbo" in found else math.nan
