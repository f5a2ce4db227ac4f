"""Standardised training records on disk, mapped into memory, which the system gives back as it likes."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import torch

from bundle.folder import durable_file
from bundle.record.schema import RecordSchema, TableSchema
from reading import memory
from training.config import TrainingConfig
from training.data import schema, statistics
from training.data.streamed import Streamed
from training.errors import ConfigInvalid
from training.network.order import BLOCK_ROWS, Blocks
from training.table.batch import Preprocess, Standardised

_PREFIX = ".cache-"
_OURS = re.compile(re.escape(_PREFIX) + "[0-9a-f]{16}")
_LOCK, _COMPLETE = "lock", "complete"
_SPARE = 2**28
"""Bytes of the disk that are left to others."""
_FORM = "1"
"""Of the files; a cache of another one is made anew."""


@dataclass(frozen=True)
class Disk:
    """Where training rows are kept that memory does not hold.

    Args:
        folder: Of the cache; by default the model's.
        keep: Whether the cache stays there, for another run of the same data and configuration.
    """

    folder: Path | None = None
    keep: bool = False


@dataclass(frozen=True)
class Cached:
    """Training records on disk.

    Args:
        records: All of them, in memory that is the system's cache of files (RssFile): it takes none of the process's.
        order: Of their blocks.
        split: Which rows of which files they are; see `Streamed.split`.
    """

    records: Standardised
    order: Blocks
    split: str


@contextlib.contextmanager
def cached(
    folder: Path,
    record: RecordSchema,
    streamed: Streamed,
    config: TrainingConfig,
    *,
    keep: bool = False,
    leads: bool = True,
    wait: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Cached]:
    """The training records of a data set as the network takes them, for as long as they are needed.

    The files are read once more, because statistics of all rows come first, and values that are standardised take half
    of the space of those that are not. What a killed run has left in the folder is removed.

    Args:
        folder: Where the cache is kept; made where it is not there.
        record: The fields, with the statistics of all training rows.
        streamed: The data set.
        config: Everything that decides the result.
        keep: Leave the cache there, for another run of the same data and configuration.
        leads: Whether this process writes the cache; of several that train together one does, and all map it.
        wait: Returns once each of them has called it.
        say: Told where it is, and how large.

    Raises:
        ConfigInvalid: The disk has too little space, another run of the same data is using the folder, or the process
            that leads has another folder.
        DataInvalid: A value that does not fit its field, named by file and row.
        OSError: The cache cannot be written.
    """
    assert isinstance(record, TableSchema), "images are read whole"
    place = folder / f"{_PREFIX}{_fingerprint(record, streamed, config)}"
    order, widths = Blocks(streamed.train), _widths(record)
    if not leads:
        wait()
        if not _are_whole(place, streamed.train, widths):
            raise ConfigInvalid(f"{place}: is not there; several machines need a --cache DIR that all of them see")
        yield Cached(_mapped(place, streamed.train, widths), order, streamed.split)
        return
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder, say)
    with _locked(place):
        try:
            if not _taken_up(place, streamed.train, widths, say):
                _make_room(place, streamed.train, widths, say)
                _fill(place, order, widths, record, streamed, config.seed)
                if keep:
                    _complete(place, widths)
            wait()
            yield Cached(_mapped(place, streamed.train, widths), order, streamed.split)
        finally:
            if not (keep and (place / _COMPLETE).exists()):
                shutil.rmtree(place, ignore_errors=True)


def _fingerprint(record: TableSchema, streamed: Streamed, config: TrainingConfig) -> str:
    data = (streamed.sample.sha256, streamed.split)
    made_from = (_FORM, BLOCK_ROWS, *data, record.model_dump_json(), config.model_dump_json())
    return hashlib.sha256("\0".join(map(str, made_from)).encode()).hexdigest()[:16]


_Widths = dict[str, tuple[int, np.dtype[np.generic]]]


def _widths(record: TableSchema) -> _Widths:
    """Columns and dtype of each tensor of `Standardised`."""
    kinds = {"numeric": len(record.numeric), "boolean": len(record.boolean), "categorical": len(record.categorical)}
    single, whole = np.dtype(np.float32), np.dtype(np.int64)
    return {
        name: (kinds[name.removesuffix("_present")], whole if name == "categorical" else single)
        for name in Standardised._fields
    }


def _taken_up(place: Path, rows: int, widths: _Widths, say: Callable[[str], None]) -> bool:
    """Whether a cache is there that an earlier run has kept; one that has lost bytes since is made anew."""
    if not (place / _COMPLETE).exists():
        return False
    if _are_whole(place, rows, widths):
        say(f"the cache of standardised rows in {place} is taken up")
        return True
    say(f"the cache of standardised rows in {place} is damaged, and made anew")
    (place / _COMPLETE).unlink()
    return False


def _are_whole(place: Path, rows: int, widths: _Widths) -> bool:
    """Whether every file of a cache is there and has its size."""
    sizes = {name: rows * columns * kind.itemsize for name, (columns, kind) in widths.items()}
    return all((place / name).is_file() and (place / name).stat().st_size == size for name, size in sizes.items())


def _make_room(place: Path, rows: int, widths: _Widths, say: Callable[[str], None]) -> None:
    size = sum(rows * columns * kind.itemsize for columns, kind in widths.values())
    free = shutil.disk_usage(place).free
    taken, left = memory.words(size), memory.words(free)
    if size + _SPARE > free:
        raise ConfigInvalid(
            f"{place.parent}: the cache of {rows:,} standardised rows takes {taken}, and {left} of the disk "
            "are free; --cache DIR puts it elsewhere, or give more --memory"
        )
    say(f"{rows:,} standardised rows are written to {place}, {taken} of {left} that are free there")
    for name, (columns, kind) in widths.items():
        with (place / name).open("wb") as file:
            _allocate(file, rows * columns * kind.itemsize)


def _allocate(file: BinaryIO, size: int) -> None:
    """Take so many bytes of the disk: a full one is an error here, and later, in mapped memory, ends the process."""
    try:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise OSError(error.errno, error.strerror, file.name) from error
        raise ConfigInvalid(
            f"{file.name}: the disk is full, and {memory.words(size)} were wanted; --cache DIR puts the cache "
            "elsewhere, or give more --memory"
        ) from error


def _fill(place: Path, order: Blocks, widths: _Widths, record: TableSchema, streamed: Streamed, seed: int) -> None:
    preprocess = Preprocess(record)
    to = _mapped(place, order.rows, widths)
    done = 0
    for part in streamed.training(statistics.sources(record)):
        if not part.rows.size:
            continue
        tensors = schema.tensors(record, streamed.data(part), part.rows)
        batch = preprocess.standardise({kind: torch.from_numpy(values) for kind, values in tensors.items()})
        places = torch.from_numpy(order.dealt(done, part.rows.size, seed))
        for target, values in zip(to, batch, strict=True):
            target[places] = values
        done += part.rows.size
    assert done == order.rows, f"{done} of {order.rows} rows were there"


def _mapped(place: Path, rows: int, widths: _Widths) -> Standardised:
    """The files as tensors; shared, because private memory that can be written may be no larger than the machine's."""
    tensors = []
    for name, (columns, kind) in widths.items():
        if rows * columns:
            array = np.memmap(place / name, kind, mode="r+", shape=(rows, columns))
            tensors.append(torch.from_numpy(array))
        else:
            tensors.append(torch.from_numpy(np.empty((rows, columns), kind)))
    return Standardised(*tensors)


