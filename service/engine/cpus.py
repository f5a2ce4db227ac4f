"""How many processors this process may use: its container's quota, not the host's count."""

import math
import os
from pathlib import Path


def available(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Processors by affinity and cgroup quota, at least 1.

    Args:
        cgroup: Where the control groups are mounted.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(allowed, math.ceil(quota)) if quota is not None else allowed)


def _quota(cgroup: Path) -> float | None:
    try:  # version 2: "QUOTA PERIOD" or "max PERIOD"
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:  # version 1: -1 means none
        microseconds = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return microseconds / period_us if microseconds > 0 else None
