"""The memory of a process and of all that descend from it, watched by a thread that ends them above a cap."""

import contextlib
import os
import signal
import threading
from pathlib import Path

MEBIBYTE = 2**20
POLL_SECONDS = 0.05
_PEAK, _NOW = "VmHWM:", "VmRSS:"
_FORGET_PEAK = "5"
"""Written to `clear_refs`: the peak becomes what is resident now (proc(5))."""


def family(ancestor: int) -> list[int]:
    """A process and all that descend from it, itself first."""
    found = [ancestor]
    for process in found:
        with contextlib.suppress(OSError):
            for thread in Path("/proc", str(process), "task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def resident(process: int, *, peak: bool = False) -> int:
    """Bytes of a process that are, or at most were, in memory; 0 where it is gone."""
    wanted = _PEAK if peak else _NOW
    with contextlib.suppress(OSError):
        for line in Path("/proc", str(process), "status").read_text().splitlines():
            if line.startswith(wanted):
                return int(line.split()[1]) * 1024
    return 0


class Memory:
    """What a family of processes takes, from `mark` on.

    Args:
        ancestor: The process that started them all.
        cap: Bytes of all together; above it all of them are killed.
    """

    def __init__(self, ancestor: int, cap: int) -> None:
        self.capped = False
        """Whether they were killed for it."""
        self._ancestor = ancestor
        self._cap = cap
        self._rest: dict[int, int] = {}
        self._peaks: dict[int, int] = {}
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def mark(self) -> None:
        """Take what each process has now as its memory at rest, and forget the peaks before."""
        self.forget()
        with self._lock:
            self._rest = {process: resident(process) for process in family(self._ancestor)}

    def forget(self) -> None:
        """Forget the peaks so far; the memory at rest stays what it was."""
        with self._lock:
            for process in family(self._ancestor):
                with contextlib.suppress(OSError):
                    Path("/proc", str(process), "clear_refs").write_text(_FORGET_PEAK)
            self._peaks = {}

    def over_rest(self) -> int:
        """The most bytes that one process had over its rest; a newer one is held against the largest at rest."""
        self._read()
        largest = max(self._rest.values(), default=0)
        with self._lock:
            over = [peak - self._rest.get(process, largest) for process, peak in self._peaks.items()]
        return max([0, *over])

    def kept(self) -> int:
        """Bytes that the largest process has now over the largest at rest; below 0 where it has less."""
        return max(map(resident, family(self._ancestor))) - max(self._rest.values(), default=0)

    def close(self) -> None:
        """Watch no longer."""
        self._ends.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ends.wait(POLL_SECONDS):
            if self._read() > self._cap:
                self.capped = True
                for process in reversed(family(self._ancestor)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                return

    def _read(self) -> int:
        """Note the peaks; bytes of all together."""
        members = family(self._ancestor)
        with self._lock:
            for process in members:
                self._peaks[process] = max(self._peaks.get(process, 0), resident(process, peak=True))
        return sum(map(resident, members))
