"""Hashes of rows: the same however rows are cut, uniform, and others for another key."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import row_hash


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.lists(st.integers(0, 50), max_size=8))
def test_hashes_are_the_same_however_rows_are_cut(key: int, first: int, cuts: list[int]) -> None:
    whole = row_hash.hashes(key, first, sum(cuts))
    starts = np.cumsum([first, *cuts]).tolist()
    parts = [row_hash.hashes(key, start, rows) for start, rows in zip(starts, cuts, strict=False)]
    assert np.array_equal(np.concatenate([np.empty(0, np.uint64), *parts]), whole)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_no_two_rows_of_a_file_have_the_same_hash(key: int, first: int) -> None:
    assert np.unique(row_hash.hashes(key, first, 2000)).size == 2000


def test_the_mix_is_the_documented_one() -> None:
    # The first numbers of SplitMix64 seeded with 1234567, as its authors publish them.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert row_hash.hashes(1234567, 0, 4).tolist() == expected


def test_hashes_are_uniform_and_each_bit_is_set_in_half_of_them() -> None:
    found = row_hash.hashes(row_hash.key(0, "part-0.parquet"), 0, 2**16)
    share = np.sort(found) / 2**64
    ranks = (np.arange(2**16) + 0.5) / 2**16
    assert 2**8 * np.abs(share - ranks).max() < 1.63, "Kolmogorov's bound at 1 %"
    for bit in range(64):
        assert ((found >> np.uint64(bit)) & np.uint64(1)).mean() == pytest.approx(0.5, abs=0.01)


def test_another_seed_and_another_file_have_other_keys() -> None:
    keys = {row_hash.key(seed, file) for seed in (0, 1) for file in ("a", "b", "day=1/a")}
    assert len(keys) == 6
