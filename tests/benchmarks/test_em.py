"""EM on models whose log p(x) is known: where the bound touches it, and by how much it misses it."""

from dataclasses import astuple, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.studies import em
from benchmarks.studies.gap import Gap
from benchmarks.studies.linear_gaussian import Gaussian, LinearGaussian, probabilistic_pca
from benchmarks.studies.mixture import Mixture

Array = npt.NDArray[np.float64]
PROPERTY = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def linear_gaussian(seed: int, *, held: bool = False) -> tuple[Array, LinearGaussian]:
    """A random model of 2 to 6 columns and 1 to 4 latents, and records that are not its own."""
    random = np.random.default_rng(seed)
    columns, latents = int(random.integers(2, 7)), int(random.integers(1, 5))
    free = random.uniform(size=(columns, latents)) < (0.7 if held else 1.0)
    loadings = random.normal(size=free.shape) * free
    x = random.normal(size=(50, columns)) @ random.normal(size=(columns, columns))
    return x, LinearGaussian(loadings, x.mean(axis=0), random.uniform(0.2, 2.0, columns), free)


def mixture(seed: int) -> tuple[Array, Mixture]:
    """A random mixture of 1 to 3 Gaussians as wide as all records, which are not its own."""
    random = np.random.default_rng(seed)
    components, columns = int(random.integers(1, 4)), int(random.integers(1, 4))
    x = random.normal(size=(200, columns)) @ random.uniform(0.5, 1.5, (columns, columns)) + random.normal(size=columns)
    x += random.normal(size=x.shape)
    means = x[random.choice(len(x), components, replace=False)]
    spread = np.stack([np.atleast_2d(np.cov(x.T))] * components)
    return x, Mixture(random.dirichlet(np.full(components, 5.0)), means, spread)


@PROPERTY
@given(SEEDS, st.booleans())
def test_exact_em_of_the_linear_gaussian_model_never_falls_and_touches(seed: int, held: bool) -> None:
    x, model = linear_gaussian(seed, held=held)
    found = em.climb(model, x, LinearGaussian.posterior, 10)
    assert em.falls(found.log_likelihood) == em.falls(found.bound) == 0
    np.testing.assert_allclose(found.gap[::2], 0.0, atol=1e-9)
    assert (found.gap > -1e-9).all()
    np.testing.assert_allclose(found.gap, found.divergence, atol=1e-9)
    np.testing.assert_array_equal(found.model.loadings[~model.free], model.loadings[~model.free])


@PROPERTY
@given(SEEDS)
def test_exact_em_of_a_mixture_never_falls_and_touches(seed: int) -> None:
    x, model = mixture(seed)
    found = em.climb(model, x, Mixture.posterior, 6)
    assert em.falls(found.log_likelihood) == em.falls(found.bound) == 0
    np.testing.assert_allclose(found.gap[::2], 0.0, atol=1e-9)
    np.testing.assert_allclose(found.gap, found.divergence, atol=1e-9)


@PROPERTY
@given(SEEDS, st.booleans())
def test_the_m_step_of_the_linear_gaussian_model_has_the_largest_bound_about(seed: int, held: bool) -> None:
    """A step of loadings and variances in any direction, there and back, lowers the bound of the same q."""
    x, model = linear_gaussian(seed, held=held)
    q = model.mean_field(x)
    found = model.maximise(x, q)
    random = np.random.default_rng(seed)
    for _ in range(10):
        aside, wider = 1e-3 * random.normal(size=model.free.shape) * model.free, 1e-3 * random.normal(size=x.shape[1])
        for sign in (-1, 1):
            loadings, variances = found.loadings + sign * aside, found.variances * np.exp(sign * wider)
            other = replace(found, loadings=loadings, variances=variances)
            assert other.bound(x, q).mean() < found.bound(x, q).mean()


@PROPERTY
@given(SEEDS)
def test_the_m_step_of_a_mixture_has_the_largest_bound_about(seed: int) -> None:
    """The same of a mixture's weights, means and covariances."""
    x, model = mixture(seed)
    q = model.posterior(x)
    found = model.maximise(x, q)
    random = np.random.default_rng(seed)
    for _ in range(10):
        tilt = 1e-3 * random.normal(size=found.weights.shape)
        aside = 1e-3 * random.normal(size=found.means.shape)
        turn = 1e-3 * random.normal(size=found.covariances.shape)
        for sign in (-1, 1):
            weights = found.weights * np.exp(sign * tilt)
            change = np.eye(x.shape[1]) + sign * turn
            covariances = change @ found.covariances @ change.transpose(0, 2, 1)
            other = Mixture(weights / weights.sum(), found.means + sign * aside, covariances)
            assert other.bound(x, q).mean() < found.bound(x, q).mean()


