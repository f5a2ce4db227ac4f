"""Files of a few lines that people and tools write, read with care: what they are not must not stop who reads them."""

from pathlib import Path

from bundle.folder import plain_file

MOST_BYTES = 2**16


def read(path: Path) -> bytes:
    """All of a small file.

    Args:
        path: Where.

    Raises:
        OSError: It is not there, cannot be read, is no plain file (a pipe would be waited for), or is not small.
    """
    return plain_file.read(path, MOST_BYTES)
