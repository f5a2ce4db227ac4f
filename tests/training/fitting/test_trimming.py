"""Training rows that may hold anomalies: the least likely are left out before anything is fitted."""

import numpy as np
import pyarrow as pa
import pytest

from bundle.record.schema import TableSchema
from tests.conftest import as_data
from training import config
from training.data import kinds, row_hash, schema
from training.data.read import Data
from training.errors import DataInvalid
from training.fitting import trimming

ROWS, STRANGE = 600, 30


def contaminated(seed: int = 0) -> Data:
    """Two numbers that go together, a category; the last rows are alike and break their dependence."""
    random = np.random.default_rng(seed)
    size = random.normal(size=ROWS)
    numbers = np.stack([size, size + 0.2 * random.normal(size=ROWS)], axis=1)
    numbers[-STRANGE:] = [1.5, -1.5] + 0.01 * random.normal(size=(STRANGE, 2))
    colours = random.choice(["red", "green"], ROWS)
    return as_data(pa.table({"a": numbers[:, 0], "b": numbers[:, 1], "colour": colours}))


def prepared(share: float) -> tuple[TableSchema, list[int], list[int]]:
    return trim(contaminated(), share)


def trim(data: Data, share: float) -> tuple[TableSchema, list[int], list[int]]:
    settings = config.build({"data": {"contamination": share}})
    rows = np.arange(data.table.num_rows)
    fields = kinds.infer(data, rows, settings).fields
    record, train, validation = trimming.prepare(data, rows[rows % 10 > 0], rows[rows % 10 == 0], fields, settings)
    assert isinstance(record, TableSchema)
    return record, train.tolist(), validation.tolist()


