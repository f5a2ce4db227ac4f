"""The folder in which workers share their counts: made, kept from being swept, cleared of what the dead said.

Whatever fails here costs counts, and never an answer.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

NOWHERE = Path(os.devnull) / "metrics"
"""In place of a folder that cannot be had: no file can be made in it."""
_PREFIX = "surprisal-metrics-"
_LOCK = "lock"

log = logging.getLogger("surprisal.supervisor")


class MetricsFolder:
    """The folder, and the file descriptors that keep it from being swept: the workers' too, who may live longer.

    Args:
        given: Where it should be; by default it is a temporary one.
    """

    def __init__(self, given: Path | None) -> None:
        self._given = given
        self._lock: int | None = None
        self.path = NOWHERE
        """`NOWHERE` until it can be had."""

    @property
    def held(self) -> tuple[int, ...]:
        """File descriptors that workers hold for as long as they live."""
        return () if self._lock is None else (self._lock,)

    def make(self) -> None:
        """Make it, if there is none yet; where it cannot be had, say so."""
        if self.path is not NOWHERE:
            return
        try:
            if self._given is None:
                _remove_left_over()
                self.path, self._lock = _locked_folder()
            else:
                self._given.mkdir(parents=True, exist_ok=True)
                for left_over in self._given.glob("*.db"):
                    left_over.unlink()
                self.path = self._given
        except OSError as error:
            place = self._given or "a temporary folder"
            log.error("workers cannot share their counts: %s: %s", place, error.strerror)

    def forget(self, pid: int) -> None:
        """Leave out what a worker said of its own state, and keep what it counted.

        Args:
            pid: The worker, which has ended.
        """
        for file in self.path.glob(f"gauge_live*_{pid}.db"):
            try:
                file.unlink()
            except OSError as error:
                log.error("what a dead worker said stays: %s: %s", file, error.strerror)

    def remove(self) -> None:
        """Leave nothing behind."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


@contextlib.contextmanager
def opened(given: Path | None) -> Iterator[MetricsFolder]:
    """The folder, which is removed in the end if it is a temporary one."""
    folder = MetricsFolder(given)
    folder.make()
    try:
        yield folder
    finally:
        folder.remove()


def _locked_folder() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            folder.rmdir()
            raise
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)  # it was swept before it was locked


def _remove_left_over() -> None:
    """Remove the folders of supervisors that were killed: nobody holds their lock any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
