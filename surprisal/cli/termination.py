"""SIGTERM, by which schedulers and service managers end a command."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from surprisal.cli import processes

TERMINATED = 128 + signal.SIGTERM
"""Exit code of a process that was ended by SIGTERM, as shells have it."""


class Terminated(KeyboardInterrupt):
    """The end by SIGTERM, which leaves as little behind as the one by Ctrl-C."""


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Let SIGTERM end a process that trains alone as Ctrl-C does; of several the one that has begun them ends them.

    Raises:
        Terminated: It came.
    """
    if processes.are_there() or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
