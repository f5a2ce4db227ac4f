"""How much memory this process may use: its container's limit, else the machine's, and what of it requests may take."""

import os
from pathlib import Path

USED = 0.8
"""Share of a container's limit that is shared out: the rest is for the system, and for what nobody has counted."""
MACHINE = 0.5
"""Share of a machine that has no limit for this process."""
WORKER_BYTES = 160 * 2**20
"""What a worker takes at rest, with a model or two."""
SUPERVISOR_BYTES = 40 * 2**20
LEAST_BYTES = 64 * 2**20
"""A worker's budget is never less: the largest body that is read takes some of it."""
CONNECTIONS_SHARE = 4
"""One in so many bytes of the budget is for connections that hold little; the others are for requests."""
_UNLIMITED = 2**60  # version 1 writes a number of pages near 2**63 where there is no limit


def budget_bytes(workers: int, cgroup: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> int:
    """What the requests of one worker may take, in bytes: (limit - what all take at rest) / workers.

    Args:
        workers: How many share the memory.
        cgroup: Where the control groups are mounted.
        meminfo: Where Linux says how much memory there is.
    """
    limit = _container(cgroup)
    shared = MACHINE * _machine(meminfo) if limit is None else USED * limit
    return max(LEAST_BYTES, int(shared - SUPERVISOR_BYTES - workers * WORKER_BYTES) // workers)


def _container(cgroup: Path) -> int | None:
    for file in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):  # version 2, version 1
        try:
            limit = int(file.read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
        if limit < _UNLIMITED:
            return limit
    return None


def _machine(meminfo: Path) -> int:
    try:
        first = meminfo.read_text().split(maxsplit=2)  # MemTotal: N kB
        return int(first[1]) * 2**10
    except (OSError, ValueError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
