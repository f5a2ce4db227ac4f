"""What compares the exported graph with torch before a bundle is written: it sees every difference."""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from bundle.contents.golden import tolerance
from bundle.record.schema import TableSchema
from tests.training.export import faults
from tests.training.export.test_parity import BATCHES, MIXED, NUMERIC, SAMPLES, Exported, Record, build, ordinary
from tests.training.export.with_extremes import with_extremes
from training.errors import ParityFailed
from training.export import parity
from training.export.parity import verify_parity
from training.export.runs import Inputs, session
from training.network.scores import LIKELIHOOD_OUTPUTS, ScoringNetwork

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mixed() -> Exported:
    return Exported.of(MIXED, build(MIXED))


@dataclasses.dataclass
class Watched:
    """Stands in for a session: keeps what it is given, and may change what it answers."""

    real: onnxruntime.InferenceSession
    change: Callable[[Any], Any] = lambda outputs: outputs
    seen: list[Record] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.get_outputs = self.real.get_outputs

    def run(self, names: list[str], feeds: Record) -> Any:
        self.seen.append(feeds)
        return self.change(self.real.run(names, feeds))


@pytest.fixture
def held_out() -> Record:
    return ordinary(MIXED, 100)


def test_the_exported_graph_passes_within_the_tolerance(mixed: Exported) -> None:
    watched = Watched(mixed.scorer)
    share = verify_parity(
        ScoringNetwork(mixed.vae, None), watched, with_extremes(mixed.vae, ordinary(MIXED, 1000)), mixed.noise
    )
    assert 0.0 <= share < 1.0
    shapes = {(len(feeds["numeric"]), len(feeds["noise"])) for feeds in watched.seen}
    assert shapes == {(batch, samples) for batch in BATCHES for samples in SAMPLES}


