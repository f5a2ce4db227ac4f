"""Files without a name, in memory where the system can: what a supervisor and its workers share."""

import os
import sys
import tempfile


def new(name: str) -> int:
    """File descriptor of an empty one.

    Args:
        name: For those who look at the open files of the process.
    """
    if sys.platform == "linux":
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as temporary:
        return os.dup(temporary.fileno())
