"""The connections that a worker has open, of which the other workers know how many there are."""

import heapq
import sys
from typing import Any

from service.telemetry.worker_table import NONE, WorkerTable

_AT_ONCE = 100
"""One in so many is closed at once where there is no room."""


class Connections(set[Any]):
    """Those of one worker; the others are told of every change.

    Args:
        table: Of all workers.
        worker: This worker's place among them.
        most: How many this worker may hold.
    """

    def __init__(self, table: WorkerTable, worker: int, most: int = sys.maxsize) -> None:
        super().__init__()
        self._most = most
        self._table = table
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
    def full(self) -> bool:
        """Whether one more would be too many."""
        return self.total >= self._most

    def make_room(self) -> bool:
        """Close some of those that ask for nothing, the ones that have been idle longest; false where all are busy."""
        idle = [(since, connection) for connection in self if (since := connection.idle_since) is not None]
        # Some more than the one that is needed: to look through all of them for each newcomer would take long.
        for _, connection in heapq.nsmallest(1 + len(self) // _AT_ONCE, idle, key=lambda each: each[0]):
            connection.let_go()
        return bool(idle)

    @property
    def ahead(self) -> int:
        """How many more there are than the worker has that has the fewest; 0 for that one."""
        return self.total - self._table.least_beside(self._worker, self.total)

    def close(self) -> None:
        """Say that no more are taken."""
        self._closed = True
        self._table.connections[self._worker] = NONE

    def _tell(self) -> None:
        if not self._closed:
            self._table.connections[self._worker] = self.total
