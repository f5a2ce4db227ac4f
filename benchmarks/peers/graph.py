"""The bundle's graph as every server of this folder runs it; the environment says where it is and on how many threads.

This folder stands for itself: its files run in virtual environments that know nothing of the product.
"""

import os

import numpy as np
import numpy.typing as npt
import onnxruntime

Columns = dict[str, npt.NDArray[np.float32]]


class Graph:
    """A session on `$GRAPH` with the first `$SAMPLES` rows of `$NOISE`."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        options.inter_op_num_threads = 1
        # Threads that spin between runs would take the core that the server itself, and the load, need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(os.environ["GRAPH"], options, providers=["CPUExecutionProvider"])
        self._noise = np.load(os.environ["NOISE"])[: int(os.environ["SAMPLES"])]
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, numeric: npt.NDArray[np.float64]) -> Columns:
        """Scores of records (B, 30), by name, B rows each."""
        answer = self._session.run(self._names, {"numeric": numeric, "noise": self._noise})
        return dict(zip(self._names, answer, strict=True))
