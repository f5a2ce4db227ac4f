"""The command line, as a call in this process and as a process of its own."""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from unittest.mock import patch

from surprisal.cli.main import main


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def surprisal(*arguments: object, **environment: str) -> Ended:
    """Run a command in this process: one of its own takes seconds to load what this one has.

    What is no refusal passes through, as the traceback that a user would see.
    """
    said, complained = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        patch.dict(os.environ, environment),
        patch.object(sys, "argv", ["surprisal", *map(str, arguments)]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    assert isinstance(code, int)
    return Ended(code, said.getvalue(), complained.getvalue())


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    command = [sys.executable, "-m", "surprisal", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
