"""Versions whose graph had to be stopped, in memory that all workers see: the end of a worker forgets nothing."""

import fcntl
import mmap
import os
import sys
import tempfile

MOST_STRIKES = 2
"""A version whose graph had to be stopped so often is served no more."""
_SLOTS = 256
_DIGEST_BYTES = 32
_SLOT_BYTES = _DIGEST_BYTES + 1


class Quarantine:
    """The strikes against each version, by the digest of its manifest.

    Args:
        file: File descriptor of a file that `new_file` made; the workers inherit it from their supervisor.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._slots = mmap.mmap(file, _SLOTS * _SLOT_BYTES)

    def strike(self, digest: str) -> int:
        """Count one more stop of a version's graph.

        Args:
            digest: Of the version's manifest, in hexadecimal digits.

        Returns:
            How many there are now.
        """
        # Between processes; the threads of one have the interpreter's lock.
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            slot = self._slot(bytes.fromhex(digest), new=True)
            if slot is None:  # more hostile versions than anybody watches: none of them is served again
                return MOST_STRIKES
            self._slots[slot + _DIGEST_BYTES] = min(255, self._slots[slot + _DIGEST_BYTES] + 1)
            return self._slots[slot + _DIGEST_BYTES]
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def strikes(self, digest: str) -> int:
        """How many there are against a version."""
        slot = self._slot(bytes.fromhex(digest), new=False)
        return 0 if slot is None else self._slots[slot + _DIGEST_BYTES]

    def holds(self, digest: str) -> bool:
        """Whether a version is served no more."""
        return self.strikes(digest) >= MOST_STRIKES

    def _slot(self, digest: bytes, *, new: bool) -> int | None:
        for start in range(0, _SLOTS * _SLOT_BYTES, _SLOT_BYTES):
            if self._slots[start : start + _DIGEST_BYTES] == digest:
                return start
            if not self._slots[start + _DIGEST_BYTES]:
                if new:
                    self._slots[start : start + _DIGEST_BYTES] = digest
                return start if new else None
        return None


def new_file() -> int:
    """File descriptor of a file without a name for `Quarantine`, with no strike in it."""
    if sys.platform == "linux":
        file = os.memfd_create("surprisal-quarantine")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, _SLOTS * _SLOT_BYTES)
    return file
