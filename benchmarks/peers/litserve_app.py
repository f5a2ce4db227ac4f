"""The graph behind LitServe: `litserve_app.py PORT`. One record a request is batched; more come as one array."""

import os
import sys
from typing import Any

import litserve
import numpy as np
import numpy.typing as npt
from graph import Columns, Graph


class ScorerAPI(litserve.LitAPI):
    """Decodes, scores and encodes a request."""

    def setup(self, device: str) -> None:
        """Open the session, in each worker."""
        self._graph = Graph()

    def decode_request(self, request: dict[str, Any]) -> npt.NDArray[np.float64]:
        """Records (B, 30)."""
        return np.array(request["records"], np.float64)

    def batch(self, inputs: list[npt.NDArray[np.float64]]) -> tuple[list[int], npt.NDArray[np.float64]]:
        """Several requests as one array, and where each ends."""
        return np.cumsum([len(rows) for rows in inputs])[:-1].tolist(), np.concatenate(inputs)

    def predict(self, batch: tuple[list[int], npt.NDArray[np.float64]]) -> tuple[list[int], Columns]:
        """Run the graph."""
        ends, rows = batch
        return ends, self._graph.run(rows)

    def unbatch(self, output: tuple[list[int], Columns]) -> list[Columns]:
        """Each request's own rows."""
        ends, columns = output
        parts = {name: np.split(values, ends) for name, values in columns.items()}
        return [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]

    def encode_response(self, output: Columns) -> dict[str, Any]:
        """Columns as lists."""
        return {name: values.tolist() for name, values in output.items()}


if __name__ == "__main__":
    api = ScorerAPI(max_batch_size=64, batch_timeout=0.001, api_path="/score")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
