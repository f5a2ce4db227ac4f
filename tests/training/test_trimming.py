"""Training rows that may hold anomalies: the least likely are left out before anything is fitted."""

import numpy as np
import pyarrow as pa

from tests.conftest import as_data
from training import config, schema, trimming
from training.data import Data

ROWS, STRANGE = 600, 30


def contaminated() -> Data:
    """Two numbers that go together, a category; the last rows are alike and lie apart."""
    random = np.random.default_rng(0)
    size = random.normal(size=ROWS)
    numbers = np.stack([size, size + 0.2 * random.normal(size=ROWS)], axis=1)
    numbers[-STRANGE:] = [1.5, -1.5] + 0.01 * random.normal(size=(STRANGE, 2))
    colours = random.choice(["red", "green"], ROWS)
    return as_data(pa.table({"a": numbers[:, 0], "b": numbers[:, 1], "colour": colours}))


def prepared(share: float) -> tuple[schema.RecordSchema, list[int], list[int]]:
    data = contaminated()
    settings = config.build({"data": {"contamination": share}})
    rows = np.arange(ROWS)
    fields = schema.infer(data, rows, settings).fields
    record, train, validation = trimming.prepare(data, rows[rows % 10 > 0], rows[rows % 10 == 0], fields, settings)
    return record, train.tolist(), validation.tolist()


def test_anomalies_that_are_alike_do_not_vouch_for_each_other() -> None:
    record, train, validation = prepared(STRANGE / ROWS)
    assert max(*train, *validation) < ROWS - STRANGE
    assert len(train) == 540 - 3 * 27
    assert len(validation) == 60 - 3 * 3
    assert train == sorted(train)
    # The anomalies pull the second number down; without them its mean is that of the normal rows.
    assert abs(record.numeric[1].mean) < 0.1


def test_without_contamination_nothing_is_left_out() -> None:
    record, train, validation = prepared(0.0)
    assert len(train) + len(validation) == ROWS
    data = contaminated()
    rows = np.arange(ROWS)
    settings = config.build({})
    fields = schema.infer(data, rows, settings).fields
    assert record == schema.fit(data, rows[rows % 10 > 0], fields, settings)


def test_never_more_than_half_of_the_rows_are_left_out() -> None:
    assert len(prepared(0.45)[1]) == 270
