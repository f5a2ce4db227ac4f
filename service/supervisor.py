"""Several workers on one listening socket, each a process: started, watched, replaced when one dies, ended together."""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from service import connections, cpus, logs, memory
from service.acceptor import BACKLOG
from service.connections import Counts
from service.server import operators_socket
from service.settings import METRICS_FOLDER, Settings

SOON_SECONDS = 5.0
"""A worker that dies sooner than this after its start is replaced only after a pause."""
PAUSE_SECONDS = 1.0
_MARGIN_SECONDS = 5.0
_PREFIX = "surprisal-metrics-"
_LOCK = "lock"

log = logging.getLogger("surprisal.supervisor")


def run(settings: Settings, workers: int) -> int:
    """Serve with several workers until a signal ends them.

    Args:
        settings: Of the service.
        workers: How many.

    Returns:
        The exit code: 0, or 1 where a worker could not start or did not end well.

    Raises:
        OSError: The address cannot be listened on.
    """
    logs.configure(settings.log_level)
    with _listening(settings) as listening, _metrics_folder(settings) as (folder, locks):
        # prometheus_client reads it once, when it is imported: in the workers, and here for the counts of workers.
        os.environ[METRICS_FOLDER] = str(folder)
        operators = operators_socket(settings)
        with contextlib.closing(operators) if operators is not None else contextlib.nullcontext():
            return asyncio.run(Supervisor(settings, workers, listening, operators, locks).run())


class Supervisor:
    """Keeps a number of workers alive.

    Args:
        settings: Of the service; the workers get them as environment variables.
        workers: How many.
        listening: The socket that all of them accept from.
        operators: The socket of the port for operators, or None.
        held: File descriptors that they hold for as long as they live.
    """

    def __init__(
        self,
        settings: Settings,
        workers: int,
        listening: socket.socket,
        operators: socket.socket | None = None,
        held: tuple[int, ...] = (),
    ) -> None:
        from service.metrics import WorkerMetrics

        self._workers = workers
        self._listening = listening
        self._operators = operators
        self._held = held
        self._patience = settings.drain_seconds + settings.grace_seconds + _MARGIN_SECONDS
        self._environment = {**os.environ, **_as_environment(settings, workers)}
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._ready: set[int] = set()
        self._stopping = False
        self._exit_code = 0
        self._metrics = WorkerMetrics()
        # Workers see its end when this process is gone, however it went.
        self._lifeline, self._lifeline_here = os.pipe()
        self._counts_file = connections.new_file(workers)
        self._counts = Counts(self._counts_file)

    async def run(self) -> int:
        """Start the workers, and return when all have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop, number)
        address = "http://{}:{}".format(*self._listening.getsockname()[:2])
        log.info("%d workers answer on %s (Press CTRL+C to quit)", self._workers, address)
        await asyncio.gather(*map(self._keep_one, range(self._workers)))
        return self._exit_code

    async def _keep_one(self, worker: int) -> None:
        first = True
        while not self._stopping:
            started = time.monotonic()
            try:
                process, code = await self._live_one(worker)
            except OSError as error:
                log.error("no process could be started: %s", error.strerror)
                if first:
                    self._give_up()
                    return
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._counts.forget(worker)
            was_ready = process.pid in self._ready
            self._ready.discard(process.pid)
            self._metrics.dead(process.pid, len(self._ready))
            if self._stopping:
                # Before it has loaded, and in its very last moment, a worker ends by the signal itself.
                if code not in (0, -signal.SIGTERM, -signal.SIGINT):
                    self._exit_code = 1
                return
            if first and not was_ready:
                log.error("a worker could not start (exit code %d)", code)
                self._give_up()
                return
            first = False
            level = logging.ERROR if code else logging.WARNING
            log.log(level, "worker %d ended with %d; another takes its place", process.pid, code)
            self._metrics.restarts.inc()
            if time.monotonic() - started < SOON_SECONDS:
                await asyncio.sleep(PAUSE_SECONDS)

    def _give_up(self) -> None:
        """What cannot start now will not start later."""
        self._exit_code = 1
        self._stop(signal.SIGTERM)

    async def _live_one(self, worker: int) -> tuple[asyncio.subprocess.Process, int]:
        """Start a worker and wait for its end."""
        ready, ready_there = os.pipe()
        inherited = [self._listening.fileno(), ready_there, self._lifeline, self._counts_file]
        operators = -1 if self._operators is None else self._operators.fileno()
        with contextlib.ExitStack() as last:
            last.callback(os.close, ready)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "service.worker",
                    *map(str, (*inherited, operators, worker)),
                    pass_fds=(*inherited, *self._held, *([] if operators < 0 else [operators])),
                    stdin=asyncio.subprocess.DEVNULL,
                    env=self._environment,
                    # Or a terminal's Ctrl-C would reach them twice: by itself, and passed on from here.
                    start_new_session=True,
                )
            finally:
                os.close(ready_there)
            self._running[process.pid] = process
            last.callback(self._running.pop, process.pid)
            if self._stopping:  # while it was started
                process.terminate()
            loop = asyncio.get_running_loop()
            loop.add_reader(ready, self._on_ready, ready, process.pid)
            last.callback(loop.remove_reader, ready)
            return process, await process.wait()

    def _on_ready(self, ready: int, pid: int) -> None:
        asyncio.get_running_loop().remove_reader(ready)
        if os.read(ready, 1):
            self._ready.add(pid)
            self._metrics.workers.set(len(self._ready))

    def _stop(self, number: int) -> None:
        """Pass the signal on; at the first one also see to it that nobody waits for ever."""
        for pid in self._running:
            # Ctrl-C in the middle of an import would end in a traceback.
            at_once = pid in self._ready and (number == signal.SIGINT or self._stopping)
            with contextlib.suppress(ProcessLookupError):
                # Not by the process's own method, which may take the exit code away from whoever waits for it.
                os.kill(pid, signal.SIGINT if at_once else signal.SIGTERM)
        if not self._stopping:
            self._stopping = True
            # The workers hold it as well, and go on accepting for as long as they drain.
            self._listening.close()
            asyncio.get_running_loop().call_later(self._patience, self._kill)

    def _kill(self) -> None:
        for process in self._running.values():
            log.error("worker %d does not end; it is killed", process.pid)
            process.kill()


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.create_server(
        (settings.host, settings.port), family=family, backlog=BACKLOG, reuse_port=False
    ) as listening:
        yield listening


@contextlib.contextmanager
def _metrics_folder(settings: Settings) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """The folder, and the file descriptors that keep it from being swept: the workers' too, who may live longer."""
    if settings.metrics_folder is None:
        _remove_left_over()
        folder, lock = _locked_folder()
        try:
            yield folder, (lock,)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
        return
    settings.metrics_folder.mkdir(parents=True, exist_ok=True)
    for left_over in settings.metrics_folder.glob("*.db"):
        left_over.unlink()
    yield settings.metrics_folder, ()


def _locked_folder() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
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


def _as_environment(settings: Settings, workers: int) -> dict[str, str]:
    shares = {"threads": max(1, cpus.available() // workers), "memory_mb": memory.budget_bytes(workers) >> 20}
    given = shares | settings.model_dump(exclude_none=True, exclude={"otlp_endpoint", "keys"})
    return {f"SURPRISAL_{name.upper()}": str(value) for name, value in given.items()}
