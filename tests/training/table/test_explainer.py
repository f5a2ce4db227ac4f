"""Explanations: what is said of the fields adds up, and what is expected of one does not echo what it holds."""

import pytest
import torch

from tests.training.export.test_parity import MIXED, build, ordinary
from training.network.noise import noise_table
from training.network.scores import ScoringNetwork
from training.table.explainer import TableExplainer

NAMES = (
    "field_surprisal",
    "kl",
    "conditional_surprisal",
    "expected_numeric",
    "expected_deviation",
    "expected_boolean",
    "expected_categorical",
)


@pytest.fixture(scope="module")
def explainer() -> TableExplainer:
    return TableExplainer(build(MIXED), MIXED).eval()


@torch.no_grad()
def explained(explainer: TableExplainer, record: dict[str, torch.Tensor], samples: int = 16) -> dict[str, torch.Tensor]:
    noise = torch.from_numpy(noise_table(explainer.vae.latent_size, 0))[:samples]
    return dict(zip(explainer.names, explainer(record, noise), strict=True))


def records(rows: int = 40) -> dict[str, torch.Tensor]:
    return {kind: torch.from_numpy(values) for kind, values in ordinary(MIXED, rows, seed=2).items()}


@pytest.mark.parametrize("samples", [1, 16, 256])
def test_surprisals_and_kl_add_up_to_the_negative_elbo(explainer: TableExplainer, samples: int) -> None:
    record = records()
    said = explained(explainer, record, samples)
    assert tuple(said) == NAMES
    noise = torch.from_numpy(noise_table(explainer.vae.latent_size, 0))[:samples]
    with torch.no_grad():
        elbo = ScoringNetwork(explainer.vae, None)(record, noise)[1]
    torch.testing.assert_close(said["field_surprisal"].sum(dim=1) + said["kl"], -elbo, rtol=1e-5, atol=1e-3)


def test_what_is_expected_of_a_field_does_not_depend_on_what_it_holds(explainer: TableExplainer) -> None:
    record = records()
    changed = {kind: values.clone() for kind, values in record.items()}
    changed["numeric"][:, 0] = 1e6
    changed["boolean"][:, 1] = 1 - changed["boolean"][:, 1].clamp(min=0)
    changed["categorical"][:, 0] = (changed["categorical"][:, 0].clamp(min=0) + 1) % 8
    before, after = explained(explainer, record), explained(explainer, changed)
    for field, name in ((0, "expected_numeric"), (0, "expected_deviation"), (1, "expected_boolean")):
        one = (
            {**record, "numeric": changed["numeric"]}
            if "boolean" not in name
            else {**record, "boolean": changed["boolean"]}
        )
        said = explained(explainer, one)
        torch.testing.assert_close(said[name][:, field], before[name][:, field], rtol=1e-4, atol=1e-5)
    assert not torch.equal(before["expected_numeric"][:, 1], after["expected_numeric"][:, 1]), "others are looked at"


def test_probabilities_of_a_category_add_up_to_one(explainer: TableExplainer) -> None:
    said = explained(explainer, records())
    sizes = explainer.vae.likelihood.sizes
    for slots in torch.split(said["expected_categorical"], sizes, dim=1):
        torch.testing.assert_close(slots.sum(dim=1), torch.ones(40), rtol=1e-5, atol=1e-5)
    assert ((said["expected_boolean"] > 0) & (said["expected_boolean"] < 1)).all()
    assert (said["expected_deviation"] > 0).all()
