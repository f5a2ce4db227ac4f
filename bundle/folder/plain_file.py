"""Files read whole, with care: neither a pipe that nobody writes nor an unexpected size stops who reads them."""

import errno
import os
import stat
from pathlib import Path

# A pipe is not waited for, and no terminal becomes this process's own; not every system has all of these.
_FLAGS = os.O_RDONLY
for _name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class Unsuitable(OSError):
    """What is there is no plain file, or too large: nothing that passes."""


def read(path: Path, most_bytes: int, *, follow: bool = True) -> bytes:
    """All of a file, whose size is known before anything is allocated.

    Args:
        path: Where.
        most_bytes: What it may have at most.
        follow: Whether it may be a link.

    Raises:
        Unsuitable: It is no plain file, or larger.
        OSError: It is not there, cannot be read, or changes while it is read.
    """
    # Before it is opened, which some devices take for a command; and after, since it may be another by then.
    _refuse_special(path, path.stat())
    handle = os.open(path, _FLAGS | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    try:
        seen = os.fstat(handle)
        _refuse_special(path, seen)
        if seen.st_size > most_bytes:
            raise Unsuitable(errno.EFBIG, f"it has {seen.st_size:,} bytes, more than {most_bytes:,}", str(path))
        content = _all(handle, seen.st_size)
    finally:
        os.close(handle)
    if len(content) != seen.st_size:
        raise OSError(errno.EAGAIN, "it changed while it was read", str(path))
    return content


def _refuse_special(path: Path, seen: os.stat_result) -> None:
    if not stat.S_ISREG(seen.st_mode):
        kind = _KINDS.get(stat.S_IFMT(seen.st_mode), "something else")
        raise Unsuitable(errno.EINVAL, f"it is no plain file but {kind}", str(path))


def _all(handle: int, size: int) -> bytes:
    """Up to one byte more than is expected, so that a file which grows is noticed and does not grow here."""
    parts = []
    left = size + 1
    while left and (part := os.read(handle, left)):
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
