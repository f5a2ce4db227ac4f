"""The graph behind BentoML with its adaptive batching: `bentoml serve bentoml_service:Scorer`."""

import os

import bentoml
import numpy as np
import numpy.typing as npt
from graph import Graph

QUIET = {"metrics": {"enabled": False}, "logging": {"access": {"enabled": False}}}


@bentoml.service(workers=int(os.environ["WORKERS"]), **QUIET)
class Scorer:
    """Answers `POST /score` with a row of scores and latent means for each record."""

    def __init__(self) -> None:
        self._graph = Graph()

    @bentoml.api(batchable=True, max_batch_size=10_000, max_latency_ms=30_000)
    def score(self, records: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Score records (B, 30)."""
        columns = self._graph.run(records)
        return np.concatenate([values.reshape(len(records), -1) for values in columns.values()], axis=1)
