"""The files in which prometheus_client shares counts, without its mapped memory: a full disk is an error, not a death.

Its own file is sparse and mapped: where there is no room for a page that is written first, the kernel ends the process.
Here the values are in plain memory, and their copy, in the same format, is written once a second into space that was
reserved. What the copy has no room for is counted on, and copied once there is room.
"""

import errno
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from prometheus_client import Metric, multiprocess, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

START_BYTES = 2**16
_HEAD = struct.Struct("i4x")
_LENGTH = struct.Struct("i")
_VALUE = struct.Struct("dd")
_CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""File systems that reserve nothing say this; a write that finds no room fails all the same."""

Entry = tuple[str, float, float, int]


class MetricsFile:
    """A dictionary of values, each with its time, as `prometheus_client.mmap_dict.MmapedDict` is one.

    Args:
        name: Path of the file.
    """

    opened: ClassVar[dict[str, "MetricsFile"]] = {}
    """Those of this process, by path."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._file: int | None = None
        self._data = bytearray(_HEAD.size)
        self._positions: dict[str, int] = {}
        self._reserved = 0
        self._copied = False
        self._take_over()
        self.opened[name] = self

    @classmethod
    def at(cls, name: str) -> "MetricsFile":
        """The file of a path: the one that this process has open, or a new one."""
        return cls.opened.get(name) or cls(name)

    def read_value(self, key: str) -> tuple[float, float]:
        """A value and its time; both 0 where the key is new."""
        value, time = _VALUE.unpack_from(self._data, self._position(key))
        return value, time

    def write_value(self, key: str, value: float, time: float) -> None:
        """Set a value and its time."""
        _VALUE.pack_into(self._data, self._position(key), value, time)
        self._copied = False

    def close(self) -> None:
        """Copy what there is, as far as there is room."""
        self.copy()
        self.opened.pop(self._name, None)
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def copy(self) -> OSError | None:
        """Write all that has changed into the file.

        Returns:
            Why not all of it stands there; None if it does.
        """
        if self._copied:
            return None
        fault = self._reserve()
        end = len(self._data)
        if fault is not None:
            # In the order in which they came: an entry ends behind its value.
            ends = [position + _VALUE.size for position in self._positions.values()]
            end = max([_HEAD.size, *(each for each in ends if each <= self._reserved)])
        if self._file is not None and end <= self._reserved:
            try:
                _write(self._file, memoryview(self._data)[_HEAD.size : end], _HEAD.size)
                _write(self._file, _HEAD.pack(end), 0)
            except OSError as error:
                return OSError(error.errno, error.strerror, self._name)
        self._copied = fault is None
        return fault

    def content(self) -> bytes:
        """All of it, as the file would have it if there were room."""
        _HEAD.pack_into(self._data, 0, len(self._data))
        return bytes(self._data)

    def _position(self, key: str) -> int:
        position = self._positions.get(key)
        if position is None:
            encoded = key.encode()
            self._data += _LENGTH.pack(len(encoded)) + encoded + b" " * _padding(len(encoded))
            position = self._positions[key] = len(self._data)
            self._data += _VALUE.pack(0.0, 0.0)
            self._copied = False
        return position

    def _reserve(self) -> OSError | None:
        size = START_BYTES
        while size < len(self._data):
            size *= 2
        if size <= self._reserved:
            return None
        try:
            if self._file is None:
                self._file = os.open(self._name, os.O_RDWR | os.O_CREAT, 0o644)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file, 0, size)
        except OSError as error:
            if self._file is None or error.errno not in _CANNOT_RESERVE:
                return OSError(error.errno, error.strerror, self._name)
        self._reserved = size
        return None

    def _take_over(self) -> None:
        """Count on where a dead process stopped that had the same number."""
        try:
            content = Path(self._name).read_bytes()
        except OSError:
            return
        for key, value, time, _ in _entries(content):
            self.write_value(key, value, time)


class SharedCounts:
    """The values of all processes that share a folder, as they stand in its files.

    Args:
        folder: Where the files are.
        alone: Whether no other process counts; then this one's memory is read, which has what the files lack.
    """

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self._folder = folder
        self._alone = alone
        self._contents: dict[str, bytes] = {}

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        self._contents = {name: content for name in self._names() if (content := self._content(name)) is not None}
        _Reader.contents = {**self._contents}
        if self._alone:
            _Reader.contents |= {name: file.content() for name, file in MetricsFile.opened.items()}
        yield from MultiProcessCollector.merge(list(_Reader.contents))  # type: ignore[no-untyped-call]
        _Reader.contents = {}

    def _names(self) -> list[str]:
        try:
            return [entry.path for entry in os.scandir(self._folder) if entry.name.endswith(".db")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:  # too many files are open, for example: counts that vanish would be worse than old ones
            return list(self._contents)

    def _content(self, name: str) -> bytes | None:
        try:
            return Path(name).read_bytes()
        except FileNotFoundError:  # of a worker that has died since
            return None
        except OSError:
            return self._contents.get(name)


class _Reader(MmapedDict):
    """How prometheus_client reads the files: what was read of them already, if it was."""

    contents: ClassVar[Mapping[str, bytes]] = {}

    @staticmethod
    def read_all_values_from_file(filename: str) -> Iterator[Entry]:
        content = _Reader.contents.get(filename)
        return _entries(Path(filename).read_bytes() if content is None else content)


def copy_all() -> OSError | None:
    """Write what this process has counted into its files; why not all of it stands there, or None."""
    faults = [file.copy() for file in MetricsFile.opened.values()]
    return next((fault for fault in faults if fault is not None), None)


def reserve(folder: Path, modes: Iterable[str]) -> None:
    """Open the files of this process's gauges, so that the next copy reserves their space.

    prometheus_client makes the file of a mode with its first value, which may come when the disk is full already.

    Args:
        folder: The one that the processes share.
        modes: `multiprocess_mode` of each gauge.
    """
    for mode in modes:
        MetricsFile.at(str(folder / f"gauge_{mode}_{os.getpid()}.db"))


def install() -> None:
    """From now on prometheus_client keeps shared values like this; called before the first metric is made."""
    values.MmapedDict = MetricsFile.at  # type: ignore[attr-defined, assignment]
    multiprocess.MmapedDict = _Reader  # type: ignore[attr-defined]


def _entries(content: bytes) -> Iterator[Entry]:
    """Each key, value, time and place; what is cut off, as where a file was only just made, is left out."""
    used = _HEAD.unpack_from(content)[0] if len(content) >= _HEAD.size else 0
    start = _HEAD.size
    while start + _LENGTH.size <= min(used, len(content)):
        length = _LENGTH.unpack_from(content, start)[0]
        key = start + _LENGTH.size
        place = key + length + _padding(length)
        if length < 0 or place + _VALUE.size > len(content):
            return
        value, time = _VALUE.unpack_from(content, place)
        yield content[key : key + length].decode(), value, time, place
        start = place + _VALUE.size


def _padding(length: int) -> int:
    """Bytes behind a key of so many, so that its value stands at a multiple of 8."""
    return 8 - (length + _LENGTH.size) % 8


def _write(file: int, data: bytes | memoryview, start: int) -> None:
    """Write all of it: a full disk may take a part."""
    while data:
        written = os.pwrite(file, data, start)
        data, start = data[written:], start + written
