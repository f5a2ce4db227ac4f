"""Blocks of a table read as a sample of it was: each has the values that it has where the whole is looked at."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reading.formats.ndjson import AS_JSON
from reading.likeness import Likeness
from reading.options import Options
from reading.typed import typed

ROWS = 400
RANDOM = np.random.default_rng(0)
AMOUNTS = RANDOM.uniform(1, 5000, ROWS)
DAYS = np.datetime64("2026-01-01") + RANDOM.integers(0, 300, ROWS)
SECONDS = 1_770_000_000 + RANDOM.integers(0, 10**6, ROWS)


def day(value: np.datetime64, form: str) -> str:
    return str(value.astype(object).strftime(form))


def with_gaps(cells: list[Any], gap: Any = None) -> list[Any]:
    return [gap if row % 17 == 5 else cell for row, cell in enumerate(cells)]


COLUMNS: dict[str, tuple[list[Any], str | None]] = {
    "plain numbers": (with_gaps([f"{value:.2f}" for value in AMOUNTS]), None),
    "whole numbers": (with_gaps([str(int(value)) for value in AMOUNTS], "NA"), None),
    "decimal commas": (with_gaps([f"{value:.2f}".replace(".", ",") for value in AMOUNTS], ""), None),
    "thousands and a currency": ([f"{value:,.2f} EUR" for value in AMOUNTS], None),
    "brackets": ([f"({value:.1f})" if value > 2500 else f"{value:.1f}" for value in AMOUNTS], None),
    "few texts among numbers": (
        ["n.b." if row in (3, 77) else f"{value:.1f}" for row, value in enumerate(AMOUNTS)],
        None,
    ),
    "codes": ([f"{int(value):05d}" for value in AMOUNTS], None),
    "codes said to be numbers": ([f"{int(value):05d}" for value in AMOUNTS], "numeric"),
    "numbers said to be categories": ([str(int(value) % 7) for value in AMOUNTS], "categorical"),
    "flags": (with_gaps(["True" if value > 2500 else "FALSE" for value in AMOUNTS], "-"), None),
    "texts": (with_gaps([f" {'abc'[int(value) % 3]}" for value in AMOUNTS], "  "), None),
    "days": (with_gaps([day(value, "%d.%m.%Y") for value in DAYS], "?"), None),
    "american days": ([day(value, "%m/%d/%Y") for value in DAYS], None),
    "named months": ([day(value, "%d %b %Y") for value in DAYS], None),
    "seconds since 1970": (with_gaps(SECONDS.tolist()), "timestamp"),
    "days as numbers": ([int(day(value, "%Y%m%d")) for value in DAYS], "timestamp"),
    "seconds as text": ([str(value) for value in SECONDS], "timestamp"),
    "float numbers": (with_gaps(AMOUNTS.tolist(), float("nan")), None),
    "whole typed numbers": (with_gaps([int(value) for value in AMOUNTS]), None),
    "numbers beyond 2^53": ([2**60 + int(value) for value in AMOUNTS], None),
    "typed flags": (with_gaps([bool(value > 2500) for value in AMOUNTS]), None),
    "typed moments": (with_gaps(DAYS.astype("datetime64[us]").tolist()), None),
}


def read(column: pa.ChunkedArray, kind: str | None, metadata: Any = None) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """A column as the whole of it is looked at, and as its blocks are read by a sample of it."""
    raw = pa.table([column], schema=pa.schema([pa.field("x", column.type, metadata=metadata)]))
    whole = typed(column, metadata, Options(), kind=kind)
    sample = raw.take(pa.array(np.sort(RANDOM.permutation(ROWS)[:250])))
    of_sample = typed(sample["x"], metadata, Options(), kind=kind)
    likeness = Likeness(
        sample, pa.table({"x": of_sample.column}), Options(), orders={"x": whole.order} if whole.order else {}
    )
    blocks = [likeness.of(raw.slice(start, 90), ["x"])["x"] for start in range(0, ROWS, 90)]
    assert all(block.are_few or not block.strangers.size for block in blocks)
    return whole.column, pa.chunked_array([chunk for block in blocks for chunk in block.column.chunks])


@pytest.mark.parametrize("name", COLUMNS)
def test_blocks_have_the_values_of_the_whole(name: str) -> None:
    cells, kind = COLUMNS[name]
    whole, blocks = read(pa.chunked_array([cells]), kind)
    if pa.types.is_integer(whole.type):
        blocks = blocks.cast(whole.type)
    assert blocks.to_pylist() == whole.to_pylist()
    assert blocks.type == whole.type


def test_cells_that_are_json_have_the_values_of_the_whole() -> None:
    cells = [None if row % 9 == 0 else f'"{row % 4}"' if row % 2 else str(row % 4) for row in range(ROWS)]
    whole, blocks = read(pa.chunked_array([cells]), None, AS_JSON)
    assert [None if value is None else int(value) for value in blocks.to_pylist()] == whole.to_pylist()


@pytest.mark.parametrize(
    ("name", "cell", "expected", "are_few"),
    [
        ("plain numbers", "what", "a number is expected", True),
        ("flags", "maybe", "true or false is expected", False),
        ("days", "yesterday", "a timestamp as dd.mm.yyyy is expected", False),
        ("seconds as text", "12", "a timestamp is expected", True),
        ("whole numbers", "9007199254740993", "a whole number beyond 2^53", False),
        ("whole typed numbers", 9007199254740993, "a whole number beyond 2^53", False),
    ],
)
def test_a_cell_that_the_sample_has_none_like_is_told(name: str, cell: object, expected: str, are_few: bool) -> None:
    cells, kind = COLUMNS[name]
    raw = pa.table({"x": cells})
    likeness = Likeness(raw, pa.table({"x": typed(raw["x"], None, Options(), kind=kind).column}), Options())
    later = [cell if row == 12 else each for row, each in enumerate(cells[:60])]
    found = likeness.of(pa.table({"x": later}), ["x"])["x"]
    assert found.strangers.tolist() == [12]
    assert found.expected.startswith(expected)
    assert found.are_few is are_few


def test_a_block_without_values_is_missing_in_all_its_rows() -> None:
    for name in ("plain numbers", "flags", "days", "seconds as text", "texts"):
        cells, kind = COLUMNS[name]
        raw = pa.table({"x": cells})
        likeness = Likeness(raw, pa.table({"x": typed(raw["x"], None, Options(), kind=kind).column}), Options())
        found = likeness.of(pa.table({"x": pa.nulls(5, pa.string())}), ["x"])["x"]
        assert (found.column.null_count, found.strangers.size) == (5, 0)
