"""The exported scorer's operators: none that ONNX Runtime is slow at, none that CUDA has no kernel for."""

import onnx
import pytest
import torch

from bundle.record.fields import BooleanField, CategoricalField, NumericField
from bundle.record.schema import TableSchema
from tests.training.export.test_parity import ordinary
from training import modality
from training.config import NetworkConfig
from training.export.graphs import export
from training.network.scores import ScoringNetwork
from training.table.components import Components

pytestmark = pytest.mark.slow

SCHEMA = TableSchema(
    fields=(
        NumericField(name="amount", missing_rate=0.1, mean=30.0, scale=8.0),
        NumericField(name="fixed", missing_rate=0.2, mean=0.0, scale=1.0, likelihood="fixed-gaussian"),
        BooleanField(name="new", missing_rate=0.05),
        CategoricalField(name="country", missing_rate=0.1, vocabulary=("SE", "NO", "DK")),
        CategoricalField(name="only", missing_rate=0.1, vocabulary=("one",)),
    )
)


@pytest.fixture(scope="module")
def graph() -> onnx.GraphProto:
    torch.manual_seed(0)
    vae = modality.of(SCHEMA).vae(NetworkConfig(hidden=(12, 8), latent_size=3)).eval()
    batch = vae.standardise({kind: torch.from_numpy(values) for kind, values in ordinary(SCHEMA, 100).items()})
    scorer = ScoringNetwork(vae, Components(vae, batch, batch, torch.randn(4, 3), seed=0))
    return onnx.load_from_string(export(scorer, SCHEMA).scorer).graph


def test_the_scorer_does_without_operators_that_take_many_times_as_long_as_others(graph: onnx.GraphProto) -> None:
    assert not {node.op_type for node in graph.node} & {"Softplus", "GatherElements", "Expand", "Tile"}


def test_small_integers_are_cast_first(graph: onnx.GraphProto) -> None:
    """CUDA has no other kernel for them: ONNX Runtime would copy them to the CPU and back."""
    small = {given.name for given in graph.input if given.type.tensor_type.elem_type == onnx.TensorProto.INT8}
    assert small == {"boolean"}
    assert {node.op_type for node in graph.node if small & set(node.input)} <= {"Cast", "Shape"}
