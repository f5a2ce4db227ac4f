"""Health checks back to back, from a process of their own: how long the service answers nobody.

python -m benchmarks.attack.health PORT CONNECTIONS      # until its standard input ends; then prints what it saw
"""

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from benchmarks.attack.server import HOST, ROOT

PAUSE_SECONDS = 0.005
"""Between an answer and the next question, for the service does other things as well."""
_TIMEOUT_SECONDS = 20.0
_BEGUN = b"."


@dataclass(frozen=True)
class Checks:
    """What became of the health checks.

    Args:
        answered: How many were.
        failed: How many were not, or not by 200.
        p99: Milliseconds.
        longest: The same of the slowest.
    """

    answered: int
    failed: int
    p99: float
    longest: float


class Health:
    """Health checks for as long as the `with` block lasts; what they saw stands in `checks` afterwards.

    Args:
        port: Of the service.
        connections: On each of which one check follows another; several, so that each worker has some.
    """

    def __init__(self, port: int, connections: int) -> None:
        self._arguments = [str(port), str(connections)]

    def __enter__(self) -> "Health":
        command = [sys.executable, "-m", "benchmarks.attack.health", *self._arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.read(len(_BEGUN))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        said, _ = self._process.communicate()
        self.checks = Checks(**json.loads(said))


def check(port: int, connections: int, ends: threading.Event) -> Checks:
    """Ask on each connection until the end."""
    times: list[float] = []
    failures: list[float] = []

    def run() -> None:
        connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_SECONDS)
        while not ends.wait(PAUSE_SECONDS):
            started, good = time.perf_counter(), False
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/healthz")
                answer = connection.getresponse()
                answer.read()
                good = answer.status == 200
            if not good:
                connection.close()
            (times if good else failures).append(time.perf_counter() - started)

    threads = [threading.Thread(target=run) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = sorted([*times, *failures]) or [0.0]
    return Checks(len(times), len(failures), every[int(len(every) * 0.99)] * 1e3, every[-1] * 1e3)


def main() -> None:
    """Check until the standard input ends."""
    ends = threading.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        ends.set()

    threading.Thread(target=wait, daemon=True).start()
    sys.stdout.buffer.write(_BEGUN)
    sys.stdout.flush()
    seen = check(int(sys.argv[1]), int(sys.argv[2]), ends)
    print(json.dumps(vars(seen)))


if __name__ == "__main__":
    main()
