"""A sample by hashes: the same in whatever parts and order rows come."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import row_hash
from training.data.smallest import Smallest

ROWS = 300
SCHEMA = pa.schema([("x", pa.int64())])
HASHES = row_hash.hashes(1, 0, ROWS)
PLACES = np.stack([np.arange(ROWS), np.arange(ROWS) + 1], axis=1)


def add(sample: Smallest, rows: np.ndarray) -> Smallest:
    sample.add(HASHES[rows], PLACES[rows], pa.table({"x": rows}, schema=SCHEMA))
    return sample


@given(st.integers(0, ROWS + 5), st.lists(st.integers(0, ROWS), max_size=6), st.randoms(use_true_random=False))
def test_parts_in_any_order_merge_to_the_sample_of_the_whole(size: int, cuts: list[int], random: object) -> None:
    pieces = np.split(np.arange(ROWS), sorted(cuts))
    random.shuffle(pieces)  # type: ignore[attr-defined]
    one_by_one = Smallest(size, SCHEMA)
    for piece in pieces:
        add(one_by_one, piece)
    merged = Smallest(size, SCHEMA)
    for piece in pieces:
        merged.merge(add(Smallest(size, SCHEMA), piece))
    expected = np.sort(np.argsort(HASHES)[:size])
    for sample in (one_by_one, merged):
        hashes, places, table = sample.rows()
        assert places[:, 0].tolist() == expected.tolist()
        assert places[:, 1].tolist() == (expected + 1).tolist()
        assert hashes.tolist() == HASHES[expected].tolist()
        assert table["x"].to_pylist() == expected.tolist()


def test_rows_that_are_not_chosen_are_not_taken() -> None:
    sample = Smallest(5, SCHEMA)
    even = np.arange(ROWS) % 2 == 0
    sample.add(HASHES, PLACES, pa.table({"x": np.arange(ROWS)}, schema=SCHEMA), even)
    _, _, table = sample.rows()
    assert len(table) == 5
    assert all(row % 2 == 0 for row in table["x"].to_pylist())


def test_a_sample_holds_no_more_than_a_little_above_its_size() -> None:
    sample = Smallest(20, SCHEMA)
    most = 0
    for piece in np.split(np.arange(ROWS), 60):
        add(sample, piece)
        most = max(most, sum(len(table) for table in sample._tables))
    assert most <= 25
    assert most == pytest.approx(25, abs=5)
