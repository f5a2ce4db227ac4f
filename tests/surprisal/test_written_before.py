"""Bundles that an earlier release wrote, with what it said of sixty records: they mean the same to this one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import surprisal
from bundle.folder import store
from service.settings import Settings
from tests.conftest import in_process

BEFORE = Path(__file__).parents[1] / "written_before"
NAMES = ("payments", "scans")


def said(name: str) -> pa.Table:
    return pyarrow.parquet.read_table(BEFORE / f"{name}.scored.parquet")


def one_rank(name: str) -> float:
    """A record that calibrated may rank above or below itself where another processor rounds its score."""
    manifest = store.load(*store.resolve(BEFORE / name)).manifest
    return 1 / (manifest.calibration.records + 1) + 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_records_have_the_scores_that_they_had(name: str) -> None:
    records, before = pyarrow.parquet.read_table(BEFORE / f"{name}.records.parquet"), said(name)
    now = surprisal.load(BEFORE / name).score(records, explain=True, latent=True)
    columns = before.column_names[records.num_columns :]
    assert set(columns) <= set(now.column_names)
    for column in columns:
        expected, found = before[column].combine_chunks(), now[column].combine_chunks()
        if pa.types.is_floating(found.type):
            # To the last bit on the kind of processor that wrote them; the tolerance of golden records on any.
            atol = one_rank(name) if column == "p_value" else 1e-4
            np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=atol, err_msg=column)
        elif pa.types.is_boolean(found.type):
            assert found.equals(expected), column


@pytest.mark.parametrize("name", NAMES)
async def test_they_are_served(name: str) -> None:
    records, before = pyarrow.parquet.read_table(BEFORE / f"{name}.records.parquet"), said(name)
    body = pa.BufferOutputStream()
    with pa.ipc.new_stream(body, records.schema) as writer:
        writer.write_table(records)
    async with in_process(Settings(models=BEFORE, default_model=name)) as (client, _):
        media_type = "application/vnd.apache.arrow.stream"
        answer = await client.post("/score", content=body.getvalue().to_pybytes(), headers={"Content-Type": media_type})
    assert answer.status_code == 200
    now = pa.ipc.open_stream(answer.content).read_all()
    np.testing.assert_allclose(np.asarray(now["p_value"]), np.asarray(before["p_value"]), atol=one_rank(name))