def test_anomalies_that_are_alike_do_not_vouch_for_each_other() -> None:
    record, train, validation = prepared(STRANGE / ROWS)
    assert max(*train, *validation) < ROWS - STRANGE
    assert len(train) == 540 - 3 * 27
    assert len(validation) == 60 - 3 * 3
    assert train == sorted(train)
    # The anomalies pull the second number down; without them its mean is that of the normal rows.
    assert abs(record.numeric[1].mean) < 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_neither_anomalies_in_a_gap_nor_such_as_break_a_dependence_stay(seed: int) -> None:
    """Two groups, two columns that go together: each density alone, and the sum of their ranks, keeps some."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(ROWS, 3))
    numbers[:, 0] = random.choice([-4.0, 4.0], ROWS) + 0.3 * numbers[:, 0]
    numbers[:, 2] = numbers[:, 1] + 0.05 * random.normal(size=ROWS)
    gap, broken = slice(ROWS - 15, ROWS), slice(ROWS - 30, ROWS - 15)
    numbers[gap, 0] = random.uniform(-1.0, 1.0, 15)
    numbers[broken, 1] = 0.15 * random.choice([-1.0, 1.0], 15)
    numbers[broken, 2] = -numbers[broken, 1]
    data = as_data(pa.table({f"x{place}": column for place, column in enumerate(numbers.T)}))
    _, train, validation = trim(data, STRANGE / ROWS)
    assert max(*train, *validation) < ROWS - STRANGE


def test_of_rows_that_are_alike_those_that_go_are_spread_over_the_file() -> None:
    random = np.random.default_rng(0)
    columns = {name: random.choice(["a", "b", "c"][:kinds], 2000) for name, kinds in (("x", 2), ("y", 2), ("z", 3))}
    _, train, validation = trim(as_data(pa.table(columns)), 0.1)
    gone = np.setdiff1d(np.arange(2000), [*train, *validation])
    quarters = np.bincount(gone // 500, minlength=4)
    assert quarters.sum() == 600
    assert quarters.max() < 2 * quarters.min()


def test_rows_beyond_a_sample_go_by_what_it_says_of_them() -> None:
    """The sample is the table above; the rows beyond it are as many, of which the first are as their last."""
    settings, every = config.build({"data": {"contamination": STRANGE / ROWS}}), np.arange(ROWS)
    sample, beyond = contaminated(), contaminated(seed=1)
    fields = kinds.infer(sample, every, settings).fields
    train, validation = every[every % 10 > 0], every[every % 10 == 0]
    cut = trimming.Cut(sample, train, validation, fields, settings, np.uint64(0))
    hashes = row_hash.hashes(0, 0, ROWS)
    kept = cut.keeps(beyond, every, hashes)
    assert not kept[-STRANGE:].any()
    assert kept.mean() == pytest.approx(1 - 3 * STRANGE / ROWS, abs=0.03)
    assert np.array_equal(cut.keeps(beyond, every[200:300], hashes[200:300]), kept[200:300])
    _, stay, _ = trimming.prepare(sample, train, validation, fields, settings)
    of_sample = np.intersect1d(np.flatnonzero(cut.keeps(sample, every, hashes)), train)
    assert np.setxor1d(of_sample, stay).size <= 1, "but for rounding those that go are the same"


def test_of_rows_beyond_a_sample_that_are_alike_a_share_goes_by_their_hashes() -> None:
    random = np.random.default_rng(0)
    columns = {name: random.choice(["a", "b", "c"][:kinds], 4000) for name, kinds in (("x", 2), ("y", 2), ("z", 3))}
    data, every = as_data(pa.table(columns)), np.arange(4000)
    settings = config.build({"data": {"contamination": 0.1}})
    fields = kinds.infer(data, every, settings).fields
    hashes = row_hash.hashes(0, 0, 2000)
    for held_out in (0.0, 0.4):
        last = np.uint64(held_out * 2**64)
        cut = trimming.Cut(data, every[:1800], every[1800:2000], fields, settings, last)
        kept = cut.keeps(data, every[2000:][hashes > last], hashes[hashes > last])
        assert kept.mean() == pytest.approx(0.7, abs=0.04), held_out


def test_values_that_only_rows_left_out_have_are_said() -> None:
    """CHF rows are far out, and SEK stands in one row, which no vocabulary would hold."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(400, 2))
    currency = ["EUR"] * 400
    for row in range(11, 400, 40):
        numbers[row], currency[row] = 30.0, "CHF"
    currency[7] = "SEK"
    data = as_data(pa.table({"a": numbers[:, 0], "b": numbers[:, 1], "currency": currency}))
    settings, every = config.build({"data": {"contamination": 0.05}}), np.arange(400)
    fields = kinds.infer(data, every, settings).fields
    record, train, _ = trimming.prepare(data, every[:390], every[390:], fields, settings)
    said = trimming.values_lost(data, every[:390], train, record, fields, settings)
    assert said.keys() == {"currency"}
    assert said["currency"].startswith("contamination leaves out 'CHF' (10 of 10 rows): the model does not know this")
    assert trimming.values_lost(data, train, train, record, fields, settings) == {}


def test_a_column_that_loses_all_its_values_is_said_to() -> None:
    numbers = np.random.default_rng(0).normal(size=(400, 2))
    rare = [float(400 - place * 7 % 40) if place % 10 == 5 else None for place in range(400)]
    data = as_data(pa.table({"a": numbers[:, 0], "b": numbers[:, 1], "rare": rare}))
    with pytest.raises(DataInvalid, match=r"'rare' has no value .* once contamination 0.1 has left out 30% of them"):
        trim(data, 0.1)


def test_without_contamination_nothing_is_left_out() -> None:
    record, train, validation = prepared(0.0)
    assert len(train) + len(validation) == ROWS
    data = contaminated()
    rows = np.arange(ROWS)
    settings = config.build({})
    fields = kinds.infer(data, rows, settings).fields
    assert record == schema.fit(data, rows[rows % 10 > 0], fields, settings)


def test_never_more_than_half_of_the_rows_are_left_out() -> None:
    assert len(prepared(0.45)[1]) == 270
