"""Whatever an exporter may do wrong is seen on ordinary records, in every graph, and beside extreme ones as well."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.training.export import faults
from tests.training.export.test_parity import GONE, MIXED, Exported, build, ordinary
from tests.training.export.with_extremes import with_extremes
from training.errors import ParityFailed
from training.export import runs
from training.export.explainer import ExportedExplainer
from training.export.parity import verify_encoder_and_decoder, verify_parity
from training.network.batch import Record
from training.network.noise import noise_table
from training.network.scores import ScoringNetwork

pytestmark = pytest.mark.slow

RECORDS = faults.records(MIXED)
NOISE = noise_table(3, 0)
GRAPHS = ("scorer", "explainer", "encoder", "decoder")
OF_RECORDS = GRAPHS[:3]
Fault = Callable[[bytes], bytes]
EVERYWHERE: dict[str, Fault] = {
    "first activation": lambda content: faults.relu_for_silu(content, 0),
    "last activation": lambda content: faults.relu_for_silu(content, -1),
    "frozen batch": lambda content: faults.frozen(content, RECORDS | {"latent"}, 3),
    "first records alone": lambda content: faults.first_alone(content, RECORDS | {"latent"}, 2),
}
OF_DRAWS: dict[str, Fault] = {
    "frozen draws": lambda content: faults.frozen(content, {"noise"}, 4),
    "first draws alone": lambda content: faults.first_alone(content, {"noise"}, 4),
    "log of 2 pi": lambda content: faults.another_constant(content, 1.837877),
}
CASES = [
    *((graph, name, fault) for graph in GRAPHS for name, fault in EVERYWHERE.items()),
    *((graph, name, fault) for graph in GRAPHS[:2] for name, fault in OF_DRAWS.items()),
    *(
        (graph, f"{kind} counts though missing", lambda content, kind=kind: faults.missing_counts(content, kind))
        for graph in OF_RECORDS
        for kind in sorted(RECORDS)
    ),
    *((graph, "bound of numbers", lambda content: faults.another_constant(content, 3.0)) for graph in OF_RECORDS),
    ("decoder", "weight", lambda content: faults.another_weight(content, "vae.decoder.0.weight")),
    ("decoder", "least variance", lambda content: faults.another_weight(content, "vae.likelihood.numeric.low")),
]
IDS = [f"{graph}: {name}" for graph, name, _ in CASES]


class Graphs:
    """All graphs of one model, and what compares each with it."""

    def __init__(self) -> None:
        vae = build(MIXED).eval()
        self.exported = Exported.of(MIXED, vae)
        self.explainer = ExportedExplainer(vae, MIXED, NOISE)

    def content(self, graph: str) -> bytes:
        whole = self.explainer.graph if graph == "explainer" else getattr(self.exported.graphs, graph)
        assert isinstance(whole, bytes)
        return whole

    def verify(self, every: Record, graph: str, content: bytes) -> float:
        """By what a training compares with, one graph being another."""
        exported, session = self.exported, runs.session(content, threads=1)
        match graph:
            case "scorer":
                return verify_parity(ScoringNetwork(exported.vae, None), session, every, NOISE)
            case "explainer":
                comparison = copy.copy(self.explainer.comparison)
                comparison._session = session
                return comparison.verify(runs.Inputs(every, NOISE), lambda draws: 50)
            case _:
                encoder, decoder = (
                    session if graph == name else getattr(exported, name) for name in ("encoder", "decoder")
                )
                return verify_encoder_and_decoder(exported.vae, encoder, decoder, every, NOISE)


@pytest.fixture(scope="module")
def graphs() -> Graphs:
    return Graphs()


@pytest.fixture
def held_out() -> dict[str, npt.NDArray[Any]]:
    return ordinary(MIXED, 60)


@pytest.mark.parametrize("graph", GRAPHS)
def test_without_a_fault_all_agree(graphs: Graphs, held_out: Record, graph: str) -> None:
    for every in (held_out, with_extremes(graphs.exported.vae, held_out)):
        assert 0.0 <= graphs.verify(every, graph, graphs.content(graph)) < 0.5


@pytest.mark.parametrize(("graph", "fault"), [(graph, fault) for graph, _, fault in CASES], ids=IDS)
def test_every_fault_is_seen_on_ordinary_records_alone(
    graphs: Graphs, held_out: Record, graph: str, fault: Fault
) -> None:
    with pytest.raises(ParityFailed, match=rf"^{graph}\.onnx \(records: \d"):
        graphs.verify(held_out, graph, fault(graphs.content(graph)))


@pytest.mark.parametrize(("graph", "fault"), [(graph, fault) for graph, _, fault in CASES], ids=IDS)
def test_and_where_nothing_is_missing_from_ordinary_records_beside_extreme_ones(
    graphs: Graphs, held_out: dict[str, npt.NDArray[Any]], graph: str, fault: Fault
) -> None:
    for kind, values in held_out.items():
        gone = np.isnan(values) if kind == "numeric" else values == GONE[kind]
        usual = [field.mean for field in MIXED.numeric] if kind == "numeric" else np.ones(values.shape[1])
        held_out[kind] = np.where(gone, usual, values).astype(values.dtype)
    with pytest.raises(ParityFailed, match=rf"^{graph}\.onnx \(records: \d"):
        graphs.verify(with_extremes(graphs.exported.vae, held_out), graph, fault(graphs.content(graph)))
