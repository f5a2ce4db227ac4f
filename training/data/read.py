"""Data files read whole into one Arrow table: tables in any form that `reading` knows, npz, and folders of images."""

import contextlib
import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bundle.record import image_folder, npz_file
from bundle.record.fields import DateOrder
from reading import opening, parts
from reading.block import Block
from reading.errors import FileInvalid, NotRead
from reading.formats.columnar import index_columns
from reading.notes import by_note
from reading.options import Options
from reading.typed import Typed, typed
from training.data import image_files
from training.errors import ConfigInvalid, DataInvalid

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """A data file in memory.

    Args:
        name: The file's name, without its folder.
        sha256: Digest of its bytes.
        table: Its columns by what their values mean: texts that are numbers, flags or timestamps are such.
        said: How it was read where a reader could expect otherwise, in words.
        columns: What was found by looking at a column, in words that follow its name.
        nested: Columns that hold lists or objects.
        index: Columns that hold a pandas index.
        date_orders: In which a column's timestamps that were text have year, month and day, where only one fits.
        blocks: The pieces that it was read in, which know where a row stands; none where it was made in memory.
        places: (n,) where each row stands in the whole, from 0, where the table is a sample; else None.
    """

    name: str
    sha256: str
    table: pa.Table
    said: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nested: frozenset[str] = frozenset()
    index: tuple[str, ...] = ()
    date_orders: Mapping[str, DateOrder] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    places: Rows | None = None

    def number(self, row: int) -> int:
        """The number of a row as a person counts them in the whole, from 1.

        Args:
            row: Its place in the table, from 0.
        """
        return (row if self.places is None else int(self.places[row])) + 1

    @property
    def read_as(self) -> tuple[str, ...]:
        """How the file and its columns were read where a reader could expect otherwise, in sentences."""
        of_file = (f"{self.name} read as: {', '.join(self.said)}",) if self.said else ()
        return (*of_file, *(f"{', '.join(names)}: {note}" for note, names in by_note(self.columns).items()))

    def place(self, row: int) -> str:
        """Where a row stands, as a person finds it.

        Args:
            row: From 0.
        """
        starts = np.cumsum([0, *(len(block.numbers) for block in self.blocks)])
        if not 0 <= row < starts[-1]:
            return f"row {self.number(row)}"
        index = bisect_right(starts.tolist(), row) - 1
        block = self.blocks[index]
        several = len({each.file for each in self.blocks}) > 1
        where = f"{Path(block.file).name}, " if several else ""
        return f"{where}{block.counted} {block.numbers[row - starts[index]]}"


def read(
    path: Path,
    options: Options | None = None,
    kinds: Mapping[str, str] | None = None,
    date_orders: Mapping[str, DateOrder] | None = None,
) -> Data:
    """Read a data file whole.

    Args:
        path: A table in any form that `reading.parts` lists, `-` for standard input, or an npz file: it holds `X`
            (n, d) and maybe `y` (n,), which become the columns `x0`, `x1`, … and `y`. Images are an npz whose `X` is
            (n, H, W) or (n, H, W, C) uint8 (or `x_train`, with `y_train`), or a folder of them, whose sub-folders are
            labels.
        options: What a person said of how the file is written.
        kinds: What a person said that columns are, by name: `numeric`, `boolean`, `categorical` or `timestamp`.
        date_orders: In which columns of timestamps had year, month and day in a file before.

    Raises:
        ConfigInvalid: Not there, or of another kind.
        DataInvalid: Damaged, without rows, or with two columns of one name.
    """
    how = (options or Options(), kinds or {}, date_orders or {})
    with refusals(path):
        if str(path) == parts.STANDARD_INPUT:
            with parts.received() as received:
                return _of_files(received, *how)
        if path.is_dir() and image_folder.holds_images(path):
            table, sha256, said = image_files.read_folder(path)
            return Data(path.name, sha256, table, said)
        if path.suffix.lower() == ".npz":
            return _of_npz(path)
        return _of_files(path, *how)


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Say of what is wrong with a file whether it is the call or the data.

    Args:
        path: Which is read.

    Raises:
        ConfigInvalid: It is not there, or of another kind.
        DataInvalid: It is damaged, or cannot be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise ConfigInvalid(f"{path}: there is no such file") from error
    except NotRead as error:
        raise ConfigInvalid(str(error)) from error
    except FileInvalid as error:
        raise DataInvalid(str(error)) from error
    except OSError as error:
        raise DataInvalid(f"{path}: {error}") from error


