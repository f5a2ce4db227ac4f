"""What is said of a file's columns before anything is fitted."""

from pathlib import Path

import numpy as np

from tests.cases import tables
from tests.conftest import as_data, table_of_images
from training import config
from training.data import kinds, overview, schema
from training.data.read import read

ROWS = 400


def test_every_field_is_said_with_its_kind_and_what_is_missing_or_unknown(tmp_path: Path) -> None:
    table = tables.base(ROWS, seed=3)
    channels = np.asarray(table["channel"]).copy()
    channels[:4] = ["a", "b", "c", "d"]
    temp = [None if row < 40 else value for row, value in enumerate(table["temp"].to_pylist())]
    table = tables.with_column(tables.with_column(table, "channel", channels), "temp", temp)
    table = tables.with_column(tables.with_column(table, "id", np.arange(ROWS)), "label", ["ok", "bad"] * (ROWS // 2))
    path = tmp_path / "in.csv"
    path.write_text(tables.delimited(table, delimiter=";", decimal=","))
    data, every, settings = read(path), np.arange(ROWS), config.build({})
    inferred = kinds.infer(data, every, settings)
    record = schema.fit(data, every, inferred.fields, settings)
    lines = list(overview.lines(overview.of(data, record, every), data, inferred))
    assert lines[0] == "in.csv read as: semicolon"
    said = [line.split() for line in lines]
    assert said[1] == ["field", "kind", "missing", "unknown"]
    assert ["amount", "numeric", "0%", "-"] in said
    assert ["temp", "numeric", "10.0%", "-"] in said
    assert ["channel", "categorical,", "3", "0%", "1.0%"] in said
    assert ["member", "boolean", "0%", "-"] in said
    assert "amount, temp, pressure: read with decimal comma" in lines
    left_out = lines.index("left out: id grows from row to row, so it counts them")
    assert lines[left_out + 1] == overview.USE_ALL_THE_SAME
    assert any(line.startswith("WARNING: column 'label' looks like a label") for line in lines)


def test_an_image_is_said_by_its_size() -> None:
    data = as_data(table_of_images(20, 0, seed=1).drop_columns("label"))
    every, settings = np.arange(20), config.build({})
    record = schema.fit(data, every, kinds.infer(data, every, settings).fields, settings)
    (said,) = overview.of(data, record, every)
    assert said.kind == "image 8 wide, 8 high, grey"
