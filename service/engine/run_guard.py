"""Ends runs of a graph that take too long: a graph may loop for ever, on some records alone."""

import logging
import threading
import time
from collections.abc import Callable
from threading import get_ident
from time import monotonic

import onnxruntime

TICK_SECONDS = 0.5
"""Runs are looked at this often."""
END_SECONDS = 5.0
"""A run that was told to end and has not ended after this long is stuck in an operator that cannot be interrupted."""
_FATAL = 4

log = logging.getLogger("surprisal.scorer")


class RunStopped(Exception):
    """A run took longer than it may, and was ended."""


def _nobody(seconds: float) -> None:
    """Is told, and does nothing."""


class Watch:
    """How long runs of one version's graphs may take, and who is told of one that takes longer.

    Args:
        seconds: For a run on a thread.
        inline_seconds: For a run on the main thread, where the event loop waits for it.
        stopped: Called on the guard's thread with the seconds that a run took when it was told to end.
        stuck: The same for one that did not end then.
    """

    def __init__(
        self,
        seconds: float,
        inline_seconds: float,
        stopped: Callable[[float], None] = _nobody,
        stuck: Callable[[float], None] = _nobody,
    ) -> None:
        self.seconds = seconds
        self.inline_seconds = inline_seconds
        self.stopped = stopped
        self.stuck = stuck
        self.given_up = False
        """Set where nobody waits for the runs any more: they are ended at the next look."""
        self.idle: list[Run] = []
        """Runs that ended by themselves, for the next ones: making their options takes longer than all the rest."""


class Run:
    """One call of `Graph.run`: one piece, or several side by side.

    Args:
        watch: Of the version.
    """

    __slots__ = ("most", "options", "stopped", "stuck", "touched", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.most = watch.seconds
        """Seconds that it may take without a piece that begins."""
        self.options = onnxruntime.RunOptions()
        # What it would print is the text of the error that it raises.
        self.options.log_severity_level = _FATAL
        self.touched = 0.0
        """When its newest piece began."""
        self.stopped: float | None = None
        """When it was told to end."""
        self.stuck = False


class RunGuard:
    """Looks at what runs, from a thread of its own."""

    def __init__(self) -> None:
        self._runs: dict[int, Run] = {}
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._main = threading.main_thread().ident

    def begin(self, watch: Watch) -> Run:
        """Say that a run begins; `end` must follow."""
        try:
            run = watch.idle.pop()
        except IndexError:
            run = Run(watch)
        run.most = watch.inline_seconds if get_ident() == self._main else watch.seconds
        run.touched = monotonic()
        self._runs[id(run)] = run
        if self._thread is None:
            self._start()
        return run

    def end(self, run: Run) -> None:
        """Say that it has ended."""
        del self._runs[id(run)]
        if run.stopped is None:
            run.watch.idle.append(run)

    def stop_all(self) -> None:
        """Tell all runs to end."""
        for run in self._runs.copy().values():
            run.stopped = monotonic()
            run.options.terminate = True

    @property
    def running(self) -> bool:
        """Whether anything runs."""
        return bool(self._runs)

    def look(self, now: float, late: float) -> None:
        """Tell runs to end that take too long.

        Args:
            now: On `time.monotonic`, in seconds.
            late: Seconds that this process was itself held up: no run is to blame for them.
        """
        for run in self._runs.copy().values():
            run.touched += late
            took = now - run.touched
            if run.stopped is None:
                if took > run.most or run.watch.given_up:
                    run.stopped = now
                    run.options.terminate = True
                    run.watch.stopped(took)
            else:
                run.stopped += late
                if now - run.stopped > END_SECONDS and not run.stuck:
                    run.stuck = True
                    run.watch.stuck(took)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="run-guard", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        last = monotonic()
        while True:
            time.sleep(TICK_SECONDS)
            now = monotonic()
            late = now - last - TICK_SECONDS
            last = now
            try:
                self.look(now, late if late > TICK_SECONDS else 0.0)
            except Exception:
                log.exception("the runs could not be looked at")


GUARD = RunGuard()
"""The one of this process."""
