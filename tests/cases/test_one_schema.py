"""Random tables that a CSV can express have one schema and one score, whatever they are written as."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.record.records import encode_what_fits
from reading import opening
from reading.options import Options
from reading.values import Values
from tests.cases import tables
from training import config
from training.data import kinds, schema
from training.data.read import Data, read
from training.errors import DataInvalid

ROWS = 60
numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "floats": numbers,
    "integers": st.integers(-1000, 1000),
    "flags": st.booleans(),
    "bits": st.integers(0, 1),
    "words": st.sampled_from(["web", "shop", "NA", "None", "true", "1", "1.0", "a,b", 'q"q', " x ", "Ü"]),
    "codes": st.sampled_from(["007", "012", "100"]),
    "any words": words,
    "days": st.dates().map(lambda day: day.isoformat()),
    "large": st.integers(2**53, 2**62),
}


@st.composite
def columns(draw: st.DrawFn) -> dict[str, list[Any]]:
    """A few columns, some of whose cells are empty; one of numbers is always there."""
    found: dict[str, list[Any]] = {"height": draw(st.lists(numbers, min_size=ROWS, max_size=ROWS, unique=True))}
    for index, kind in enumerate(draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=4))):
        share = draw(st.sampled_from([0.0, 0.2]))
        cells = draw(st.lists(CELLS[kind], min_size=ROWS, max_size=ROWS))
        gaps = np.random.default_rng(draw(st.integers(0, 99))).random(ROWS) < share
        found[f"{kind} {index}"] = [None if gap else cell for cell, gap in zip(cells, gaps, strict=True)]
    return found


def written(folder: Path, table: pa.Table) -> list[Path]:
    paths = [tables.save(folder / f"in.{ending}", table) for ending in tables.ENDINGS]
    said = {"index_columns": [], "columns": [], "pandas_version": "3.0.0"}
    marked = folder / "pandas.parquet"
    pyarrow.parquet.write_table(table.replace_schema_metadata({"pandas": json.dumps(said)}), marked)
    return [*paths, marked]


def seen(data: Data) -> Any:
    """The fields, and the first rows as a model of them would take them."""
    settings, every = config.build({}), np.arange(data.table.num_rows)
    try:
        inferred = kinds.infer(data, every, settings)
    except DataInvalid as error:
        return str(error)
    return schema.fit(data, every, inferred.fields, settings)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(columns())
def test_every_format_has_one_schema_and_gives_the_same_tensors(drawn: dict[str, list[Any]]) -> None:
    with TemporaryDirectory() as place:
        paths = written(Path(place), pa.table(drawn))
        first, *others = (seen(read(path)) for path in paths)
        for path, other in zip(paths[1:], others, strict=True):
            assert other == first, path.name
        if isinstance(first, str):
            return
        tensors = []
        for path in paths:
            file = opening.opened(path)
            values = Values(first, file, Options())
            given_, problems = values.of(opening.read(file)[0])
            assert not problems
            found, _ = encode_what_fits(first, given_, ROWS, ROWS)
            tensors.append(found)
        for path, found in zip(paths[1:], tensors[1:], strict=True):
            for name, expected in tensors[0].items():
                np.testing.assert_array_equal(found[name], expected, err_msg=f"{path.name} {name}")
