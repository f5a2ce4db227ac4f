"""The noise table: a function of its seed, finite, normal, and balanced in every first 2^k rows."""

import numpy as np
import pytest
import torch
from scipy import stats

from bundle.contents.manifest import SAMPLE_COUNTS
from training.network.noise import ROWS, noise_table

LATENT_SIZES = (1, 2, 9, 200)
SEEDS = (0, 1, 12345)


def test_the_table_holds_the_most_draws_that_a_request_may_ask_for() -> None:
    assert max(SAMPLE_COUNTS) == ROWS == 256


@pytest.mark.parametrize("latent_size", LATENT_SIZES)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_entry_is_a_finite_float32(latent_size: int, seed: int) -> None:
    table = noise_table(latent_size, seed)
    assert table.shape == (256, latent_size)
    assert table.dtype == np.float32
    assert np.isfinite(table).all()


@pytest.mark.parametrize("latent_size", LATENT_SIZES)
def test_the_seed_decides_the_table(latent_size: int) -> None:
    first, other = (noise_table(latent_size, seed) for seed in (7, 8))
    np.testing.assert_array_equal(noise_table(latent_size, 7), first)
    assert (other != first).mean() > 0.99


@pytest.mark.parametrize("latent_size", LATENT_SIZES)
@pytest.mark.parametrize("seed", SEEDS)
def test_half_of_each_first_power_of_two_rows_is_negative_in_every_column(latent_size: int, seed: int) -> None:
    table = noise_table(latent_size, seed)
    for samples in SAMPLE_COUNTS[1:]:
        np.testing.assert_array_equal((table[:samples] < 0).sum(axis=0), samples // 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_first_power_of_two_rows_has_one_point_in_each_stratum(seed: int) -> None:
    for samples in SAMPLE_COUNTS:
        strata = np.sort(np.floor(stats.norm.cdf(noise_table(9, seed)[:samples]) * samples), axis=0)
        np.testing.assert_array_equal(strata, np.repeat(np.arange(samples)[:, None], 9, axis=1))


@pytest.mark.parametrize("latent_size", LATENT_SIZES)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_column_is_standard_normal(latent_size: int, seed: int) -> None:
    table = noise_table(latent_size, seed).astype(np.float64)
    np.testing.assert_allclose(table.mean(axis=0), 0.0, atol=0.02)
    np.testing.assert_allclose(table.var(axis=0), 1.0, atol=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_columns_are_uncorrelated(seed: int) -> None:
    correlation = np.corrcoef(noise_table(9, seed).astype(np.float64), rowvar=False)
    np.testing.assert_allclose(correlation, np.eye(9), atol=0.2)


def test_points_fill_the_plane_more_evenly_than_chance() -> None:
    plain = np.random.default_rng(0).uniform(size=(ROWS, 2))
    uniform = stats.norm.cdf(noise_table(2, 0).astype(np.float64)).clip(0, 1)
    assert stats.qmc.discrepancy(uniform) < 0.1 * stats.qmc.discrepancy(plain)


def test_the_table_leaves_the_global_generators_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    noise_table(5, 0)
    assert torch.equal(before, torch.get_rng_state())
