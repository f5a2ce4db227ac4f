"""Files that are on the disk before they can be seen, and that are seen whole or not at all."""

import os
import tempfile
from pathlib import Path

WRITING = ".writing-"
"""How the name of a file begins that is not yet whole."""


def write(path: Path, content: bytes) -> None:
    """Write a new file and wait until the disk has it.

    Args:
        path: Where; its folder is there.
        content: All of it.

    Raises:
        OSError: It cannot be written; the error names the file, on a full disk too.
    """
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another in one step; several writers at once do not mix.

    Args:
        path: Where; its folder is there.
        content: All of it.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    handle, name = tempfile.mkstemp(prefix=WRITING, dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        write(beside, content)
        beside.chmod(0o644)  # mkstemp's is for its owner alone, and the service is another user
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def sync_folder(path: Path) -> None:
    """Wait until the disk has a folder's names.

    Raises:
        OSError: The disk failed.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
