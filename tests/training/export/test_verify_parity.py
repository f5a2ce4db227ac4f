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

from tests.training.export.test_parity import BATCHES, MIXED, NUMERIC, SAMPLES, Exported, Record, build, ordinary
from tests.training.export.with_extremes import with_extremes
from training.errors import ParityFailed
from training.export import parity
from training.export.parity import verify_parity
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
    with pytest.raises(ParityFailed, match="apart"):
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
        with pytest.raises(ParityFailed, match="apart"):
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
