"""The exported explainer: it explains as the network does, and its outputs mean what is written of them."""

import numpy as np
import pytest
import torch

from bundle.record.fields import NumericField
from bundle.record.schema import TableSchema
from tests.training.export.test_parity import MIXED, build, ordinary
from tests.training.export.test_verify_parity import Watched
from tests.training.export.with_extremes import with_extremes
from training.errors import ParityFailed
from training.export.explainer import ExportedExplainer
from training.network.noise import noise_table
from training.network.posterior import Posterior, kl_to_prior
from training.table.explainer import TableExplainer
from training.table.vae import TableVAE

pytestmark = pytest.mark.slow

NOISE = noise_table(3, 0)


@pytest.fixture(scope="module")
def vae() -> TableVAE:
    return build(MIXED).eval()


@pytest.fixture(scope="module")
def exported(vae: TableVAE) -> ExportedExplainer:
    return ExportedExplainer(vae, MIXED, NOISE)


def test_the_exported_graph_explains_as_the_network_does(exported: ExportedExplainer, vae: TableVAE) -> None:
    assert 0.0 <= exported.verify_parity(with_extremes(vae, ordinary(MIXED, 60))) < 1.0


def test_another_network_fails(exported: ExportedExplainer, vae: TableVAE) -> None:
    other = ExportedExplainer(build(MIXED, seed=1).eval(), MIXED, NOISE)
    other.comparison._session = exported.session
    with pytest.raises(ParityFailed, match=r"explainer\.onnx.*float64, allowed are"):
        other.verify_parity(with_extremes(vae, ordinary(MIXED, 10)))


def test_ordinary_records_are_compared_however_few_fit_in_a_run(
    exported: ExportedExplainer, vae: TableVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record far out may be off by thousands of nats."""
    monkeypatch.setattr("training.export.explainer._LARGEST_RUN", 1)
    far_off = Watched(exported.session, lambda outputs: [values + np.float32(0.1) for values in outputs])
    monkeypatch.setattr(exported.comparison, "_session", far_off)
    with pytest.raises(ParityFailed, match="allowed are"):
        exported.verify_parity(with_extremes(vae, ordinary(MIXED, 10)))


def test_a_record_is_explained_alike_alone_and_in_a_batch(
    exported: ExportedExplainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ordinary(MIXED, 9)
    together = exported.explain(record, 16)
    monkeypatch.setattr("training.export.explainer._LARGEST_RUN", 1)
    alone = exported.explain(record, 16)
    for name, values in together.items():
        np.testing.assert_allclose(values, alone[name], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_surprisal_given_the_others_is_what_the_elbo_gains_without_the_field(vae: TableVAE) -> None:
    record = {kind: torch.from_numpy(values) for kind, values in ordinary(MIXED, 5, seed=4).items()}
    explainer, noise = TableExplainer(vae, MIXED).eval(), torch.from_numpy(NOISE[:8])
    said = dict(zip(explainer.names, explainer(record, noise), strict=True))
    elbo = -(said["field_surprisal"].sum(dim=1) + said["kl"])
    batch = vae.standardise(record)
    others = explainer._without_each(vae.preprocess(batch))
    gaps = vae.likelihood.log_prob_of_gaps(batch)
    for place in range(explainer.fields):
        posterior = Posterior(others.mean[place], others.log_variance[place])
        terms = vae.likelihood.log_prob(batch, vae.decode(vae.draw(posterior, noise))).mean(dim=1) + gaps
        rest = [column for column in range(explainer.fields) if column != place]
        without = terms[:, rest].sum(dim=1) - kl_to_prior(posterior)
        torch.testing.assert_close(said["conditional_surprisal"][:, place], without - elbo, rtol=1e-4, atol=2e-3)


@torch.no_grad()
def test_a_wide_table_decodes_hidden_fields_at_the_posteriors_mean_alone() -> None:
    many = TableSchema(
        fields=tuple(NumericField(name=f"x{i}", missing_rate=0.1, mean=0.0, scale=1.0) for i in range(150))
    )
    vae = build(many).eval()
    explainer = TableExplainer(vae, many).eval()
    assert explainer.wide
    record = {"numeric": torch.zeros(2, 150, dtype=torch.float64)}
    few, more = (
        dict(zip(explainer.names, explainer(record, torch.from_numpy(NOISE[:count])), strict=True)) for count in (1, 64)
    )
    assert torch.equal(few["expected_numeric"], more["expected_numeric"])
    assert not torch.equal(few["field_surprisal"], more["field_surprisal"])
