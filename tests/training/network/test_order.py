"""Blocks of rows on disk: each row has one place, an epoch has each row once, and blocks stand for the whole."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.network.order import TOGETHER, Blocks


@given(st.integers(1, 500), st.integers(1, 60), st.lists(st.integers(0, 500), max_size=6), st.integers(0, 9))
def test_rows_are_dealt_to_places_of_their_own_however_they_are_cut(
    rows: int, block_rows: int, cuts: list[int], seed: int
) -> None:
    blocks = Blocks(rows, block_rows)
    whole = blocks.dealt(0, rows, seed)
    assert sorted(whole.tolist()) == list(range(rows))
    bounds = [0, *sorted(min(cut, rows) for cut in cuts), rows]
    parts = [blocks.dealt(start, end - start, seed) for start, end in pairwise(bounds)]
    assert np.array_equal(np.concatenate(parts), whole)


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 70))
def test_an_epoch_has_every_row_once_in_batches_of_one_size(rows: int, block_rows: int, size: int) -> None:
    batches = list(Blocks(rows, block_rows).batches(size, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat(batches).tolist()) == list(range(rows))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert len(batches) == -(-rows // size)


def test_epochs_differ_and_one_state_of_the_generator_gives_one_order() -> None:
    blocks, generator = Blocks(1000, 10), torch.Generator().manual_seed(0)
    state = generator.get_state()
    first, second = (torch.cat(list(blocks.batches(64, generator))) for _ in range(2))
    generator.set_state(state)
    assert torch.equal(torch.cat(list(blocks.batches(64, generator))), first)
    assert not torch.equal(first, second)


def test_a_batch_lies_in_as_many_blocks_as_are_shuffled_together() -> None:
    blocks = Blocks(100_000, 100)
    batches = list(blocks.batches(800, torch.Generator().manual_seed(0)))
    lying_in = [len(np.unique(batch.numpy() // 100)) for batch in batches]
    # Where two windows meet in a batch it lies in both.
    assert max(lying_in) <= 2 * TOGETHER
    assert np.median(lying_in) == TOGETHER


def test_blocks_and_batches_of_a_sorted_file_have_the_mean_of_the_whole() -> None:
    rows = 200_000
    values = np.empty(rows)
    blocks = Blocks(rows, 1000)
    values[blocks.dealt(0, rows, seed=0)] = np.linspace(-1, 1, rows)
    deviation = values.std()
    of_blocks = values.reshape(-1, 1000).mean(axis=1)
    assert of_blocks.std() < 0.2 * deviation / np.sqrt(1000), "stratified blocks vary less than random ones"
    batches = list(blocks.batches(500, torch.Generator().manual_seed(0)))
    means = np.array([values[batch.numpy()].mean() for batch in batches])
    assert means.std() == pytest.approx(deviation / np.sqrt(500), rel=0.15)