def of_table(
    name: str,
    sha256: str,
    table: pa.Table,
    options: Options | None = None,
    kinds: Mapping[str, str] | None = None,
    comma_likely: bool = False,
    date_orders: Mapping[str, DateOrder] | None = None,
    places: Rows | None = None,
) -> Data:
    """A table in memory as data: texts that are numbers, flags or timestamps become such.

    Args:
        name: What it is called.
        sha256: A digest that tells it from others.
        table: Its columns, as a file has them.
        options: See `read`.
        kinds: See `read`.
        comma_likely: Whether the rest of its file speaks for a decimal comma.
        date_orders: See `read`.
        places: (n,) where each row stands in the whole, from 0, where the table is a sample.
    """
    options, kinds, date_orders = options or Options(), kinds or {}, date_orders or {}
    numbers = None if places is None else (places + 1).tolist()
    found: dict[str, Typed] = {}
    for position, column in enumerate(table.schema):
        # By position: columns without a name may be several.
        said = (kinds.get(column.name), date_orders.get(column.name))
        found[column.name] = typed(table.column(position), column.metadata, options, comma_likely, *said, numbers)
    return Data(
        name,
        sha256,
        pa.table({name: each.column for name, each in found.items()}),
        columns={name: each.said for name, each in found.items() if each.said},
        nested=frozenset(name for name, each in found.items() if each.is_nested),
        index=index_columns(table.schema),
        date_orders={name: each.order for name, each in found.items() if each.order is not None},
        places=places,
    )


def _of_files(path: Path, options: Options, kinds: Mapping[str, str], date_orders: Mapping[str, DateOrder]) -> Data:
    file = opening.opened(path, options)
    table, blocks = opening.read(file)
    if table.num_rows == 0:
        raise DataInvalid(f"{path}: holds no rows")
    data = of_table(path.name, digest(path), table, options, kinds, file.comma_likely, date_orders)
    return replace(data, said=tuple(file.said), blocks=tuple(blocks))


def _of_npz(path: Path) -> Data:
    try:
        features, label = npz_file.read(path)
    except npz_file.NpzInvalid as error:
        raise DataInvalid(str(error)) from error
    sha256 = digest(path)
    if features.ndim > 2:
        return Data(path.name, sha256, image_files.from_arrays(path, features, label))
    if features.ndim != 2 or features.dtype.kind not in "fiub":
        raise DataInvalid(
            f"{path}: X is {features.dtype} of shape {features.shape}; a table of numbers, or images, is expected"
        )
    if not len(features):
        raise DataInvalid(f"{path}: holds no rows")
    columns = npz_file.columns(features)
    if label is not None:
        columns["y"] = label
    # NaN is how arrays say missing.
    return Data(path.name, sha256, pa.table({name: pa.array(each, from_pandas=True) for name, each in columns.items()}))


def digest(path: Path) -> str:
    """The SHA-256 digest of a file, or of the files that a path means, with their names below it.

    Args:
        path: See `read`.

    Raises:
        OSError: One cannot be read.
    """
    found: Sequence[Path] = [each.path for each in parts.parts(path)] if path.suffix.lower() != ".npz" else [path]
    of_all = hashlib.sha256()
    if found == [path]:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    root = parts.root(path)
    for each in found:
        # A folder's name can be a value, as in day=2026-01-05.
        name = each.relative_to(root).as_posix() if root else each.name
        with each.open("rb") as file:
            of_all.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return of_all.hexdigest()
