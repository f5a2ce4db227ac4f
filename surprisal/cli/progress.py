"""How far a long command is: a bar on a terminal, elsewhere a line every ten seconds, whatever takes so long."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS = 10.0
SILENCE_SECONDS = 10.0
"""After so long without a line, where no bar is drawn, a line says that the command is still at work."""


class Interval:
    """Every how many seconds something is told; the first time is one interval after the beginning."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def is_over(self) -> bool:
        """Whether it is time again, in which case the next interval begins."""
        now = time.monotonic()
        if now - self._told < SECONDS:
            return False
        self._told = now
        return True


class Progress:
    """Tells on standard error what a command does; while it is entered a bar is there, or no silence is long.

    Args:
        quiet: Tell nothing.
        drawn: Whether there is a bar where standard error is a terminal.
    """

    def __init__(self, *, quiet: bool = False, drawn: bool = True) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True, markup=False)
        self._held = ""
        self._quiet = quiet
        self._told = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._watch: threading.Thread | None = None
        self._bar: Bar | None = None
        self._shown = False
        self.at = ""
        """Where the command is; empty where it has not begun."""
        # Not what rich takes for a terminal: a variable can make it one of a log.
        if drawn and not quiet and sys.stderr.isatty() and not self._console.is_dumb_terminal:
            what, words = (
                TextColumn("{task.description}", markup=False),
                TextColumn("{task.fields[words]}", markup=False),
            )
            self._bar = Bar(what, BarColumn(), words, TimeRemainingColumn(), console=self._console)
            self._task = self._bar.add_task("", total=None, words="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        self._begin_watch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._end_watch()

    @contextlib.contextmanager
    def without_bar(self) -> Iterator[None]:
        """Let no silence be long while something is done of which nobody knows how much there is."""
        self._begin_watch()
        try:
            yield
        finally:
            self._end_watch()

    def say(self, sentence: str) -> None:
        """Tell something once. A silence after it is not one after what `show` told last."""
        self._shown = False
        self._tell(sentence)

    def show(self, at: str, words: str, done: float, total: float) -> None:
        """Tell how far it is, where it is time to.

        Args:
            at: Where the command is, as `1,024 rows`.
            words: More of it.
            done: How much of it is done.
            total: How much there is.
        """
        self.at, self._shown = at, True
        if self._bar is not None:
            self._bar.update(self._task, description=at, words=words, completed=done, total=total)
            return
        with self._lock:
            self._held = f"{at}, {words}"
        if time.monotonic() - self._told >= SECONDS:
            self.catch_up()

    def catch_up(self) -> None:
        """Tell what `show` was told last, unless that has been told."""
        with self._lock:
            held, self._held = self._held, ""
        if held:
            self._tell(held)

    def _tell(self, sentence: str) -> None:
        self._told = time.monotonic()
        self._console.print(sentence)

    def _begin_watch(self) -> None:
        if self._bar is None and not self._quiet:
            self._told = time.monotonic()
            self._ended.clear()
            self._watch = threading.Thread(target=self._break_silence, daemon=True)
            self._watch.start()

    def _end_watch(self) -> None:
        self._ended.set()
        if self._watch is not None:
            self._watch.join()

    def _break_silence(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(max(0.0, self._told + SILENCE_SECONDS - time.monotonic())):
            if time.monotonic() - self._told >= SILENCE_SECONDS:
                after = f" after {self.at}" if self._shown else ""
                still = f"still at work{after}, {time.monotonic() - began:.0f} s since the beginning"
                with self._lock:
                    self._held = self._held or still
                self.catch_up()
