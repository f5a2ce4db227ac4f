"""Anomaly scores from variational autoencoders: train a model, score records, serve it over HTTP."""

from importlib.metadata import version

from surprisal import beside

beside.require()

from surprisal.dataset import score_dataset  # noqa: E402
from surprisal.model import Model, load  # noqa: E402
from surprisal.training import train  # noqa: E402

__all__ = ["Model", "__version__", "load", "score_dataset", "train"]

__version__ = version("surprisal-vae")