def test_ordinary_records_are_compared_however_few_fit_in_a_run(
    mixed: Exported, held_out: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record far out may be off by thousands of nats."""
    monkeypatch.setattr(parity, "_LARGEST_RUN", 1)
    far_off = Watched(mixed.scorer, lambda outputs: [values + np.float32(0.1) for values in outputs])
    with pytest.raises(ParityFailed, match="allowed are"):
        verify_parity(ScoringNetwork(mixed.vae, None), far_off, with_extremes(mixed.vae, held_out), mixed.noise)
    watched = Watched(mixed.scorer)
    verify_parity(ScoringNetwork(mixed.vae, None), watched, with_extremes(mixed.vae, held_out), mixed.noise)
    assert {len(feeds["numeric"]) for feeds in watched.seen} == {1}


@pytest.mark.parametrize(("module", "change"), [("encoder", 0.02), ("decoder", 0.02), ("decoder", math.nan)])
def test_other_weights_fail_however_little_they_differ(
    mixed: Exported, held_out: Record, module: str, change: float
) -> None:
    moved = copy.deepcopy(mixed.vae)
    with torch.no_grad():
        getattr(moved, module)[-1].bias[0] += change
    for other in (moved, build(MIXED, seed=1)):
        with pytest.raises(ParityFailed, match="allowed are"):
            verify_parity(ScoringNetwork(other, None), mixed.scorer, with_extremes(mixed.vae, held_out), mixed.noise)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("output", range(len(LIKELIHOOD_OUTPUTS)))
def test_a_score_that_is_no_number_fails(mixed: Exported, held_out: Record, output: int, value: float) -> None:
    def spoil(outputs: list[Any]) -> list[Any]:
        outputs[output][-1] = value
        return outputs

    with pytest.raises(ParityFailed, match=LIKELIHOOD_OUTPUTS[output]):
        verify_parity(
            ScoringNetwork(mixed.vae, None),
            Watched(mixed.scorer, spoil),
            with_extremes(mixed.vae, held_out),
            mixed.noise,
        )


def test_parity_is_checked_a_million_deviations_out_and_with_one_field_alone(mixed: Exported, held_out: Record) -> None:
    # As with epoch seconds, a million of these deviations from zero is where the values are anyhow.
    held_out["numeric"][:, 1] = 1.7e9 + 1.7e3 * np.random.default_rng(0).standard_normal(100)
    watched = Watched(mixed.scorer)
    verify_parity(ScoringNetwork(mixed.vae, None), watched, with_extremes(mixed.vae, held_out), mixed.noise)
    seen = {kind: np.concatenate([feeds[kind] for feeds in watched.seen]) for kind in MIXED.dtypes}
    usual, spread = np.nanmean(held_out["numeric"], axis=0), np.nanstd(held_out["numeric"], axis=0)
    out = np.nanmax(np.abs(seen["numeric"] - usual) / spread, axis=0)
    assert (out[:-1] > 0.8e6).all()
    logged = NUMERIC[-1]
    assert np.nanmin(logged.standardise(seen["numeric"][:, -1])) < -0.8e6
    present = np.concatenate([~np.isnan(seen["numeric"]), seen["boolean"] >= 0, seen["categorical"] >= 0], axis=1)
    assert present[present.sum(axis=1) == 1].any(axis=0).all()


@pytest.mark.parametrize("value", [np.nan, 1.7e308, -1.7e308, 5e-324])
def test_no_column_of_finite_or_missing_values_is_an_obstacle(mixed: Exported, held_out: Record, value: float) -> None:
    held_out["numeric"][:, 2] = value
    assert (
        verify_parity(ScoringNetwork(mixed.vae, None), mixed.scorer, with_extremes(mixed.vae, held_out), mixed.noise)
        < 1.0
    )


WITHOUT_LOGARITHM = TableSchema(fields=tuple(field for field in MIXED.fields if field.name != NUMERIC[-1].name))
"""The terms of a far logarithm are so large that nothing cancels beside them."""


def without_logarithm(records: Record) -> Record:
    return records | {"numeric": records["numeric"][:, :-1]}


def magnifying(seed: int = 0) -> Exported:
    """A model whose weights are large, so that terms of thousands of nats cancel."""
    vae = build(WITHOUT_LOGARITHM, seed).eval()
    with torch.no_grad():
        for weights in vae.parameters():
            weights.mul_(6.0)
    return Exported.of(WITHOUT_LOGARITHM, vae)


@pytest.mark.parametrize("seed", [1, 2])
def test_what_float32_itself_rounds_is_no_fault_and_hides_none(
    held_out: Record, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = magnifying(seed)
    scorer, every = ScoringNetwork(exported.vae, None), with_extremes(exported.vae, without_logarithm(held_out))
    assert verify_parity(scorer, exported.scorer, every, exported.noise) < 0.5
    for fault in (
        faults.relu_for_silu(exported.graphs.scorer, 0),
        faults.missing_counts(exported.graphs.scorer, "numeric"),
        faults.first_alone(exported.graphs.scorer, {"noise"}, 4),
    ):
        with pytest.raises(ParityFailed):
            verify_parity(scorer, session(fault), every, exported.noise)
    monkeypatch.setattr(parity, "TIMES", 0.0)
    with pytest.raises(ParityFailed):
        verify_parity(scorer, exported.scorer, every, exported.noise)


def test_one_ordinary_record_among_extreme_ones_is_judged_by_its_own_terms(mixed: Exported, held_out: Record) -> None:
    def first_off(outputs: list[Any]) -> list[Any]:
        outputs[0][0] += np.float32(0.05) * (len(outputs[0]) > 2)
        return outputs

    with pytest.raises(
        ParityFailed, match=r"\(records: 136, draws: 1\): log_reconstruction_probability is 0\.05"
    ) as failed:
        verify_parity(
            ScoringNetwork(mixed.vae, None),
            Watched(mixed.scorer, first_off),
            with_extremes(mixed.vae, held_out),
            mixed.noise,
        )
    evidence = failed.value.evidence
    assert {name: len(evidence[name]) for name in MIXED.dtypes} == dict.fromkeys(MIXED.dtypes, 1)
    np.testing.assert_array_equal(evidence["numeric"][0], held_out["numeric"][0])
    (answered,), (right,) = (evidence[f"log_reconstruction_probability_{what}"] for what in ("onnxruntime", "float64"))
    assert answered - right == pytest.approx(0.05, abs=1e-3)


def test_golden_records_are_allowed_what_float32_costs_each(held_out: Record) -> None:
    exported = magnifying()
    comparison = parity.of_scorer(ScoringNetwork(exported.vae, None), exported.scorer)
    every = with_extremes(exported.vae, without_logarithm(held_out))
    inputs = Inputs(every, exported.noise[:16])
    exact, allowed = comparison.reference(inputs), comparison.tolerance(inputs)
    largest = [np.abs(values.reshape(len(values), -1)).max(axis=1) for values in exact.values()]
    terms = [parity.largest_term(exported.vae, every, exported.noise[:16]), *largest]
    plain = tolerance(len(WITHOUT_LOGARITHM.fields), np.max(terms, axis=0))
    costs = np.max(list(comparison.reference.rounded(inputs, exact).values()), axis=0)
    np.testing.assert_allclose(allowed, np.maximum(plain, parity.TIMES * costs))
    assert 0 < (allowed > plain).sum() < len(plain)


def test_no_share_is_small_of_what_is_no_number() -> None:
    off = np.array([1.0, np.inf, np.nan, 1.0, np.inf])
    np.testing.assert_array_equal(parity._share(off, np.array([2.0, 1.0, 1.0, np.nan, np.inf])), [0.5, *[np.inf] * 4])
