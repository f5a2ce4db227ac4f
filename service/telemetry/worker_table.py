"""What is known of each worker, in memory that all of them and their supervisor see."""

import mmap
import os

from service.telemetry import memory_file

NONE = -1
"""In the column of connections: a worker that takes none, not yet or no more."""
_BYTES = 8
_TOTALS = 3
_COLUMNS = 3


class WorkerTable:
    """The table; each number is an int64, which is written at once or not at all.

    Args:
        file: File descriptor of a file that `new_file` made.
    """

    def __init__(self, file: int) -> None:
        cells = memoryview(mmap.mmap(file, os.fstat(file).st_size)).cast("q")
        self._totals = cells[:_TOTALS]
        self.workers = (len(cells) - _TOTALS) // _COLUMNS
        """How many rows there are."""
        columns = [cells[_TOTALS + column * self.workers :][: self.workers] for column in range(_COLUMNS)]
        self.connections, self.beats, self.unshared = columns
        """Columns. Open connections or `NONE`; when the event loop last ran, in nanoseconds of the monotonic clock, 0
        where there is none; 1 where some counts stand in no file."""

    @property
    def ready(self) -> int:
        """Workers that answer."""
        return self._totals[0]

    @ready.setter
    def ready(self, workers: int) -> None:
        self._totals[0] = workers

    @property
    def replaced(self) -> dict[str, int]:
        """Workers that were replaced, by reason."""
        return {"exit": self._totals[1], "silent": self._totals[2]}

    def replace(self, worker: int, *, silent: bool) -> None:
        """Count a worker that is replaced, and forget it.

        Args:
            worker: Its place.
            silent: Whether it was ended for its silence; otherwise it ended by itself.
        """
        self._totals[2 if silent else 1] += 1
        self.forget(worker)

    def forget(self, worker: int) -> None:
        """Say that there is no worker in this place."""
        self.connections[worker] = NONE
        self.beats[worker] = self.unshared[worker] = 0

    def least_beside(self, worker: int, connections: int) -> int:
        """The least of `connections` and of what the other workers have that take any."""
        others = [other for place, other in enumerate(self.connections) if place != worker and other != NONE]
        return min([connections, *others])


def new_file(workers: int) -> int:
    """File descriptor of a file for a `WorkerTable` in which there is no worker yet."""
    file = memory_file.new("surprisal-workers")
    os.ftruncate(file, _BYTES * (_TOTALS + _COLUMNS * workers))
    table = WorkerTable(file)
    for worker in range(workers):
        table.forget(worker)
    return file
