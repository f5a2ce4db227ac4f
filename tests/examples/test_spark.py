"""Scores on Spark in its local mode, where pyspark and a Java runtime are there."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet
import pytest

import surprisal
from tests.conftest import NAME, simulate_payments

ROWS = 2000
EXAMPLE = Path(__file__).parents[2] / "examples" / "spark.py"
SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "300",
}


@pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed")
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a Java runtime, and there is none")
def test_rows_have_the_scores_that_they_have_here(models: Path, tmp_path: Path) -> None:
    payments = simulate_payments(seed=6).slice(0, ROWS)
    payments = payments.append_column("id", pa.array(range(ROWS)))
    pyarrow.parquet.write_table(payments, tmp_path / "in.parquet")
    settings = " ".join(f"--conf {name}={value}" for name, value in SETTINGS.items())
    environment = os.environ | {
        "PYSPARK_SUBMIT_ARGS": f"--master local[2] {settings} pyspark-shell",
        "PYSPARK_PYTHON": sys.executable,
    }
    command = [sys.executable, EXAMPLE, tmp_path / "in.parquet", models / NAME / "1", tmp_path / "out"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=240, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = pyarrow.dataset.dataset(tmp_path / "out", format="parquet").to_table().sort_by("id")
    assert found.select(payments.column_names).equals(payments.cast(found.select(payments.column_names).schema))
    expected = surprisal.load(models / NAME).score(payments)
    assert found["is_anomaly"].equals(expected["is_anomaly"])
    differences = pc.abs(pc.subtract(found["p_value"], expected["p_value"]))
    assert pc.max(differences).as_py() < 1e-4
