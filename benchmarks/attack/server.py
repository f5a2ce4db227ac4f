"""A server of its own for each attack: started on a copy of the models, watched, ended by its process number."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from benchmarks.attack.memory import MEBIBYTE, Memory, family

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 40.0
CAP = 3600 * MEBIBYTE
"""Bytes of all processes of a server, above which they are killed."""
_POLL_SECONDS = 0.05


class NotStarted(Exception):
    """The service did not become ready; the message holds the end of its log."""


class Server:
    """A running service; leaving the `with` block ends it and all its processes.

    Args:
        models: Folder of the bundles; the service gets a copy, which an attack may change.
        scratch: An empty folder for the copy and the log.
        workers: How many.
        environment: Settings of the service, beside this process's variables.
        cap: Bytes of all its processes, above which they are killed.

    Raises:
        NotStarted: It ended, or was not ready in time.
    """

    def __init__(
        self,
        models: Path,
        scratch: Path,
        *,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
        cap: int = CAP,
    ) -> None:
        self.models = scratch / "models"
        self.workers = workers
        self.port = 0
        self.exit_code: int | None = None
        self._log = scratch / "server.log"
        self._environment = {"SURPRISAL_LOG_LEVEL": "warning", **(environment or {})}
        self._cap = cap
        shutil.copytree(models, self.models)

    def __enter__(self) -> "Server":
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SURPRISAL_")}
        self.port = free_port()
        command = [sys.executable, "-m", "surprisal", "serve", "--models", str(self.models), "--port", str(self.port)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--workers", str(self.workers)],
                cwd=ROOT,
                env=inherited | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.memory = Memory(self.process.pid, self._cap)
        try:
            self._await_ready()
        except BaseException:
            self._kill()
            raise
        self.memory.mark()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether it runs and was not killed for its memory."""
        return not self.memory.capped and self.process.poll() is None

    def worker_processes(self) -> list[int]:
        """The processes that answer: those that a supervisor has started, or the only one."""
        ancestor, *others = family(self.process.pid)
        return [process for process in others if b"service.process.worker" in _command(process)] or others or [ancestor]

    def log(self) -> str:
        """All that it wrote."""
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        """End it by SIGTERM, or by force where that takes too long; its exit code."""
        if self.exit_code is None:
            self.process.terminate()
            self.exit_code = self.wait(STOP_SECONDS)
            self._kill()
        return self.exit_code

    def wait(self, seconds: float) -> int:
        """Its exit code once it has ended; that of a killed one where it does not in time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        return -signal.SIGKILL

    def is_ready(self) -> bool:
        """Whether it can score."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False

    def _await_ready(self) -> None:
        ends = time.monotonic() + START_SECONDS
        while not (self.is_ready() and len(self.worker_processes()) >= self.workers):
            if self.process.poll() is not None or time.monotonic() > ends:
                raise NotStarted(f"exit code {self.process.returncode}:\n{self.log()[-1500:]}")
            time.sleep(_POLL_SECONDS)

    def _kill(self) -> None:
        self.memory.close()
        for process in reversed(family(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _command(process: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path("/proc", str(process), "cmdline").read_bytes()
    return b""
