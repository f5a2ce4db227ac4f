"""Processes watched while they run: the processor time of all, the peak memory of each."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

SECONDS = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _USER, _SYSTEM = 1, 11, 12
"""Places in `/proc/PID/stat` behind the command's name."""


class Seen(NamedTuple):
    """A process when it was last looked at.

    Args:
        command: Its command line.
        ticks: Of a processor.
        peak: Most bytes of resident memory, as the kernel keeps it.
    """

    command: str
    ticks: int
    peak: int


class Watch:
    """Looks at processes and at all that they begin, every tenth of a second while it is entered.

    Args:
        processes: Where to begin. What they used before is no part of it.
    """

    def __init__(self, processes: list[int]) -> None:
        self._roots = processes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._before = {pid: seen.ticks for pid, seen in self._family().items() if pid in processes[1:]}
        self._seen: dict[int, Seen] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def processor_seconds(self) -> float:
        """Of all together, but for the last tenth of a second of each."""
        return sum(seen.ticks - self._before.get(pid, 0) for pid, seen in self._seen.items()) / _TICKS

    def peak(self, command: str) -> int:
        """Most bytes of resident memory in one process.

        Args:
            command: Stands in its command line.
        """
        return max((seen.peak for seen in self._seen.values() if command in seen.command), default=0)

    def _look(self) -> None:
        while not self._ended.wait(SECONDS):
            for pid, seen in self._family().items():
                # One that has ended and is not forgotten yet has its ticks alone.
                before = self._seen.get(pid, seen)
                self._seen[pid] = Seen(seen.command or before.command, seen.ticks, max(seen.peak, before.peak))

    def _family(self) -> dict[int, Seen]:
        stats = {int(path.name): _stat(path) for path in Path("/proc").iterdir() if path.name.isdecimal()}
        found: dict[int, Seen] = {}
        for pid, stat in stats.items():
            if stat and self._belongs(pid, stats):
                ticks = int(stat[_USER]) + int(stat[_SYSTEM])
                found[pid] = Seen(_read(pid, "cmdline").replace("\0", " "), ticks, _peak(pid))
        return found

    def _belongs(self, pid: int, stats: dict[int, list[str]]) -> bool:
        while pid > 1:
            if pid in self._roots:
                return True
            stat = stats.get(pid)
            pid = int(stat[_PARENT]) if stat else 0
        return False


def _stat(path: Path) -> list[str]:
    return _read(int(path.name), "stat").rpartition(")")[2].split()


def _peak(pid: int) -> int:
    lines = [line for line in _read(pid, "status").splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""  # it has ended
