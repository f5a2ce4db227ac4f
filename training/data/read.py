"""Data files: CSV, Parquet, NDJSON, npz and folders of images, read into one Arrow table."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from bundle.record import npz_file
from bundle.record.records import MISSING_TEXTS
from training.data import image_files
from training.errors import ConfigInvalid, DataInvalid

Rows = npt.NDArray[np.int64]

SUFFIXES = (".csv", ".parquet", ".ndjson", ".jsonl", ".npz")


@dataclass(frozen=True)
class Data:
    """A data file in memory.

    Args:
        name: The file's name, without its folder.
        sha256: Digest of its bytes.
        table: Its columns; decimals are float64, dictionaries their values.
    """

    name: str
    sha256: str
    table: pa.Table


def read(path: Path, text_columns: Collection[str] = ()) -> Data:
    """Read a data file whole.

    Args:
        path: A `.csv`, `.parquet`, `.ndjson`, `.jsonl` or `.npz` file; an npz holds `X` (n, d) and maybe `y` (n,),
            which become the columns `x0`, `x1`, … and `y`. Images are an npz whose `X` is (n, H, W) or (n, H, W, C)
            uint8 (or `x_train`, with `y_train`), or a folder of PNG and JPEG files, whose sub-folders are labels.
        text_columns: Columns of a CSV file to be kept as text, whatever they look like (leading zeros).

    Raises:
        ConfigInvalid: Not there, or of another kind.
        DataInvalid: Damaged, without rows, or with two columns of one name.
    """
    if path.is_dir():
        table, content_digest = image_files.read_folder(path)
        return Data(path.name, content_digest, table)
    if path.suffix not in SUFFIXES:
        raise ConfigInvalid(f"{path}: a file that ends in {', '.join(SUFFIXES)}, or a folder of images, is expected")
    try:
        content_digest = _digest(path)
        match path.suffix:
            case ".csv":
                table = _read_csv(path, text_columns)
            case ".parquet":
                table = pyarrow.parquet.read_table(path)
            case ".npz":
                table = _read_npz(path)
            case _:
                table = pyarrow.json.read_json(path)
    except FileNotFoundError as error:
        raise ConfigInvalid(f"{path}: there is no such file") from error
    except OSError as error:
        raise DataInvalid(f"{path}: {error}") from error
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise DataInvalid(f"{path}: {' '.join(str(error).split())}") from error
    if table.num_rows == 0:
        raise DataInvalid(f"{path}: holds no rows")
    doubled = {name for name in table.column_names if table.column_names.count(name) > 1}
    if doubled:
        raise DataInvalid(f"{path}: two columns are named {sorted(doubled)[0]!r}")
    return Data(path.name, content_digest, _plain_types(table))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_csv(path: Path, text_columns: Collection[str]) -> pa.Table:
    options = pyarrow.csv.ConvertOptions(
        null_values=list(MISSING_TEXTS),
        strings_can_be_null=True,
        column_types={name: pa.string() for name in text_columns},
    )
    return pyarrow.csv.read_csv(path, convert_options=options)


def _read_npz(path: Path) -> pa.Table:
    try:
        features, label = npz_file.read(path)
    except npz_file.NpzInvalid as error:
        raise DataInvalid(str(error)) from error
    if features.ndim > 2:
        return image_files.from_arrays(path, features, label)
    if features.ndim != 2 or features.dtype.kind not in "fiub":
        raise DataInvalid(
            f"{path}: X is {features.dtype} of shape {features.shape}; a table of numbers, or images, is expected"
        )
    columns = npz_file.columns(features)
    if label is not None:
        columns["y"] = label
    return pa.table(columns)


def _plain_types(table: pa.Table) -> pa.Table:
    for index, field in enumerate(table.schema):
        plain = field.type
        if pa.types.is_dictionary(plain):
            plain = plain.value_type
        if pa.types.is_decimal(plain):
            plain = pa.float64()
        if pa.types.is_timestamp(plain):
            # Python's datetime ends at microseconds, and an hour does not need more.
            plain = pa.timestamp("us", plain.tz)
        if plain != field.type:
            table = table.set_column(index, field.name, pc.cast(table.column(index), plain, safe=False))
    return table
