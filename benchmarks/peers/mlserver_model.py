"""The graph as a custom runtime of MLServer, by its own codec for tensors."""

from graph import Graph
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class ScorerModel(MLModel):
    """Named as `implementation` in model-settings.json."""

    async def load(self) -> bool:
        """Open the session."""
        self._graph = Graph()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score the records of the first input."""
        columns = self._graph.run(NumpyCodec.decode_input(payload.inputs[0]))
        outputs = [NumpyCodec.encode_output(name, values) for name, values in columns.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)
