"""How much more memory a load may map than is mapped already: what a graph asks for beyond it is refused to it."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from bundle.folder.store import Bundle

_LEAST = 2**30
_TIMES_ITS_BYTES = 8
_BYTES_A_LEVEL = 128
_GOLDEN_DRAWS = 256
_BYTES_A_THREAD = 80 * 2**20
"""Its stack, and what malloc sets aside for it."""


def allowance(bundle: Bundle, threads: int = 1) -> int:
    """Bytes that loading a bundle may map.

    1 GiB, and 8 times what the bundle holds: its bytes, as protobuf has parsed them, as ONNX Runtime packs them, of
    two graphs. Of images also 128 for each level and draw: a golden image is scored with 256 draws in one run.

    Args:
        bundle: What is loaded.
        threads: That each of its graphs runs on.
    """
    levels = bundle.manifest.record.levels
    held = sum(map(len, bundle.files.values()))
    return (
        _LEAST + _TIMES_ITS_BYTES * held + _BYTES_A_LEVEL * _GOLDEN_DRAWS * levels + 2 * (threads - 1) * _BYTES_A_THREAD
    )


class AddressSpace:
    """What this process may map, in Linux, where alone such a limit holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loads = 0
        self._granted = 0
        self._before = (-1, -1)

    @contextlib.contextmanager
    def limited(self, more: int) -> Iterator[None]:
        """Let this process map so much more, and no more, for a while; several such whiles may overlap.

        Args:
            more: Bytes.
        """
        if sys.platform != "linux":
            yield
            return
        import resource

        with self._lock:
            if not self._loads:
                self._before = resource.getrlimit(resource.RLIMIT_AS)
                self._granted = _mapped()
            self._loads += 1
            self._granted += more
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._loads -= 1
                self._granted -= more
                self._set()

    def _set(self) -> None:
        import resource

        soft, hard = self._before
        if self._loads:
            soft = min(each for each in (self._granted, soft, hard) if each != resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


ADDRESS_SPACE = AddressSpace()
"""Of this process."""


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that memory was asked for in vain; ONNX Runtime has no class for it."""
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError) or "bad_alloc" in text or "allocate memory" in text:
            return True
        error = error.__cause__
    return False
