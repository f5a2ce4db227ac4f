"""A training by several processes: begun here with `--processes`, or by torchrun; only one of them speaks."""

import contextlib
import io
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from surprisal.cli.failure import CALL_WRONG, STOPPED, WORK_FAILED, Failed, fail, needs_training

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

ProcessesOption = Annotated[
    int | None, typer.Option(min=1, help="Train by so many processes on this machine; says how fast that is.")
]

LOST = 75
"""Exit code of a process that ended because another one had."""
_LEFT = "TORCHELASTIC_ERROR_FILE"
"""The variable that names the file in which a process leaves why it ended."""
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables by which processes find each other."""
_SECONDS = 5.0
"""How long a process lets the first one say what they may both have to say."""


def are_there() -> bool:
    """Whether this process is one of several that train together: torchrun, or `begin`, has begun them."""
    return all(name in os.environ for name in _NEEDED) and int(os.environ["WORLD_SIZE"]) > 1


def here() -> int:
    """How many processes train together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if are_there() else 1


def speaks() -> bool:
    """Whether this process says what happens: the only one, or the first of several."""
    return not are_there() or os.environ["RANK"] == "0"


def begin(data: Path, processes: int | None, folder: Path, *, schema_only: bool) -> None:
    """Where several processes are asked for, have them make the same call on this machine, and end as they do.

    What they cannot do is refused, and more of them than there are cores.

    Args:
        data: What is to be trained on.
        processes: `--processes`.
        folder: Where they keep checkpoints.
        schema_only: `--schema-only`.
    """
    _check(data, processes, schema_only=schema_only)
    if processes is not None and processes > 1 and not are_there():
        _launch(processes, folder)


def _check(data: Path, processes: int | None, *, schema_only: bool) -> None:
    from reading.parts import STANDARD_INPUT

    begun = int(os.environ["WORLD_SIZE"]) if are_there() else 1
    if begun > 1 and processes not in (None, begun):
        fail(f"--processes {processes}: torchrun has begun {begun}; leave --processes out", CALL_WRONG)
    if max(begun, processes or 1) == 1:
        return
    if schema_only:
        fail("--schema-only: one process prints it; leave --processes and torchrun out", CALL_WRONG)
    if str(data) == STANDARD_INPUT:
        fail("-: several processes cannot all read standard input; name a file", CALL_WRONG)
    if processes is not None and processes > _cores():
        fail(f"--processes {processes}: there are {_cores()} cores here; take as many processes at most", CALL_WRONG)


def _launch(processes: int, folder: Path) -> NoReturn:
    try:
        from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    except ImportError as error:
        needs_training(error)

    logging.disable()  # It is said here, in our words.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory(prefix="surprisal-train-") as left:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="surprisal",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            shutdown_timeout=20,
            logs_specs=DefaultLogsSpecs(log_dir=left, redirects=dict.fromkeys(range(1, processes), Std.ALL)),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "surprisal", *sys.argv[1:])
        except SignalException as error:
            if error.sigval + 128 == STOPPED:
                raise SystemExit(STOPPED) from error  # The first process has said where it stopped.
            fail(f"stopped by {error.sigval.name}{_how_to_go_on(folder)}{_cache_left(folder)}", 128 + error.sigval)
        except ChildFailedError as error:
            _end(error.failures, processes, Path(left), folder)
    raise SystemExit(0)


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let the first of several processes alone say why they end; each leaves it for who began them."""
    path = os.environ.get(_LEFT)
    if path is None or sys.argv[1:2] != ["train"] or not are_there():
        yield
        return
    first = speaks()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    status = 0
    with contextlib.nullcontext() if first else contextlib.redirect_stderr(io.StringIO()):
        try:
            yield
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else WORK_FAILED if ended.code else 0
            if isinstance(ended, Failed):
                _leave(ended.message, Path(path), first=first)
        except Exception as error:  # noqa: BLE001 - said in one sentence, with its place
            where = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
            print(f"surprisal: {message}", file=sys.stderr)
            _leave(message, Path(path), first=first)
            status = WORK_FAILED
    _exit(status)


def _exit(status: int) -> NoReturn:
    """End at once: threads of gloo now and then abort a process that clears up, which would count as its death."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end_with(parent: int) -> None:
    """End this process once the one that has begun it is gone, killed: it would go on unseen."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


def _leave(message: str, path: Path, *, first: bool) -> None:
    path.write_text(json.dumps({"message": message, "timestamp": int(time.time())}))
    # Whoever ends before the others ends them.
    until = time.monotonic() + _SECONDS
    while not first and not (path.parents[1] / "0" / path.name).exists() and time.monotonic() < until:
        time.sleep(0.05)


def _end(failures: "Mapping[int, ProcessFailure]", processes: int, left: Path, folder: Path) -> NoReturn:
    """Say which process ended the others and why, unless the first one has said it."""
    rank, failure = min(failures.items(), key=lambda each: _precedence(each[1]))
    code = failure.exitcode if failure.exitcode in (WORK_FAILED, CALL_WRONG, STOPPED) else WORK_FAILED
    if _message(left, 0):
        raise SystemExit(code)
    process = f"process {rank + 1} of {processes} (rank {rank}, pid {failure.pid})"
    if failure.exitcode < 0:
        memory = ", as the system does where memory runs out" if failure.signal_name() == "SIGKILL" else ""
        fail(
            f"{process} was ended by {failure.signal_name()}{memory}, and the others with it{_how_to_go_on(folder)}",
            code,
        )
    if message := _message(left, rank):
        fail(f"{process}: {message}", code)
    said = [line for path in left.glob(f"*/attempt_0/{rank}/stderr.log") for line in path.read_text().splitlines()]
    last = f": {said[-1]}" if said else ""
    fail(f"{process} ended with status {failure.exitcode}{last}{_how_to_go_on(folder)}", code)


def _precedence(failure: "ProcessFailure") -> int:
    """Lower for what is more likely the cause: the others end by SIGTERM, or because they have lost one."""
    if failure.exitcode == LOST:
        return 3
    if failure.signal_name() == "SIGTERM":
        return 2
    return 0 if failure.exitcode < 0 else 1


def _message(left: Path, rank: int) -> str:
    """Why a process said that it ends; empty where it said nothing."""
    found = [json.loads(path.read_text()) for path in left.glob(f"*/attempt_0/{rank}/error.json")]
    return found[0]["message"] if found else ""


def _how_to_go_on(folder: Path) -> str:
    if any(folder.glob(".checkpoint-*.pt")):
        return "; the checkpoint is kept: the same command with --resume goes on from there, by any number of processes"
    return "; no epoch was over, and nothing is kept: the same command begins again"


def _cache_left(folder: Path) -> str:
    """That streamed rows are still on the disk, where they are."""
    return "; the next streamed run removes the cache that it has left" if any(folder.glob(".cache-*")) else ""


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
