"""What a report says of one field at a time is what the explainer says of all at once."""

import numpy as np
import pytest
import torch

from tests.training.export.test_parity import MIXED, build, ordinary
from training.network.noise import noise_table
from training.report.expectation import Expectation
from training.table.explainer import TableExplainer
from training.table.vae import TableVAE

ROWS = 40


@pytest.fixture(scope="module")
def vae() -> TableVAE:
    return build(MIXED).eval()


@pytest.fixture(scope="module")
def said(vae: TableVAE) -> dict[str, torch.Tensor]:
    explainer = TableExplainer(vae, MIXED).eval()
    with torch.no_grad():
        return dict(zip(explainer.names, explainer(records(), torch.from_numpy(noise(vae))), strict=True))


def records() -> dict[str, torch.Tensor]:
    return {kind: torch.from_numpy(values) for kind, values in ordinary(MIXED, ROWS, seed=2).items()}


def noise(vae: TableVAE) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return noise_table(vae.latent_size, 0)[:16]


def test_expectations_are_the_explainers(vae: TableVAE, said: dict[str, torch.Tensor]) -> None:
    expectation = Expectation(vae, noise(vae))
    batch = vae.standardise(records())
    numbers, booleans = len(MIXED.numeric), len(MIXED.boolean)
    for field in range(numbers):
        found = expectation.of(batch, field)
        np.testing.assert_allclose(found[:, 0], said["expected_numeric"][:, field], rtol=1e-4, atol=1e-5)
    for field in range(booleans):
        found = expectation.of(batch, numbers + field)
        np.testing.assert_allclose(found[:, 0], said["expected_boolean"][:, field], rtol=1e-4)
    slots = torch.split(said["expected_categorical"], vae.likelihood.sizes, dim=1)
    for field, expected in enumerate(slots):
        found = expectation.of(batch, numbers + booleans + field)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
