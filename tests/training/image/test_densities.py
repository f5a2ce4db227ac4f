"""The likelihoods of pixels against float64, in torch and in the exported float32 graph, and their normalisation."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import integrate, special
from torch import Tensor, nn

from training.export import graphs, runs
from training.image.densities import (
    continuous_bernoulli,
    continuous_bernoulli_mean,
    continuous_bernoulli_normaliser,
    cross_entropy,
    discretised_logistic,
)

Array = npt.NDArray[np.float64]
Function = Callable[..., Tensor]

LEVELS = np.arange(256.0)
SCALES = np.array([1e-3, 1e-2, 0.1, 0.2886, 1.0, 3.7, 20.0, 100.0], np.float32)
MEANS = np.array(
    [-1e6, -300.0, -0.5, 0.0, 0.4999, 0.5, 0.5001, 1.0, 99.5, 100.3, 127.5, 128.0, 254.4999, 254.5, 255.0, 256.0, 1e6],
    np.float32,
)


def exact_masses(level: Array, mean: Array, log_scale: Array) -> Array:
    """log(sigmoid(b) - sigmoid(a)) in float64, from the side on which it does not cancel."""
    scale = np.exp(log_scale)
    upper, lower = (level + 0.5 - mean) / scale, (level - 0.5 - mean) / scale
    left = np.where(upper + lower > 0, -upper, lower)
    # log of sigmoid(left + 1/scale) - sigmoid(left), left being the far border on the left side.
    with np.errstate(divide="ignore"):
        mass = special.log_expit(left + 1 / scale) + np.log(
            -np.expm1(special.log_expit(left) - special.log_expit(left + 1 / scale))
        )
    mass = np.where(level == 0, special.log_expit(upper), mass)
    return np.where(level == 255, special.log_expit(-lower), mass)


def exported(function: Function, names: Sequence[str]) -> Callable[..., npt.NDArray[np.float32]]:
    """The function as a float32 graph that ONNX Runtime runs."""

    class Named(nn.Module):
        def forward(self, given: dict[str, Tensor]) -> Tensor:
            return function(*(given[name] for name in names))

    size = torch.export.Dim("values")
    given = {name: torch.rand(3) for name in names}
    graph = graphs.to_onnx(Named(), {"given": given}, ["value"], {"given": {name: {0: size} for name in names}})
    session = runs.session(graph, threads=1)
    inputs = [each.name for each in session.get_inputs()]

    def run(*values: Array) -> npt.NDArray[np.float32]:
        (found,) = session.run(None, dict(zip(inputs, (np.float32(value) for value in values), strict=True)))
        return found

    return run


@pytest.fixture(scope="module")
def logistic() -> Callable[..., npt.NDArray[np.float32]]:
    return exported(discretised_logistic, ("level", "mean", "log_scale"))


def test_the_graphs_log_masses_are_those_of_float64(logistic: Callable[..., npt.NDArray[np.float32]]) -> None:
    grid = np.meshgrid(LEVELS, MEANS, np.log(SCALES), indexing="ij")
    level, mean, log_scale = (np.float32(part).ravel() for part in grid)
    found = logistic(level, mean, log_scale)
    assert np.isfinite(found).all()
    expected = exact_masses(*(part.astype(np.float64) for part in (level, mean, log_scale)))
    # A float32 of a million nats has no more than seven digits.
    assert (np.abs(found - expected) <= 1e-4 + 2e-6 * np.abs(expected)).all()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("mean", MEANS)
def test_the_masses_of_all_levels_sum_to_one(mean: float, scale: float) -> None:
    level = torch.arange(256, dtype=torch.float32)
    log_scale = torch.full((256,), float(np.log(scale)))
    total = torch.exp(discretised_logistic(level, torch.full((256,), float(mean)), log_scale).double()).sum()
    assert total.item() == pytest.approx(1.0, abs=1e-4)


def test_a_level_further_out_is_less_likely_and_has_a_gradient() -> None:
    mean = torch.tensor([100.3], requires_grad=True)
    log_scale = torch.tensor([-7.0], requires_grad=True)
    values = discretised_logistic(torch.arange(1.0, 255.0), mean, log_scale)
    assert (values[100:].diff() < 0).all()
    assert (values[:100].diff() > 0).all()
    values.sum().backward()
    assert mean.grad is not None
    assert log_scale.grad is not None
    assert torch.isfinite(torch.cat([mean.grad, log_scale.grad])).all()


def test_the_normaliser_of_the_continuous_bernoulli_is_right_near_a_half() -> None:
    run = exported(continuous_bernoulli_normaliser, ("logits",))
    logits = np.float32(np.concatenate([-np.logspace(-12, 2, 300), [0.0], np.logspace(-12, 2, 300)]))
    exact = logits.astype(np.longdouble)
    with np.errstate(invalid="ignore"):
        expected = np.where(
            np.abs(exact) < 1e-3, np.log(np.longdouble(2)) + exact**2 / 12, np.log(exact / np.tanh(exact / 2))
        )
    np.testing.assert_allclose(run(logits), expected.astype(np.float64), rtol=0, atol=1e-6)


def test_the_mean_of_the_continuous_bernoulli_is_that_of_its_density() -> None:
    run = exported(continuous_bernoulli_mean, ("logits",))
    logits = np.array([-200.0, -9.0, -0.3, -0.29, -1e-6, 0.0, 1e-3, 0.29, 0.31, 4.0, 1e4], np.float32)
    exact = logits.astype(np.longdouble)
    exact[np.abs(exact) < 1e-9] = 1e-9
    expected = np.where(np.abs(exact) < 1e-4, 0.5 + exact / 12, 0.5 + 0.5 / np.tanh(exact / 2) - 1 / exact)
    np.testing.assert_allclose(run(logits), expected.astype(np.float64), rtol=0, atol=1e-6)
    value = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    density = torch.exp(continuous_bernoulli(value, torch.tensor(-1.0, dtype=torch.float64)))
    assert float(torch.trapezoid(value * density, value)) == pytest.approx(1 / (1 - math.e) + 1, abs=1e-8)


@pytest.mark.parametrize("logit", [-9.0, -0.7, -1e-5, 0.0, 0.61, 4.0])
def test_the_continuous_bernoulli_is_a_density(logit: float) -> None:
    def density(value: float) -> float:
        given = torch.tensor([value, logit], dtype=torch.float64)
        return float(torch.exp(continuous_bernoulli(given[0], given[1])))

    total, _ = integrate.quad(density, 0, 1, epsabs=1e-10)
    assert total == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("function", [continuous_bernoulli, cross_entropy])
def test_extreme_logits_are_finite_with_finite_gradients(function: Function) -> None:
    logits = torch.tensor([-1e30, -1e4, -120.0, 0.0, 120.0, 1e4, 1e30], requires_grad=True)
    for value in (0.0, 0.5, 1.0):
        found = function(torch.full((7,), value), logits)
        (gradient,) = torch.autograd.grad(found.sum(), logits)
        assert torch.isfinite(found).all()
        assert torch.isfinite(gradient).all()


def test_the_cross_entropy_is_bernoullis_at_the_ends() -> None:
    logits = torch.linspace(-30, 30, 61, dtype=torch.float64)
    one, zero = torch.ones_like(logits), torch.zeros_like(logits)
    np.testing.assert_allclose(cross_entropy(one, logits).numpy(), special.log_expit(logits.numpy()), rtol=1e-9)
    np.testing.assert_allclose(cross_entropy(zero, logits).numpy(), special.log_expit(-logits.numpy()), rtol=1e-9)
    half = cross_entropy(0.5 * one, logits).numpy()
    np.testing.assert_allclose(
        half, 0.5 * (special.log_expit(logits.numpy()) + special.log_expit(-logits.numpy())), rtol=1e-9
    )