@PROPERTY
@given(SEEDS)
def test_the_gap_of_mean_field_is_what_the_precision_says(seed: int) -> None:
    x, model = linear_gaussian(seed)
    q = model.mean_field(x)
    precision = np.linalg.inv(model.posterior(x).covariance[0])
    expected = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    gap = model.log_likelihood(x) - model.bound(x, q)
    np.testing.assert_allclose(gap, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(gap, model.mean_field_gap, rtol=0, atol=1e-9)


@PROPERTY
@given(SEEDS)
def test_the_gap_is_the_kl_and_mean_field_has_the_least_without_correlations(seed: int) -> None:
    """Any q misses log p(x) by KL(q || p(z|x)); moved or stretched, mean field misses it by more."""
    x, model = linear_gaussian(seed)
    random = np.random.default_rng(seed)
    best = model.mean_field(x)
    other = Gaussian(
        best.mean + 0.3 * random.normal(size=best.mean.shape), best.covariance * random.uniform(0.5, 2.0, (50, 1, 1))
    )
    gap = model.log_likelihood(x) - model.bound(x, other)
    np.testing.assert_allclose(gap, model.divergence(x, other), rtol=1e-9, atol=1e-9)
    assert (gap >= model.mean_field_gap - 1e-9).all()


def test_densities_are_those_of_scipy() -> None:
    x, model = linear_gaussian(3)
    covariance = model.loadings @ model.loadings.T + np.diag(model.variances)
    expected = stats.multivariate_normal(model.mean, covariance).logpdf(x)
    np.testing.assert_allclose(model.log_likelihood(x), expected, rtol=1e-12)
    points, several = mixture(3)
    parts = zip(several.weights, several.means, several.covariances, strict=True)
    density = sum(weight * stats.multivariate_normal(mean, spread).pdf(points) for weight, mean, spread in parts)
    np.testing.assert_allclose(several.log_likelihood(points), np.log(density), rtol=1e-12)


def test_mean_field_from_the_maximum_raises_the_bound_and_lowers_the_likelihood() -> None:
    x, start = em.factors(np.random.default_rng(0))
    most = em.climb(start, x, LinearGaussian.posterior, 300).model
    found = em.climb(most, x, LinearGaussian.mean_field, 5)
    assert em.falls(found.bound) == 0
    assert found.bound[-1] > found.bound[0] + 0.05
    assert found.log_likelihood[2] < found.log_likelihood[0] - 0.01
    assert found.gap[::2].min() > 0.05, "it touches nowhere"
    assert found.gap[-1] == pytest.approx(found.model.mean_field_gap, abs=1e-9)


@pytest.mark.slow
def test_the_gap_of_a_trained_linear_encoder_is_what_its_bounded_input_leaves() -> None:
    random = np.random.default_rng(0)
    em.clusters(random)
    x, _ = em.factors(random)
    found = em.train(x, 0)
    assert len(found.bound) == len(found.pieces) == em.EPOCHS + 1
    np.testing.assert_allclose(found.gap, found.divergence, atol=1e-9)
    np.testing.assert_allclose([each.total for each in found.pieces], found.gap, atol=1e-6)
    assert min(min(astuple(each)) for each in found.pieces) > -1e-6
    most = probabilistic_pca(x, 2, em.NOISE**2).log_likelihood(x).mean()
    assert (found.log_likelihood < most).all()
    assert found.log_likelihood[-1] == pytest.approx(most, abs=2e-3), "as likely as can be"
    last = found.pieces[-1]
    assert last.inputs == pytest.approx(0.027, abs=2e-3)
    assert max(last.shape, last.mean, last.variances) < 1e-3, "all else is learnt away"
    assert found.pieces[10].shape > 0.02, "latents turn on the way"


@PROPERTY
@given(SEEDS)
def test_a_linear_encoder_of_the_record_itself_can_reach_the_gap_of_its_shape(seed: int) -> None:
    x, model = linear_gaussian(seed)
    found = Gap.of(model, x, x, model.mean_field(x))
    assert found.shape == model.mean_field_gap
    np.testing.assert_allclose([found.inputs, found.mean, found.variances], 0.0, atol=1e-9)
    bounded = Gap.of(model, x, np.tanh(x), model.mean_field(x))
    assert bounded.inputs > 1e-6


def test_no_loadings_are_likelier_than_those_of_probabilistic_pca() -> None:
    x, _ = em.factors(np.random.default_rng(1))
    model = probabilistic_pca(x, 2, em.NOISE**2)
    most = model.log_likelihood(x).mean()
    random = np.random.default_rng(2)
    for _ in range(50):
        other = model.loadings + 0.05 * random.normal(size=model.loadings.shape)
        assert LinearGaussian(other, model.mean, model.variances, model.free).log_likelihood(x).mean() < most
