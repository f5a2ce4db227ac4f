"""How many connections a worker may hold, so that files are left for its own work."""

import resource
import sys
from pathlib import Path

RESERVE = 128
"""Files that are left, beside those that are open at the start: metrics, models, keys, what operators ask."""
_SHARE = 4
"""Where the limit is tiny, this part of it is left."""


def most_connections() -> int:
    """What the limit leaves for connections; called once the worker has loaded what it serves."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, limit - len(list(Path("/dev/fd").iterdir())) - min(RESERVE, limit // _SHARE))
