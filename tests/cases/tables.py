"""A table of made-up values, and the ways in which people write it."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

CHANNELS = ("web", "shop", "atm")
NORMAL_ROWS, NEW_ROWS = 1500, 400


def base(rows: int, seed: int) -> pa.Table:
    """Amounts, a temperature and a pressure that follows it, counts, a channel and a flag."""
    random = np.random.default_rng(seed)
    temp = 20 + 5 * random.standard_normal(rows)
    return pa.table(
        {
            "amount": np.round(np.exp(3 + 0.5 * random.standard_normal(rows)), 2),
            "temp": np.round(temp, 3),
            "pressure": np.round(1000 + 2 * temp + random.standard_normal(rows), 3),
            "items": random.poisson(4, rows),
            "channel": random.choice(CHANNELS, rows, p=[0.5, 0.3, 0.2]),
            "member": random.random(rows) < 0.4,
        }
    )


def with_column(table: pa.Table, name: str, values: Any, place: int = 0) -> pa.Table:
    """The table with another column, or with this one in place of that of its name."""
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, array)
    return table.add_column(place, name, array)


def text(value: object, decimal: str = ".") -> str:
    """A cell of CSV."""
    if value is None:
        return ""
    return repr(value).replace(".", decimal) if isinstance(value, float) else str(value)


def delimited(
    table: pa.Table,
    *,
    delimiter: str = ",",
    decimal: str = ".",
    before: Sequence[str] = (),
    after_names: Sequence[Sequence[str]] = (),
    written: Mapping[str, Callable[[Any], str]] | None = None,
) -> str:
    """The table as delimited text.

    Args:
        table: n rows.
        delimiter: Between cells.
        decimal: The decimal mark.
        before: Lines before the names.
        after_names: Rows between the names and the first record.
        written: How the cells of some columns are written.
    """
    columns = [
        [(written or {}).get(name, lambda value: text(value, decimal))(value) for value in table[name].to_pylist()]
        for name in table.column_names
    ]
    content = io.StringIO(newline="")
    content.writelines(f"{line}\n" for line in before)
    writer = csv.writer(content, delimiter=delimiter, lineterminator="\n")
    writer.writerow(table.column_names)
    writer.writerows(after_names)
    writer.writerows(zip(*columns, strict=True))
    return content.getvalue()


def save(path: Path, table: pa.Table) -> Path:
    """The table as a file of the kind that its ending names."""
    match "".join(path.suffixes[-1:]):
        case ".csv":
            path.write_text(delimited(table), encoding="utf-8")
        case ".tsv":
            path.write_text(delimited(table, delimiter="\t"), encoding="utf-8")
        case ".ndjson":
            path.write_text("".join(f"{json.dumps(row, default=str)}\n" for row in table.to_pylist()), encoding="utf-8")
        case ".parquet":
            pyarrow.parquet.write_table(table, path)
        case ".arrow":
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
        case ".arrows":
            with pa.ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table)
        case ".feather":
            pyarrow.feather.write_feather(table, path)
    return path


ENDINGS = ("csv", "tsv", "ndjson", "parquet", "arrow", "arrows", "feather")
