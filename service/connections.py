"""How many connections each of several workers has open, in memory that all of them see."""

import mmap
import os
import sys
import tempfile
from typing import Any

_NONE = -1
"""In the place of a worker that does not accept: not yet, or no more."""
_BYTES = 8


class Counts:
    """The numbers, one a worker.

    Args:
        file: File descriptor of a file that holds an int64 for each worker.
    """

    def __init__(self, file: int) -> None:
        self._counts = memoryview(mmap.mmap(file, os.fstat(file).st_size)).cast("q")

    def __getitem__(self, worker: int) -> int:
        """How many a worker has."""
        return self._counts[worker]

    def __setitem__(self, worker: int, count: int) -> None:
        """Say how many a worker has."""
        self._counts[worker] = count

    def forget(self, worker: int) -> None:
        """Say that a worker takes no connections."""
        self._counts[worker] = _NONE

    def least_beside(self, worker: int, count: int) -> int:
        """The least of `count` and of what the other workers have that take connections."""
        others = [other for place, other in enumerate(self._counts) if place != worker and other != _NONE]
        return min([count, *others])


class Connections(set[Any]):
    """Those of one worker; the others are told of every change.

    Args:
        counts: Of all workers.
        worker: This worker's place among them.
    """

    def __init__(self, counts: Counts, worker: int) -> None:
        super().__init__()
        self._counts = counts
        self._worker = worker
        self._opening = 0
        self._closed = False
        self._tell()

    def opening(self) -> None:
        """One is accepted, and will be open soon."""
        self._opening += 1
        self._tell()

    def lost(self) -> None:
        """One that was opening will not be open."""
        self._opening -= 1
        self._tell()

    def add(self, connection: Any) -> None:
        """One that was opening is open."""
        super().add(connection)
        self._opening -= 1
        self._tell()

    def discard(self, connection: Any) -> None:
        """One is closed."""
        super().discard(connection)
        self._tell()

    @property
    def total(self) -> int:
        """Those that are open or will be."""
        return len(self) + self._opening

    @property
    def ahead(self) -> int:
        """How many more there are than the worker has that has the fewest; 0 for that one."""
        return self.total - self._counts.least_beside(self._worker, self.total)

    def close(self) -> None:
        """Say that no more are taken."""
        self._closed = True
        self._counts.forget(self._worker)

    def _tell(self) -> None:
        if not self._closed:
            self._counts[self._worker] = self.total


def new_file(workers: int) -> int:
    """File descriptor of a file for `Counts` that has no name, and in which no worker takes connections yet."""
    content = _NONE.to_bytes(_BYTES, sys.byteorder, signed=True) * workers
    if sys.platform == "linux":
        file = os.memfd_create("surprisal-connections")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.write(file, content)
    return file
