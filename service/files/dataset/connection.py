"""The connection to a Ray cluster, for as long as a run takes."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from reading.errors import FileInvalid

_OBJECTS = 100 * 2**20
"""Bytes of the object store where Ray is started here: hardly anything goes through it, and less it does not take."""
_ANSWER_SECONDS = 10.0

log = logging.getLogger("surprisal.cluster")


class ClusterFailed(FileInvalid):
    """Ray is not installed, no cluster answers, or its workers cannot begin; says what to do."""


def require() -> None:
    """Check that Ray is installed, before anything is begun.

    Raises:
        ClusterFailed: It is not.
    """
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise ClusterFailed(
            f"engine ray: this needs {error.name}, which is not installed: pip install 'surprisal-vae[ray]'"
        ) from None


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster until the run ends; a connection that is there already stays.

    Raises:
        ClusterFailed: No cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    require()
    import ray

    if ray.is_initialized() and address is None:
        yield ray
        return
    with _silence():
        _connect(ray, address or os.environ.get("RAY_ADDRESS"))
        try:
            yield ray
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    if address is not None:
        _require_answer(address)
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    at_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "auto", **quiet)
    except Exception as error:  # Ray's errors of this have no base
        if address is not None or not isinstance(error, ConnectionError):
            raise ClusterFailed(f"{address or 'the cluster on this machine'}: {in_a_line(error)}") from error
        ray.init(address="local", include_dashboard=False, object_store_memory=_OBJECTS, **quiet)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, at_sigterm)  # Ray sets one of its own


def _require_answer(address: str) -> None:
    """Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise ClusterFailed(
            f"address {address}: HOST:PORT of the cluster's head is expected, as 10.0.0.1:6379; from outside the "
            "cluster have it run the command: ray job submit -- surprisal score …"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterFailed(f"address {address}: no cluster answers there: {error}") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what Ray's daemons say from standard output, where lines of JSON may be; Ray has no setting for that."""
    from ray._private import worker

    printing = worker.print_to_stdstream
    worker.print_to_stdstream = lambda data, ignore_prefix: log.info("%s", " ".join(data["lines"]))
    try:
        yield
    finally:
        worker.print_to_stdstream = printing


def in_a_line(error: Exception) -> str:
    """What it says, without its breaks."""
    return " ".join(str(error).split())
