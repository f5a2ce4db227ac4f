"""How much memory a training may take, and whether a table fits into it: above it, its rows are streamed."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet

from bundle.record import image_folder
from reading import memory, opening, parts
from reading.formats import raw
from reading.options import Options
from reading.parts import Part
from training.config import TrainingConfig
from training.data.read import Data, read, refusals
from training.data.streamed import Streamed, stream
from training.errors import ConfigInvalid

SHARE = 0.5
"""Of the memory that the machine or the container has, by default."""
COPIES = 7
"""Times the size of a table that its training takes at most: as it is read, as its values mean, as tensors."""
_OF_TEXT = 3
"""Times its size on disk that plain text takes in a table at most: a digit and its comma become five bytes."""
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"(?i)\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*")


@dataclass(frozen=True)
class Budget:
    """The memory of a training.

    Args:
        bytes: Which it may take.
        is_given: Whether a person said so; else it is a share of what there is.
    """

    bytes: int
    is_given: bool

    @classmethod
    def of(cls, said: str | None) -> "Budget":
        """What a person said, or half of what this process can have.

        Args:
            said: Bytes, or as `8GiB`, `500M`; units are powers of 1024.

        Raises:
            ConfigInvalid: It is no size.
        """
        if said is None:
            return cls(int(SHARE * (memory.container() or memory.machine())), False)
        found = _SIZE.fullmatch(said)
        size = 0 if found is None else int(float(found[1]) * 2 ** _UNITS[found[2].upper()])
        if not size:
            raise ConfigInvalid(f"--memory {said}: a number of bytes is expected, as 8GiB or 500MiB")
        return cls(size, True)


@dataclass(frozen=True)
class Choice:
    """Whether a table is read whole.

    Args:
        streams: Whether its rows are streamed.
        said: Why, in a sentence; empty where it is read whole as always.
    """

    streams: bool
    said: str = ""


def read_or_stream(
    path: Path,
    config: TrainingConfig,
    limit: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    processes: int = 1,
) -> Data | Streamed:
    """Read a table whole, or where its training would take more memory than it may, a sample of it.

    Args:
        path: See `training.data.read.read`.
        config: Everything that decides the result.
        limit: Most memory, as a person said it; see `Budget.of`.
        say: Told where it is not read whole, and why.
        processes: How many train together on this machine: each would read the table.

    Raises:
        ConfigInvalid: It is not there, or of another kind; or `limit` is no size.
        DataInvalid: Damaged, without rows, with two columns of one name, or with too few normal rows.
    """
    choice = choose(path, config.data.reading, Budget.of(limit), processes)
    if choice.said:
        say(choice.said)
    return stream(path, config) if choice.streams else read(path, config.data.reading, config.kinds)


def choose(path: Path, options: Options, budget: Budget, processes: int = 1) -> Choice:
    """Whether the training of a table takes more memory than it may.

    Args:
        path: See `training.data.read.read`.
        options: What a person said of how it is written.
        budget: The memory.
        processes: How many train together on this machine.

    Raises:
        ConfigInvalid: It is not there, or of another kind.
        DataInvalid: It cannot be read.
    """
    with refusals(path):
        whole = _read_whole(path)
        if whole:
            return Choice(False, f"{path}: {whole} and read whole, whatever --memory says" if budget.is_given else "")
        found = parts.parts(path)
        on_disk = sum(part.path.stat().st_size for part in found)
        is_plain = all(part.kind in ("delimited", "ndjson") and not _is_packed(part) for part in found)
        copies = COPIES * processes
        if is_plain and copies * _OF_TEXT * on_disk <= budget.bytes:
            return Choice(False)
        size = copies * estimated(found, options)
    if size <= budget.bytes:
        return Choice(False)
    by = f" by {processes} processes" if processes > 1 else ""
    return Choice(
        True,
        f"training on {path}{by} takes about {memory.words(size)} of memory, more than the "
        f"{memory.words(budget.bytes)} that --memory allows{'' if budget.is_given else ' by default'}: its rows are "
        "streamed from disk",
    )


def estimated(found: list[Part], options: Options) -> int:
    """The size of a table in memory, in bytes, by the first rows of its first file that has any.

    Args:
        found: Its files.
        options: What a person said of them.
    """
    for first in found:
        block = next((each for each in opening.opened_part(first, options).blocks() if each.table.num_rows), None)
        if block is not None:
            break
    else:
        return 0
    if first.kind == "parquet":
        rows = sum(int(pyarrow.parquet.read_metadata(part.path).num_rows) for part in found)
        return int(block.table.nbytes / block.table.num_rows * rows)
    on_disk = sum(part.path.stat().st_size for part in found) / first.path.stat().st_size
    return int(block.table.nbytes / block.share * on_disk)


def _read_whole(path: Path) -> str:
    """Why files of a kind are always read whole; empty where they are not."""
    if str(path) == parts.STANDARD_INPUT:
        return "standard input can be read once alone"
    if path.suffix.lower() == ".npz":
        return "an npz file is one array"
    return "images are kept in memory" if path.is_dir() and image_folder.holds_images(path) else ""


def _is_packed(part: Part) -> bool:
    return part.path.suffix.lower() in raw.PACKED
