"""What records are called."""

import numpy as np
import pyarrow as pa

from tests.conftest import as_data
from training.report import naming

ROWS = np.array([1, 0])


def test_an_image_from_a_file_is_called_by_its_file() -> None:
    table = pa.table({"file": ["good/1.png", "bad/" + "x" * 100], "label": ["good", "bad"]})
    long, short = naming.names(as_data(table), ROWS)
    assert short == "good/1.png"
    assert long.startswith("bad/xxx")
    assert len(long) < 60


def test_any_other_record_is_called_by_its_row() -> None:
    assert naming.names(as_data(pa.table({"x": np.arange(1200.0)})), np.array([0, 1199])) == ("row 1", "row 1,200")
