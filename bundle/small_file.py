"""Files of a few lines that people and tools write, read with care: what they are not must not stop who reads them."""

import errno
import stat
from pathlib import Path

MOST_BYTES = 2**16


def read(path: Path) -> bytes:
    """All of a small file.

    Args:
        path: Where.

    Raises:
        OSError: It is not there, cannot be read, is no plain file (a pipe would be waited for), or is not small.
    """
    seen = path.stat()
    if not stat.S_ISREG(seen.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    if seen.st_size > MOST_BYTES:
        raise OSError(errno.EINVAL, f"it has {seen.st_size} bytes, more than {MOST_BYTES}", str(path))
    return path.read_bytes()
