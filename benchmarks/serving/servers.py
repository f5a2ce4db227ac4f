"""Starts a server as a process of its own, waits for its first answer, watches its memory, ends it."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from benchmarks.serving.formats import Make, Request, json_arrays
from benchmarks.serving.model import SAMPLES, bundle_folder, simulate
from service.engine import cpus

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "peers"
HOST = "127.0.0.1"
START_SECONDS = 90.0
STOP_SECONDS = 30.0
PORTS = 10  # apart: some servers take several
SETTLE_SECONDS = 1.5  # until every worker of several is up


class NotStarted(Exception):
    """A server did not answer; the message holds the end of its log."""


@dataclass(frozen=True)
class Launch:
    """How a server is started, and how it wants to be asked.

    Args:
        name: What the tables call it.
        command: `{port}` stands for the port, `{port+1}` for the next, here and in the environment.
        make: Rows to the JSON request that it reads.
        environment: Beside this process's own, less any SURPRISAL_* variable.
    """

    name: str
    command: tuple[str, ...]
    make: Make = json_arrays
    environment: dict[str, str] = field(default_factory=dict)


def surprisal(models: Path, workers: int) -> Launch:
    """The product, with its default settings but no waiting before it stops."""
    command = [sys.executable, "-m", "surprisal", "serve", "--models", str(models), "--host", HOST, "--port", "{port}"]
    if _knows_workers():
        command += ["--workers", str(workers)]
    elif workers > 1:
        raise SystemExit("this version of `surprisal serve` has no --workers: ask for --workers 1")
    environment = {"SURPRISAL_DRAIN_SECONDS": "0", "SURPRISAL_LOG_LEVEL": "warning"}
    return Launch(f"surprisal serve, {in_words(workers)}", tuple(command), environment=environment)


def bare(models: Path, workers: int) -> Launch:
    """A bare ASGI endpoint around the same graph: it validates nothing, counts nothing and refuses nothing."""
    return uvicorn(f"bare ASGI endpoint, {in_words(workers)}", "bare:app", models, workers)


def uvicorn(name: str, app: str, models: Path, workers: int) -> Launch:
    """An application of `peers/` by uvicorn, in this virtual environment."""
    options = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
    command = (sys.executable, "-m", "uvicorn", app, "--host", HOST, "--port", "{port}", "--workers", str(workers))
    return Launch(name, (*command, *options), environment=graph_environment(models, workers))


def graph_environment(models: Path, workers: int) -> dict[str, str]:
    """What `peers/graph.py` reads: the same files, and a worker's share of the cores."""
    folder = bundle_folder(models)
    return {
        "GRAPH": str(folder / "scorer.onnx"),
        "NOISE": str(folder / "noise.npy"),
        "SAMPLES": str(SAMPLES),
        "THREADS": str(max(1, cpus.available() // workers)),
        "WORKERS": str(workers),
        "PYTHONPATH": str(PEERS),
    }


def free_port(first: int) -> int:
    """The first port from there, in steps of `PORTS`, on which nobody answers: else we should measure a stranger."""
    while True:
        try:
            socket.create_connection((HOST, first)).close()
        except ConnectionRefusedError:
            return first
        first += PORTS


def in_words(workers: int) -> str:
    """As the tables put it."""
    return "1 worker" if workers == 1 else f"{workers} workers"


class Server:
    """A running server; leaving the `with` block ends it and all its processes.

    Args:
        launch: How to start it.
        port: A free one.
        scratch: Folder for its log.

    Raises:
        NotStarted: It ended, or gave no good answer in time.
    """

    def __init__(self, launch: Launch, port: int, scratch: Path) -> None:
        self.launch = launch
        self.port = port
        self.start_seconds = 0.0  # from the start of the process to its first answer
        self._log = scratch / f"server-{port}.log"

    def __enter__(self) -> "Server":
        launch = self.launch
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SURPRISAL_")}
        environment = inherited | {name: self._filled(value) for name, value in launch.environment.items()}
        command = [self._filled(part) for part in launch.command]
        started = time.perf_counter()
        with self._log.open("wb") as log:
            # A session of its own, so that Ctrl-C reaches it through us alone.
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._await_answer(started)
        except BaseException:
            self._end()
            raise
        time.sleep(SETTLE_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    def ask(self, request: Request) -> tuple[int, bytes]:
        """Send one request on a connection of its own; status and body."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", request.path, request.body, request.headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def memory(self) -> int:
        """Bytes of all its processes: shares of shared pages where the kernel tells them, else resident sizes."""
        return sum(_memory_of(process) for process in _family(self._process.pid))

    def workers(self) -> list[int]:
        """The processes of the product that answer, where they are several."""
        called = {
            process: Path("/proc", str(process), "cmdline").read_bytes() for process in _family(self._process.pid)
        }
        return [process for process, command in called.items() if b"service.process.worker" in command]

    def log(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-1500:]

    def _filled(self, text: str) -> str:
        return text.replace("{port}", str(self.port)).replace("{port+1}", str(self.port + 1))

    def _await_answer(self, started: float) -> None:
        request, answer = self.launch.make(simulate(1, seed=3)), "none"
        while time.perf_counter() - started < START_SECONDS:
            if self._process.poll() is not None:
                raise NotStarted(f"{self.launch.name} ended with code {self._process.returncode}:\n{self.log()}")
            try:
                status, body = self.ask(request)
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)
                continue
            if status == 200:
                self.start_seconds = time.perf_counter() - started
                return
            answer = f"{status} {body[:300]!r}"
            time.sleep(0.05)
        raise NotStarted(f"{self.launch.name} gave no good answer (the last: {answer}):\n{self.log()}")

    def _end(self) -> None:
        family = _family(self._process.pid)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        for process in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()


def _knows_workers() -> bool:
    called = [sys.executable, "-m", "surprisal", "serve", "--help"]
    shown = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=True)
    return "--workers" in shown.stdout


def _family(ancestor: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name before the bracket may hold anything; state and parent follow it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    family = [ancestor]
    for process in family:
        family += children.get(process, [])
    return family


def _memory_of(process: int) -> int:
    for file, name in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in Path("/proc", str(process), file).read_text().splitlines():
                if line.startswith(name):
                    return int(line.split()[1]) * 1024
    return 0
