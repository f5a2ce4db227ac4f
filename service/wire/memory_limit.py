"""How much memory this process may use: its container's limit, else the machine's, and what of it requests may take."""

from pathlib import Path

from reading import memory

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


def budget_bytes(workers: int, cgroup: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> int:
    """What the requests of one worker may take, in bytes: (limit - what all take at rest) / workers.

    Args:
        workers: How many share the memory.
        cgroup: Where the control groups are mounted.
        meminfo: Where Linux says how much memory there is.
    """
    limit = memory.container(cgroup)
    shared = MACHINE * memory.machine(meminfo) if limit is None else USED * limit
    return max(LEAST_BYTES, int(shared - SUPERVISOR_BYTES - workers * WORKER_BYTES) // workers)
