"""What the one reader of the keys, the supervisor, tells its workers: digests and roles in memory that they share."""

import hashlib
import os
import struct
import time
from collections.abc import Sequence

from service.front.key import Key, Role
from service.telemetry import memory_file

_HEAD = struct.Struct("=qq32s")
"""The message's number, how many keys follow, and the SHA-256 of those."""
_DIGEST_BYTES = 32
_TRIES = 100
_PAUSE_SECONDS = 0.01


class SharedKeys:
    """The keys as they were last told; a process either tells them or follows.

    Args:
        file: File descriptor of a file that `new_file` made.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._number = 0

    def tell(self, keys: Sequence[Key]) -> None:
        """Put these keys in the place of those that were told before."""
        body = b"".join(key.digest + bytes([list(Role).index(key.role)]) for key in keys)
        self._number += 1
        os.pwrite(self._file, _HEAD.pack(self._number, len(keys), hashlib.sha256(body).digest()) + body, 0)

    def follow(self) -> tuple[Key, ...] | None:
        """The keys, if others were told since this was last asked; None if not, or while they are being told."""
        head = os.pread(self._file, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return None
        number, keys, digest = _HEAD.unpack(head)
        if number == self._number:
            return None
        step = _DIGEST_BYTES + 1
        body = os.pread(self._file, keys * step, _HEAD.size)
        if hashlib.sha256(body).digest() != digest:
            return None
        self._number = number
        roles = list(Role)
        return tuple(
            Key(body[start : start + _DIGEST_BYTES], roles[body[start + _DIGEST_BYTES]])
            for start in range(0, len(body), step)
        )

    def first(self) -> tuple[Key, ...]:
        """The keys that a worker starts with.

        Raises:
            TimeoutError: They were never told. Without keys a service is open, so that none can be assumed.
        """
        for _ in range(_TRIES):
            keys = self.follow()
            if keys is not None:
                return keys
            time.sleep(_PAUSE_SECONDS)
        raise TimeoutError("the supervisor told no keys")


def new_file() -> int:
    """File descriptor of a file for `SharedKeys` in which none were told yet."""
    return memory_file.new("surprisal-keys")
