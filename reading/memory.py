"""How much memory there is for a process, its container's limit, else the machine's; and sizes in words."""

import os
from pathlib import Path

_UNLIMITED = 2**60  # version 1 writes a number of pages near 2**63 where there is no limit


def container(cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The limit of this process's container in bytes; None where it has none.

    Args:
        cgroup: Where the control groups are mounted.
    """
    for file in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):  # version 2, version 1
        try:
            limit = int(file.read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
        if limit < _UNLIMITED:
            return limit
    return None


def machine(meminfo: Path = Path("/proc/meminfo")) -> int:
    """The memory of this machine in bytes.

    Args:
        meminfo: Where Linux says how much there is.
    """
    try:
        first = meminfo.read_text().split(maxsplit=2)  # MemTotal: N kB
        return int(first[1]) * 2**10
    except (OSError, ValueError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def words(size: int) -> str:
    """A number of bytes as people say it, in powers of 1024.

    >>> words(3 * 2**29), words(2**20), words(10_240)
    ('1.5 GiB', '1.0 MiB', '10.0 KiB')
    """
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if size >= 2**power:
            return f"{size / 2**power:,.1f} {unit}"
    return f"{size / 2**10:,.1f} KiB"
