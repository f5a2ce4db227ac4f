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

from service import connections, cpus, logs
from service.acceptor import BACKLOG
from service.connections import Counts
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
    with _listening(settings) as listening, _metrics_folder(settings) as folder:
        # prometheus_client reads it once, when it is imported: in the workers, and here for the counts of workers.
        os.environ[METRICS_FOLDER] = str(folder)
        return asyncio.run(Supervisor(settings, workers, listening).run())


class Supervisor:
    """Keeps a number of workers alive.

    Args:
        settings: Of the service; the workers get them as environment variables.
        workers: How many.
        listening: The socket that all of them accept from.
    """

    def __init__(self, settings: Settings, workers: int, listening: socket.socket) -> None:
        from service.metrics import WorkerMetrics

        self._workers = workers
        self._listening = listening
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
                    return self._give_up()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._counts.forget(worker)
            was_ready = process.pid in self._ready
            self._ready.discard(process.pid)
            self._metrics.dead(process.pid, len(self._ready))
            if self._stopping:
                # Until it has loaded, a worker ends by the signal itself.
                if code not in (0, -signal.SIGTERM):
                    self._exit_code = 1
                return None
            if first and not was_ready:
                log.error("a worker could not start (exit code %d)", code)
                return self._give_up()
            first = False
            level = logging.ERROR if code else logging.WARNING
            log.log(level, "worker %d ended with %d; another takes its place", process.pid, code)
            self._metrics.restarts.inc()
            if time.monotonic() - started < SOON_SECONDS:
                await asyncio.sleep(PAUSE_SECONDS)

        return None

    def _give_up(self) -> None:
        """What cannot start now will not start later."""
        self._exit_code = 1
        self._stop(signal.SIGTERM)

    async def _live_one(self, worker: int) -> tuple[asyncio.subprocess.Process, int]:
        """Start a worker and wait for its end."""
        ready, ready_there = os.pipe()
        inherited = (self._listening.fileno(), ready_there, self._lifeline, self._counts_file)
        with contextlib.ExitStack() as last:
            last.callback(os.close, ready)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "service.worker",
                    *map(str, (*inherited, worker)),
                    pass_fds=inherited,
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
        for pid, process in self._running.items():
            # Ctrl-C in the middle of an import would end in a traceback.
            at_once = number == signal.SIGINT and pid in self._ready
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT if at_once else signal.SIGTERM)
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
def _metrics_folder(settings: Settings) -> Iterator[Path]:
    if settings.metrics_folder is None:
        _remove_left_over()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with (folder / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return
    settings.metrics_folder.mkdir(parents=True, exist_ok=True)
    for left_over in settings.metrics_folder.glob("*.db"):
        left_over.unlink()
    yield settings.metrics_folder


def _remove_left_over() -> None:
    """Remove the folders of supervisors that were killed: the lock of one that lives is taken."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _as_environment(settings: Settings, workers: int) -> dict[str, str]:
    given = {"threads": max(1, cpus.available() // workers)} | settings.model_dump(exclude_none=True)
    return {f"SURPRISAL_{name.upper()}": str(value) for name, value in given.items()}
