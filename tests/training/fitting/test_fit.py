"""The optimisation loop: it learns, repeats itself, takes up its checkpoint, and stops at a NaN."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bundle.record.fields import NumericField
from bundle.record.schema import TableSchema
from training import modality
from training.config import FitConfig, NetworkConfig, ObjectiveConfig
from training.errors import ConfigInvalid, NotANumber
from training.fitting import checkpoint, trimming
from training.fitting.checkpoint import Checkpoint
from training.fitting.fit import Fit, Plan
from training.fitting.progress import Progress
from training.network.importance import importance_weighted
from training.network.objectives import Terms, elbo
from training.network.order import Blocks
from training.network.vae import VAE
from training.table.batch import Standardised

NAMES = ("x0", "x1", "x2", "x3")


def model(seed: int = 0) -> VAE:
    fields = tuple(NumericField(name=name, mean=0.0, scale=1.0, missing_rate=1e-3) for name in NAMES)
    torch.manual_seed(seed)
    return modality.of(TableSchema(fields=fields)).vae(NetworkConfig(hidden=(16,), latent_size=2))


def batch(vae: VAE, rows: int, seed: int) -> Standardised:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 2)) @ np.array([[1.0, 0.8, 0.0, 0.3], [0.0, 0.5, 1.0, -0.7]])
    return vae.standardise({"numeric": torch.from_numpy(values)})


def fitting(
    vae: VAE,
    kept_in: Path | None = None,
    epochs: int = 6,
    fingerprint: str = "a",
    patience: int = 20,
    contamination: float = 0.0,
    order: Blocks | None = None,
) -> Fit:
    config = FitConfig(epochs=epochs, batch_size=32, patience=patience, learning_rate=1e-2)
    parts = batch(vae, 400, 1), batch(vae, 100, 2)
    left = Checkpoint(kept_in, fingerprint)
    return Fit(
        vae,
        *parts,
        ObjectiveConfig(),
        config,
        names=NAMES,
        seed=3,
        checkpoint=left,
        contamination=contamination,
        order=order,
    )


def weights(vae: VAE) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in vae.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_elbo_rises_and_the_best_weights_stay() -> None:
    vae = model()
    seen: list[Progress] = []
    fitted = fitting(vae, epochs=40)
    best = fitted.run(seen.append)
    assert best > seen[0].validation_elbo + 0.3
    assert best == max(epoch.validation_elbo for epoch in seen[5:])
    with torch.no_grad():
        again = elbo(vae, fitted.validation.records, fitted.validation.noise).bound.double().mean().item()
    assert again == pytest.approx(best, abs=1e-6)


def test_one_seed_gives_one_result() -> None:
    results = []
    for seed in (0, 0, 1):
        vae = model(seed)
        fitting(vae).run()
        results.append(weights(vae))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def interrupt_at(epoch: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.epoch == epoch:
            raise KeyboardInterrupt

    return report


BLOCKS = Blocks(400, block_rows=3)
"""So many that they are not all shuffled together."""


@pytest.mark.parametrize("order", [None, BLOCKS])
@pytest.mark.parametrize("contamination", [0.0, 0.1])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contamination: float, order: Blocks | None
) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", -1.0)
    whole = model()
    first = fitting(whole, contamination=contamination, order=order)
    expected = first.run()
    last = tmp_path / "checkpoint" / "last.pt"
    with pytest.raises(KeyboardInterrupt):
        fitting(model(), last, contamination=contamination, order=order).run(interrupt_at(3))
    resumed = model(seed=99)
    second = fitting(resumed, last, contamination=contamination, order=order)
    assert second.resume() == 3
    assert second.run() == expected
    assert same(weights(whole), weights(resumed))
    assert second.history == first.history
    assert all(epoch.seconds > 0 for epoch in second.history), "those before the interruption too"
    assert [epoch.epoch for epoch in second.history] == [1, 2, 3, 4, 5, 6]
    second.checkpoint.forget()
    assert not any(last.parent.iterdir())


def test_in_blocks_it_learns_as_much_as_in_one_permutation() -> None:
    reached = [fitting(model(), epochs=40, order=order).run() for order in (None, BLOCKS)]
    assert reached[0] == pytest.approx(reached[1], abs=0.1)


def test_records_on_disk_are_trimmed_by_the_bound_of_some_of_their_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = model()
    fitted = fitting(vae, epochs=20, contamination=0.1, order=BLOCKS)
    far = torch.arange(0, 400, 10)
    fitted.train.numeric[far] = 6.0 * torch.sign(fitted.train.numeric[far])  # type: ignore[attr-defined]
    seen: list[int] = []
    step = fitted._step

    def counted(number: int, places: Tensor, warmth: float) -> Terms:
        numeric = fitted.train.numeric[places]  # type: ignore[attr-defined]
        seen[-1] += int((numeric.abs() == 6.0).all(dim=1).sum())
        rows[-1] += len(places)
        return step(number, places, warmth)

    rows: list[int] = []

    def begins(progress: Progress) -> None:
        seen.append(0)
        rows.append(0)

    begins(Progress(0, 0, 0.0, 0.0, 0.0, 0.0, False))
    monkeypatch.setattr(fitted, "_step", counted)
    fitted.run(begins)
    assert (rows[0], seen[0]) == (400, 40), "not before the first epochs"
    assert sum(rows[10:20]) / 10 == pytest.approx(360, abs=15)
    assert sum(seen[10:20]) / 10 <= 2


def test_the_first_epoch_leaves_a_checkpoint_and_forgetting_it_leaves_those_of_others(tmp_path: Path) -> None:
    mine, other = tmp_path / "a.pt", tmp_path / "b.pt"
    other.write_bytes(b"")
    fitted = fitting(model(), mine)
    with pytest.raises(KeyboardInterrupt):
        fitted.run(interrupt_at(1))
    assert mine.exists()
    fitted.checkpoint.forget()
    assert [path.name for path in tmp_path.iterdir()] == ["b.pt"]


def test_the_bound_that_stops_the_training_has_the_free_nats_that_training_has() -> None:
    vae = model()
    parts = batch(vae, 400, 1), batch(vae, 100, 2)
    objective = ObjectiveConfig(beta=0.5, free_nats=3.0, kl_warm_up=0.0)
    fitted = Fit(vae, *parts, objective, FitConfig(epochs=1, batch_size=32), names=NAMES, seed=3)
    fitted.run()
    with torch.no_grad():
        expected = elbo(vae, parts[1], fitted.validation.noise, 0.5, 3.0).bound.mean().item()
        unpaid = elbo(vae, parts[1], fitted.validation.noise, 0.5).bound.mean().item()
    assert fitted.validation.best.bound == pytest.approx(expected, rel=1e-5)
    assert abs(expected - unpaid) > 0.1


@pytest.mark.parametrize("kind", ["importance-weighted", "doubly-reparameterised", "forward-kl"])
def test_weighted_objectives_learn_stop_by_their_own_bound_and_count_their_samples(kind: str) -> None:
    vae = model()
    parts = batch(vae, 400, 1), batch(vae, 100, 2)
    objective = ObjectiveConfig(kind=kind, draws=5)
    fitted = Fit(vae, *parts, objective, FitConfig(epochs=30, batch_size=32, learning_rate=1e-2), names=NAMES, seed=3)
    best = fitted.run()
    assert best > fitted.history[0].validation_elbo + 0.3
    with torch.no_grad():
        bound = importance_weighted(vae, parts[1], fitted.validation.noise).bound.mean().item()
    assert fitted.validation.noise.shape == (100, 5, 2)
    assert fitted.validation.best.bound == pytest.approx(bound, rel=1e-5)
    assert fitted.validation.best.bound > best
    assert all(1.0 < epoch.effective_samples < 5.0 for epoch in fitted.history)


def test_a_capacity_is_what_the_kl_ends_at() -> None:
    vae = model()
    parts = batch(vae, 400, 1), batch(vae, 100, 2)
    objective = ObjectiveConfig(capacity=1.0, beta=20.0)
    fitted = Fit(vae, *parts, objective, FitConfig(epochs=40, batch_size=32, learning_rate=1e-2), names=NAMES, seed=3)
    fitted.run()
    assert fitted.history[-1].kl == pytest.approx(1.0, abs=0.15)
    assert fitted.history[0].kl < 0.5


def test_what_is_least_likely_is_left_out() -> None:
    assert trimming.likeliest(torch.tensor([3.0, -9.0, 5.0, -7.0, 1.0]), 0.4).tolist() == [0, 2, 4]
    assert trimming.likeliest(torch.tensor([3.0, -9.0]), 0.1).tolist() == [0]


def test_trimmed_anomalies_are_not_learnt() -> None:
    bounds = {}
    for contamination in (0.0, 0.1):
        vae = model()
        fitted = fitting(vae, epochs=40, contamination=contamination)
        # Alike, and within the range of each field: the fields do not go together.
        trained_on, kept = fitted.train, fitted.kept
        assert isinstance(trained_on, Standardised)
        trained_on.numeric[:40] = torch.tensor([1.5, -1.5, 1.5, 1.5])
        fitted.run()
        with torch.no_grad():
            bound = elbo(vae, fitted.train, torch.zeros(1, vae.latent_size)).bound
        bounds[contamination] = (bound[:40].mean() - bound[40:].mean()).item()
        left = kept()
        assert isinstance(left, Standardised)
        planted = (left.numeric == torch.tensor([1.5, -1.5, 1.5, 1.5])).all(dim=1).sum().item()
        assert planted == (0 if contamination else 40)
    assert bounds[0.1] < bounds[0.0] - 3.0


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", -1.0)
    last = tmp_path / "last.pt"
    with pytest.raises(ConfigInvalid, match="no checkpoint"):
        fitting(model(), last).resume()
    fitting(model(), last, epochs=1).run()
    with pytest.raises(ConfigInvalid, match="other data or another configuration"):
        fitting(model(), last, fingerprint="b").resume()


def test_a_nan_names_epoch_batch_and_field_and_keeps_what_was_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_SECONDS", -1.0)
    vae = model()
    fitted = fitting(vae, tmp_path / "last.pt")

    def spoil(progress: Progress) -> None:
        if progress.epoch == 2:
            assert isinstance(fitted.train, Standardised)
            fitted.train.numeric[:, 2] = torch.nan

    with pytest.raises(NotANumber, match=r"epoch 3, batch 1: .* field x2"):
        fitted.run(spoil)
    assert all(torch.isfinite(parameter).all() for parameter in vae.parameters())
    assert (tmp_path / "last.pt").exists()
    assert torch.isfinite(elbo(vae, fitted.validation.records, fitted.validation.noise).bound).all()


def test_it_stops_once_the_validation_elbo_no_longer_rises() -> None:
    vae = model()
    fitted = fitting(vae, epochs=500, patience=3)
    fitted.run()
    assert fitted.epoch < 500
    assert fitted.epoch - fitted.validation.best.epoch == 3


@pytest.mark.parametrize(("rows", "batch_size", "epochs"), [(80, 16, 200), (5000, 250, 200), (1_000_000, 512, 10)])
def test_the_plan_follows_the_number_of_rows(rows: int, batch_size: int, epochs: int) -> None:
    plan = Plan.of(rows, FitConfig())
    assert (plan.batch_size, plan.epochs) == (batch_size, epochs)
    assert plan.batches * plan.batch_size >= rows


@pytest.mark.parametrize(("rows", "batch_size", "epochs"), [(400, 20, 60), (52_000, 64, 6), (1_000_000, 64, 5)])
def test_of_images_few_make_a_step(rows: int, batch_size: int, epochs: int) -> None:
    plan = Plan.of(rows, FitConfig(), large=True)
    assert (plan.batch_size, plan.epochs) == (batch_size, epochs)
    assert Plan.of(rows, FitConfig(batch_size=100, epochs=3), large=True).batch_size == 100
