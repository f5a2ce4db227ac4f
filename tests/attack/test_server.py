"""Whether the watch over a server's memory sees what it should, and ends what it should."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.attack.memory import MEBIBYTE, Memory, family
from benchmarks.attack.server import NotStarted, Server
from tests.conftest import until

TAKES = """
import subprocess, sys
code = 'import sys; input(); a = bytearray(200 * 2**20); del a; print(flush=True); input()'
child = subprocess.Popen([sys.executable, '-c', code])
child.wait()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose child takes 200 MiB for a moment when it reads a line."""
    with subprocess.Popen([sys.executable, "-c", TAKES], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        until(lambda: len(family(process.pid)) == 2)
        yield process
        for member in reversed(family(process.pid)):
            subprocess.run(["kill", "-9", str(member)], check=False)


def take(parent: subprocess.Popen[bytes]) -> None:
    """Let the child take them, and wait until it has given them back."""
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(b"\n")
    parent.stdin.flush()
    parent.stdout.readline()


def test_a_peak_that_is_over_is_seen_in_a_child_and_can_be_forgotten(parent: subprocess.Popen[bytes]) -> None:
    memory = Memory(parent.pid, 10_000 * MEBIBYTE)
    memory.mark()
    assert memory.over_rest() < 20 * MEBIBYTE
    take(parent)
    assert 190 * MEBIBYTE < memory.over_rest() < 220 * MEBIBYTE
    assert memory.kept() < 20 * MEBIBYTE
    memory.forget()
    assert memory.over_rest() < 20 * MEBIBYTE
    memory.close()
    assert not memory.capped


def test_above_the_cap_all_are_ended(models: Path, tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="-9"):
        Server(models, tmp_path, cap=MEBIBYTE).__enter__()
