"""Anomaly scores from variational autoencoders: train a model, score records, serve it over HTTP."""

from importlib.metadata import version

from surprisal import beside

beside.require()

from surprisal.model import Model, load  # noqa: E402
from surprisal.training import train  # noqa: E402

__all__ = ["Model", "__version__", "load", "train"]

__version__ = version("surprisal-vae")
