"""The exported scorer's operators: none that ONNX Runtime is slow at, none that CUDA has no kernel for."""

import onnx
import pytest
import torch

from tests.training.export.test_parity import MIXED, build, ordinary
from training.export.graphs import export
from training.network.scores import ScoringNetwork
from training.table.components import Components

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def graph() -> onnx.GraphProto:
    vae = build(MIXED).eval()
    # As many as fill a coreset, so that the graph is one that others export, too.
    batch = vae.standardise({kind: torch.from_numpy(values) for kind, values in ordinary(MIXED, 1100).items()})
    scorer = ScoringNetwork(vae, Components(vae, batch, batch, torch.randn(4, 3), seed=0))
    return onnx.load_from_string(export(scorer, MIXED).scorer).graph


def test_the_scorer_does_without_operators_that_take_many_times_as_long_as_others(graph: onnx.GraphProto) -> None:
    assert not {node.op_type for node in graph.node} & {"Softplus", "GatherElements", "Expand", "Tile"}


def test_small_integers_are_cast_first(graph: onnx.GraphProto) -> None:
    """CUDA has no other kernel for them: ONNX Runtime would copy them to the CPU and back."""
    small = {given.name for given in graph.input if given.type.tensor_type.elem_type == onnx.TensorProto.INT8}
    assert small == {"boolean"}
    assert {node.op_type for node in graph.node if small & set(node.input)} <= {"Cast", "Shape"}
