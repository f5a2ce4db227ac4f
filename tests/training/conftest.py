"""Tables that the tests of training share."""

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import as_data
from training.data.read import Data


def mixed_table(rows: int = 600, seed: int = 0) -> pa.Table:
    """A table with every kind of column that inference must decide about."""
    random = np.random.default_rng(seed)
    size = random.normal(size=rows)
    return pa.table(
        {
            "id": [f"user-{index}" for index in range(rows)],
            "when": pa.array(
                np.datetime64("2026-03-02T00:00:00") + random.integers(0, 90 * 24, rows).astype("timedelta64[h]")
            ),
            "height": pa.array(170 + 10 * size, mask=random.random(rows) < 0.1),
            "visits": random.poisson(3, rows),
            "flag": (size > 0).astype(np.int64),
            "rare": (random.random(rows) < 0.005).astype(np.int64),
            "member": random.random(rows) < 0.3,
            "colour": random.choice(["red", "green", "blue"], rows, p=[0.6, 0.3, 0.1]),
            "code": random.choice([100, 200, 300], rows),
            "constant": np.ones(rows),
            "empty": pa.nulls(rows, pa.float64()),
            "label": random.choice(["ok", "bad"], rows, p=[0.9, 0.1]),
        }
    )


@pytest.fixture
def mixed() -> Data:
    """A mixed table of 600 rows."""
    return as_data(mixed_table())
