"""What a figure is worth nothing without: machine, date, versions, commit and command."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from service.engine import cpus

PACKAGES = ("onnxruntime", "uvicorn", "fastapi", "numpy", "orjson", "pyarrow")


def heading() -> str:
    """Some lines to print above every table."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return "\n".join(
        (
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {_processor()}, {cpus.available()} cores in use, "
            f"load average {os.getloadavg()[0]:.2f}",
            f"{platform.platform()}, Python {platform.python_version()}, {versions}",
            f"commit {_commit()}: {shlex.join(['python', *sys.orig_argv[1:]])}",
        )
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str:
    called = ["git", "describe", "--always", "--dirty"]
    try:
        told = subprocess.run(called, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return told.stdout.strip() or "unknown"
