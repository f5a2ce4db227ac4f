"""Public tables as a European spreadsheet writes them train to the fields that they have as they are."""

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from tests.cases import tables
from training import config
from training.data import kinds, schema
from training.data.read import Data, read

DATA = Path(__file__).parents[3] / "shared" / "data"


def fitted(data: Data) -> object:
    """The fields with their statistics: what a training begins with."""
    settings, every = config.build({}), np.arange(data.table.num_rows)
    return schema.fit(data, every, kinds.infer(data, every, settings).fields, settings)


@pytest.mark.parametrize("name", ["nslkdd_train20", "adult_train"])
def test_a_european_spreadsheet_trains_to_the_same_fields(name: str, tmp_path: Path) -> None:
    source, path = DATA / f"{name}.parquet", tmp_path / f"{name}.csv"
    if not source.exists():
        pytest.skip(f"no public data: {source.name} lies in ../shared/data")
    table = pyarrow.parquet.read_table(source)
    with path.open("w", encoding="windows-1252", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(table.column_names)
        columns = ([tables.text(value, ",") for value in column.to_pylist()] for column in table.columns)
        writer.writerows(zip(*columns, strict=True))
    found = read(path)
    assert "semicolon" in found.said
    assert fitted(found) == fitted(read(source))
