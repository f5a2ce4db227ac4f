"""The blocks of code in a page, and a shell that runs them as a reader would."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
NOT_RUN = "<!-- not run:"
_BLOCK = re.compile(
    r"^(?P<mark><!-- not run: .+ -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_SERVE = re.compile(r"^((?:\w+=\S+ )*)surprisal serve(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Code of a page.

    Args:
        language: As the fence names it.
        code: Its lines.
        is_run: Whether it is not marked as one that no test runs.
    """

    language: str
    code: str
    is_run: bool


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Block(found["language"], found["code"], found["mark"] is None)


class Shell:
    """Runs blocks one after the other in one folder; a service that one starts serves those after it.

    Args:
        folder: Where they run.
        port: On which services are asked, in place of 8000; another free one is in place of 9000.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port, self._ops_port = folder, port, free_port()
        paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        self._environment = os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT), "SURPRISAL_WORKERS": "1"}

    def run(self, block: Block) -> str:
        """What a block prints."""
        code = block.code.replace("127.0.0.1:8000", f"127.0.0.1:{self._port}")
        for before in ("127.0.0.1:", "SURPRISAL_OPS_PORT="):
            code = code.replace(f"{before}9000", f"{before}{self._ops_port}")
        command = [sys.executable, "-c", code] if block.language == "python" else ["bash", "-c", self._served(code)]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False, timeout=300
        )
        log = self._folder / "serve.log"
        assert done.returncode == 0, (block.code, done.stderr, log.exists() and log.read_text())
        return done.stdout

    def end(self) -> None:
        """End the service, if one runs."""
        subprocess.run(["bash", "-c", _STOP], cwd=self._folder, check=True)

    def _served(self, code: str) -> str:
        """The block with `surprisal serve` in the background, in place of the one before it."""
        serve = (
            rf"{_STOP}\n\1python -m surprisal serve\2 --port {self._port} >serve.log 2>&1 & echo $! >served\n"
            rf"for turn in $(seq 300); do curl -sf http://127.0.0.1:{self._port}/readyz >ready && break; sleep 0.2;"
            "done\ntest -s ready"
        )
        # What `surprisal` finds is this checkout, wherever it is installed from.
        code = re.sub(r"^((?:\w+=\S+ )*)surprisal (?!serve)", r"\1python -m surprisal ", code, flags=re.MULTILINE)
        return "set -euo pipefail\n" + _SERVE.sub(serve, code)


_STOP = (
    "if [ -f served ]; then kill $(cat served) || true; tail --pid=$(cat served) -f /dev/null; rm -f served ready; fi"
)
