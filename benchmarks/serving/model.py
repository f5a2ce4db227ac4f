"""The model that everything is measured on, and records for it: 30 numbers a record, 256-128, K = 16, L = 16 draws."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bundle.folder import store

NAME = "design"
FIELDS = tuple(f"x{index:02d}" for index in range(30))
SAMPLES = 16
FACTORS = 8  # what the fields have in common

Rows = npt.NDArray[np.float64]  # (B, 30)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def simulate(rows: int, seed: int) -> Rows:
    """Correlated normal data, (rows, 30)."""
    loadings = np.random.default_rng(0).normal(size=(FACTORS, len(FIELDS))) / 3
    random = np.random.default_rng(seed)
    return random.normal(size=(rows, FACTORS)) @ loadings + 0.3 * random.normal(size=(rows, len(FIELDS)))


def table(rows: Rows) -> pa.Table:
    """The rows as an Arrow table."""
    return pa.table({name: rows[:, column] for column, name in enumerate(FIELDS)})


def train(models: Path, rows: int = 4000, epochs: int = 3) -> None:
    """Train the model into a folder; its scores are worth nothing, its graph costs what a good one's does."""
    from training import config, pipeline
    from training.data.read import Data

    settings = config.build({"network": {"hidden": (256, 128), "latent_size": 16}, "fit": {"epochs": epochs}})
    data = Data("simulated", "0" * 64, table(simulate(rows, seed=1)))
    pipeline.train(data, models, NAME, settings, device="cpu")


def bundle_folder(models: Path) -> Path:
    """Where the served version's files are."""
    return models / NAME / str(store.served_version(models, NAME))


def prepared(models: Path | None, scratch: Path) -> Path:
    """The models folder to measure: the given one, or one trained now.

    Args:
        models: Holds the model from an earlier run, or None.
        scratch: Where to train otherwise.
    """
    if models is None:
        in_fresh_process(train, scratch)
        return scratch
    if not (models / NAME).is_dir():
        raise SystemExit(f"{models}: there is no model {NAME!r}; leave --models out to train one")
    return models


def in_fresh_process(
    work: Callable[_Arguments, _Result], *args: _Arguments.args, **options: _Arguments.kwargs
) -> _Result:
    """Call in a process of its own, so that its threads and libraries disturb no measurement."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(work, *args, **options).result()
