"""What a run is made of where its table is streamed: likely anomalies go, and all rows are counted."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from bundle.record.fields import NumericField
from tests.training.data.test_streamed import training_rows, written
from training import config
from training.data.streamed import stream
from training.fitting import prepared

ROWS, STRANGE = 6000, 300


def test_likely_anomalies_are_left_out_of_statistics_and_of_the_rows_that_are_trained_on(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    size = random.normal(size=ROWS)
    numbers = np.stack([size, size + 0.2 * random.normal(size=ROWS)], axis=1)
    numbers[::20] = [1.5, -1.5] + 0.01 * random.normal(size=(STRANGE, 2))
    path = written(tmp_path / "parts", pa.table({"a": numbers[:, 0], "b": numbers[:, 1]}), "parquet")
    settings = config.build({"data": {"contamination": 0.05, "calibration_most": 200}})
    said: list[str] = []
    found = prepared.prepare_streamed(stream(path, settings, sample_rows=800), settings, said.append)
    assert found.streamed is not None
    trained_on = training_rows(found.streamed, ("a", "b"))
    assert len(trained_on) == found.rows == found.streamed.train
    assert found.rows + found.validation.size + found.parts.calibration.size + found.left_out == ROWS
    assert abs(found.rows / (ROWS - 400) - 0.85) < 0.05
    starts = {f"part-{index}.parquet": index * 1500 for index in range(4)}
    places = np.array([starts[file] + number - 1 for file, number in trained_on])
    assert not (places % 20 == 0).any()
    _, field = (each for each in found.record.fields if isinstance(each, NumericField))
    kept = numbers[places, 1]
    assert np.isclose(field.mean, kept.mean(), rtol=0, atol=1e-12)
    assert np.isclose(field.scale, kept.std(), rtol=1e-12)
    assert f"{found.left_out} left out as the likeliest anomalies" in said[-1]