def _complete(place: Path, widths: _Widths) -> None:
    """Say that all of a cache is on the disk, once it is."""
    for name in widths:
        with (place / name).open("rb") as file:
            os.fsync(file.fileno())
    durable_file.write(place / _COMPLETE, b"")
    durable_file.sync_folder(place)


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Keep a cache for this process; the system lets go of it whatever way the process ends."""
    place.mkdir(exist_ok=True)
    with (place / _LOCK).open("w") as lock:
        if not _lock(lock) and os.name == "posix":
            raise ConfigInvalid(
                f"{place}: another run of the same data and configuration uses this cache; wait for it, or give "
                "--cache DIR"
            )
        yield


def _lock(file: IO[str]) -> bool:
    """Whether a lock is had; where the system has none it is not, and no cache counts as left."""
    try:
        import fcntl  # not on every system
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_stale(folder: Path, say: Callable[[str], None]) -> None:
    """Remove caches that nobody uses and that are not whole; a kept one is somebody's."""
    for place in sorted(each for each in folder.iterdir() if _OURS.fullmatch(each.name)):
        if (place / _COMPLETE).exists():
            continue
        try:
            # Only a cache has one already; nothing is made in a folder of somebody else.
            with (place / _LOCK).open("r+") as lock:
                if not _lock(lock):
                    continue
                size = sum(file.stat().st_size for file in place.iterdir())
                shutil.rmtree(place)
        except OSError:
            continue  # It is no cache, or not this user's to remove.
        say(f"removed {memory.words(size)} that a run which was killed has left in {place}")
