"""The workers, each a process, on sockets that they share: started, watched, replaced when one dies, ended together.

One worker has its supervisor too. Nothing here loads what scores.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from service.engine import cpus
from service.front import shared_keys
from service.front.keys import KeyRing, KeysInvalid
from service.front.shared_keys import SharedKeys
from service.models import quarantine
from service.process import listening, watchdog
from service.process.inheritance import Inheritance
from service.process.watchdog import Watchdog
from service.settings import METRICS_FOLDER, Settings
from service.telemetry import metrics_folder, worker_table
from service.telemetry.metrics_folder import MetricsFolder
from service.telemetry.worker_table import WorkerTable
from service.wire import memory_limit

SOON_SECONDS = 5.0
"""A worker that dies sooner than this after its start is replaced only after a pause."""
PAUSE_SECONDS = 1.0
_MARGIN_SECONDS = 5.0

ALLOCATION = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**22),
}
"""How workers have their memory from the system, unless the environment says otherwise: what a request has used goes
back to it at once, so that what is reserved bounds what is resident."""

log = logging.getLogger("surprisal.supervisor")


def run(settings: Settings, workers: int) -> int:
    """Serve until a signal ends it.

    Args:
        settings: Of the service.
        workers: How many.

    Returns:
        The exit code: 0, or 1 where a worker could not start or did not end well.

    Raises:
        OSError: The address cannot be listened on.
    """
    try:
        keys = KeyRing(settings)
    except KeysInvalid as error:
        log.error("the keys cannot be used: %s", error)
        return 1
    with contextlib.ExitStack() as last:
        sockets = [last.enter_context(each) for each in listening.public(settings)]
        operators = listening.operators(settings)
        if operators is not None:
            last.enter_context(operators)
        folder = last.enter_context(metrics_folder.opened(settings.metrics_folder))
        return asyncio.run(Supervisor(settings, workers, sockets, folder, keys, operators).run())


class Supervisor:
    """Keeps a number of workers alive.

    Args:
        settings: Of the service; the workers get them as environment variables.
        workers: How many.
        sockets: Those that all of them accept from.
        folder: Where they share their counts.
        keys: Who may ask; this process alone reads them.
        operators: The socket of the port for operators, or None.
    """

    def __init__(
        self,
        settings: Settings,
        workers: int,
        sockets: Sequence[socket.socket],
        folder: MetricsFolder,
        keys: KeyRing,
        operators: socket.socket | None = None,
    ) -> None:
        self._workers = workers
        self._sockets = sockets
        self._operators = operators
        self._folder = folder
        self._patience = settings.drain_seconds + settings.grace_seconds + _MARGIN_SECONDS
        self._environment = _environment(settings, workers)
        self._scheme = "http" if settings.tls_certificate is None else "https"
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._ready: set[int] = set()
        self._silent: set[int] = set()
        self._urls: list[str] = []
        self._said = False
        self._stopping = False
        self._exit_code = 0
        # Workers see its end when this process is gone, however it went.
        self._lifeline, self._lifeline_here = os.pipe()
        table = worker_table.new_file(workers)
        self._table = WorkerTable(table)
        self._watchdog = Watchdog(self._table, settings.watchdog_seconds, time.monotonic())
        told = shared_keys.new_file()
        self._keys, self._told = keys, SharedKeys(told)
        self._told.tell(keys.keys)
        self._inherited = Inheritance(
            sockets=[each.fileno() for each in sockets],
            operators=None if operators is None else operators.fileno(),
            lifeline=self._lifeline,
            table=table,
            keys=told,
            quarantine=quarantine.new_file(),
        )

    async def run(self) -> int:
        """Start the workers, and return when all have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop, number)
        self._urls = [listening.url(each, self._scheme) for each in self._sockets]
        workers = "1 worker" if self._workers == 1 else f"{self._workers} workers"
        log.info("starting %s on %s", workers, " and ".join(self._urls))
        watching = [asyncio.create_task(each) for each in (self._watch(), self._keys.watch(self._tell_keys))]
        await asyncio.gather(*map(self._keep_one, range(self._workers)))
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        return self._exit_code

    def _tell_keys(self) -> None:
        self._told.tell(self._keys.keys)

    async def _watch(self) -> None:
        """End workers that have been silent for too long."""
        while True:
            await asyncio.sleep(watchdog.LOOK_SECONDS)
            silent = self._watchdog.look(time.monotonic())
            for process in [self._running[worker] for worker in silent if worker in self._running]:
                if process.pid not in self._silent:
                    self._silent.add(process.pid)
                    log.error("worker %d does not answer its supervisor; it is killed", process.pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)  # which ends one that is stopped, too

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
            was_ready, silent = process.pid in self._ready, process.pid in self._silent
            self._ready.discard(process.pid)
            self._silent.discard(process.pid)
            self._table.ready = len(self._ready)
            self._table.forget(worker)
            self._folder.forget(process.pid)
            if self._stopping:
                # Before it has loaded, and in its very last moment, a worker ends by the signal itself.
                if code not in (0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
                    self._exit_code = 1
                return
            if first and not was_ready:
                log.error("a worker could not start (exit code %d)", code)
                self._give_up()
                return
            first = False
            level = logging.ERROR if code else logging.WARNING
            log.log(level, "worker %d ended with %d; another takes its place", process.pid, code)
            self._table.replace(worker, silent=silent)
            if time.monotonic() - started < SOON_SECONDS:
                await asyncio.sleep(PAUSE_SECONDS)

    def _give_up(self) -> None:
        """What cannot start now will not start later."""
        self._exit_code = 1
        self._stop(signal.SIGTERM)

    async def _live_one(self, worker: int) -> tuple[asyncio.subprocess.Process, int]:
        """Start a worker and wait for its end."""
        self._folder.make()
        ready, ready_there = os.pipe()
        inherited = dataclasses.replace(self._inherited, worker=worker, ready=ready_there)
        with contextlib.ExitStack() as last:
            last.callback(os.close, ready)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "service.process.worker",
                    json.dumps(dataclasses.asdict(inherited)),
                    pass_fds=(*inherited.files, *self._folder.held),
                    stdin=asyncio.subprocess.DEVNULL,
                    env={**self._environment, METRICS_FOLDER: str(self._folder.path)},
                    # Or a terminal's Ctrl-C would reach them twice: by itself, and passed on from here.
                    start_new_session=True,
                )
            finally:
                os.close(ready_there)
            self._running[worker] = process
            last.callback(self._running.pop, worker)
            self._watchdog.started(worker)
            last.callback(self._watchdog.ended, worker)
            if self._stopping:  # while it was started
                process.terminate()
            loop = asyncio.get_running_loop()
            loop.add_reader(ready, self._on_ready, ready, worker, process.pid)
            last.callback(loop.remove_reader, ready)
            return process, await process.wait()

    def _on_ready(self, ready: int, worker: int, pid: int) -> None:
        asyncio.get_running_loop().remove_reader(ready)
        if os.read(ready, 1):
            self._ready.add(pid)
            self._table.ready = len(self._ready)
            self._watchdog.ready(worker)
            if len(self._ready) == self._workers and not self._said:
                self._said = True
                self._say_where()

    def _say_where(self) -> None:
        answer = "1 worker answers" if self._workers == 1 else f"{self._workers} workers answer"
        log.info("%s on %s; Ctrl-C stops the service", answer, " and ".join(self._urls))
        here = listening.here(self._urls[0])
        # A browser that opens the page sends no key.
        log.info("documentation: %s", f"{here}/openapi.json, with a key" if self._keys.locked else f"{here}/docs")

    def _stop(self, number: int) -> None:
        """Pass the signal on; at the first one also see to it that nobody waits for ever."""
        for pid in [process.pid for process in self._running.values()]:
            # Ctrl-C in the middle of an import would end in a traceback.
            at_once = pid in self._ready and (number == signal.SIGINT or self._stopping)
            with contextlib.suppress(ProcessLookupError):
                # Not by the process's own method, which may take the exit code away from whoever waits for it.
                os.kill(pid, signal.SIGINT if at_once else signal.SIGTERM)
        if not self._stopping:
            self._stopping = True
            log.info("stopping; what was begun is answered first")
            # The workers hold it as well, and go on accepting for as long as they drain.
            for each in self._sockets:
                each.close()
            asyncio.get_running_loop().call_later(self._patience, self._kill)

    def _kill(self) -> None:
        for process in self._running.values():
            log.error("worker %d does not end; it is killed", process.pid)
            process.kill()


def _environment(settings: Settings, workers: int) -> dict[str, str]:
    shares = {"threads": max(1, cpus.available() // workers), "memory_mb": memory_limit.budget_bytes(workers) >> 20}
    given = shares | settings.model_dump(exclude_none=True, exclude={"otlp_endpoint", "keys"})
    return ALLOCATION | os.environ | {f"SURPRISAL_{name.upper()}": str(value) for name, value in given.items()}
