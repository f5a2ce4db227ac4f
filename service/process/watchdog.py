"""Which workers have been silent for too long, by what their event loops write into the table."""

from dataclasses import dataclass

from service.telemetry.worker_table import WorkerTable

LOOK_SECONDS = 1.0
LATE_SECONDS = 3.0
"""After a look that came so late, this process was itself suspended, and knows nothing of the others."""
START_SECONDS = 600.0
"""A worker may take so long to start, with all that it loads, or to end."""


@dataclass
class _Watched:
    beat: int
    ready: bool = False
    silent: float = 0.0


class Watchdog:
    """Counts the seconds of silence, each second anew; only those that it was awake itself.

    Args:
        table: In which workers beat.
        silent_seconds: A worker that answers may be silent for so long.
        now: On the monotonic clock, in seconds.
    """

    def __init__(self, table: WorkerTable, silent_seconds: float, now: float) -> None:
        self._table = table
        self._silent_seconds = silent_seconds
        self._looked = now
        self._watched: dict[int, _Watched] = {}

    def started(self, worker: int) -> None:
        """A worker starts in this place."""
        self._watched[worker] = _Watched(self._table.beats[worker])

    def ready(self, worker: int) -> None:
        """The worker in this place answers."""
        self._watched[worker] = _Watched(self._table.beats[worker], ready=True)

    def ended(self, worker: int) -> None:
        """There is no worker in this place."""
        self._watched.pop(worker, None)

    def look(self, now: float) -> list[int]:
        """Look at the beats; called every `LOOK_SECONDS`.

        Args:
            now: On the monotonic clock, in seconds.

        Returns:
            The places of the workers that are to be ended.
        """
        seconds, self._looked = now - self._looked, now
        late = seconds > LATE_SECONDS
        for worker, watched in self._watched.items():
            beat = self._table.beats[worker]
            if watched.ready and beat == 0:  # it has left its event loop, and ends
                watched.ready, watched.silent = False, 0.0
            # Before it is ready its loop may well run, and never get there.
            elif late or (watched.ready and beat != watched.beat):
                watched.silent = 0.0
            else:
                watched.silent += seconds
            watched.beat = beat
        return [
            worker
            for worker, watched in self._watched.items()
            if watched.silent >= (self._silent_seconds if watched.ready else START_SECONDS)
        ]
