"""What `surprisal serve` tells a person at a terminal, and where there is nothing to serve."""

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.process import listening, models_there
from service.process.models_there import ModelsMissing
from tests.conftest import NAME, until


@contextlib.contextmanager
def at_a_terminal(
    *arguments: object, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """`surprisal serve` on a terminal of its own, and what has been shown there."""
    screen, there = pty.openpty()
    os.set_blocking(screen, False)
    command = [sys.executable, "-m", "surprisal", "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env={**os.environ, **environment})
    os.close(there)
    text = bytearray()

    def shown() -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while part := os.read(screen, 65536):
                text.extend(part)
        return text.decode().replace("\r\n", "\n")

    try:
        yield process, shown
    finally:
        process.kill()
        process.wait()
        os.close(screen)


def test_a_person_is_told_where_it_answers_with_what_once(models: Path) -> None:
    with at_a_terminal("--models", models, "--workers", 2, SURPRISAL_DRAIN_SECONDS="0") as (process, shown):
        until(lambda: "/docs" in shown())
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in shown().splitlines()]
    url = lines[0].rpartition(" ")[2]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    assert lines == [
        f"starting 2 workers on {url}",
        f"serving {NAME} version 1 on CPUExecutionProvider",
        f"2 workers answer on {url}; Ctrl-C stops the service",
        f"documentation: {url}/docs",
        "stopping; what was begun is answered first",
    ]


def test_a_person_is_told_once_which_version_is_refused(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / NAME / "1", tmp_path / NAME / "1")
    (tmp_path / NAME / "1" / "noise.npy").write_bytes(b"damaged")
    with at_a_terminal("--models", tmp_path, "--workers", 2) as (_, shown):
        until(lambda: "/docs" in shown())
        (refused,) = re.findall(r"^\S+  error: (.*)$", shown(), re.MULTILINE)
    assert refused.startswith(f"{NAME} is refused: version 1: noise.npy: its bytes are not those that were written")


def test_a_program_at_a_terminal_gets_json_if_it_says_so(tmp_path: Path) -> None:
    with at_a_terminal("--models", tmp_path, "--workers", 1, SURPRISAL_LOG_FORMAT="json") as (_, shown):
        until(lambda: "starting 1 worker" in shown())
        assert all(line.startswith('{"time": "') for line in shown().splitlines())


def test_an_empty_folder_is_said_at_once_and_its_first_model_is_served(models: Path, tmp_path: Path) -> None:
    with at_a_terminal("--models", tmp_path, "--workers", 1) as (_, shown):
        until(lambda: "/docs" in shown())
        first = shown().splitlines()[0].partition("  ")[2]
        assert first.startswith(
            f"warning: there is no model in {tmp_path}; the service waits for one. `surprisal train"
        )
        shutil.copytree(models / NAME, tmp_path / NAME)
        until(lambda: f"serving {NAME} version 1" in shown())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            "nothing",
            "there is no such folder. Name the one that `surprisal train` wrote to, or make a model first: surprisal",
        ),
        ("file", "is a file; a models folder is expected"),
        (f"models/{NAME}", "is the folder of one model; all models of a folder are served"),
        (f"models/{NAME}/1", "is the folder of one model; all models of a folder are served"),
    ],
)
def test_what_is_no_models_folder_is_refused_before_anything_starts(
    models: Path, tmp_path: Path, place: str, said: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "models").symlink_to(models)
    with pytest.raises(ModelsMissing) as refused:
        models_there.require(tmp_path / place)
    assert str(refused.value).startswith(f"{tmp_path / place}: {said}")
    command = [sys.executable, "-m", "surprisal", "serve", "--port", "0", "--models", str(tmp_path / place)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (2, f"surprisal: {refused.value}\n")


def test_a_folder_that_is_named_from_here_says_from_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelsMissing, match=re.escape(f"models: there is no such folder in {tmp_path}. Name the one")):
        models_there.require(Path("models"))


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("http://0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("https://[::]:1", "https://[::1]:1"),
        ("http://10.0.0.0:80", "http://10.0.0.0:80"),
    ],
)
def test_a_page_is_named_by_an_address_that_can_be_opened(address: str, asked: str) -> None:
    assert listening.here(address) == asked
