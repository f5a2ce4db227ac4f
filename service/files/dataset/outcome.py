"""What came of a shard, whichever process scored it."""

from dataclasses import dataclass

from reading.errors import FileInvalid
from service.files.dataset.job import Done, Job, OutFailed, Worker
from service.files.dataset.shard import Shard

TRIES = 3
"""Processes that a shard may take along before it counts as failed."""


@dataclass(frozen=True)
class Failed:
    """A shard without results.

    Args:
        shard: The shard.
        reason: Why, with the file's name.
    """

    shard: Shard
    reason: str


Outcome = Done | Failed


@dataclass(frozen=True)
class Stopped:
    """What keeps a process from scoring this shard and any other.

    Args:
        error: Raised where the run was begun.
    """

    error: Exception


def attempt(worker: Worker, job: Job, shard: Shard) -> Outcome | Stopped:
    """Score a shard, and give what came of it in a form that can go from process to process.

    Args:
        worker: Scores it.
        job: What is asked.
        shard: The shard.
    """
    try:
        return worker.do(shard)
    except OutFailed as error:
        return Stopped(OutFailed(*error.args, error.filename))
    except Exception as error:  # noqa: BLE001 - told as the shard's failure
        name = job.source.named(shard.path)
        said = str(error) if isinstance(error, (FileInvalid, OSError)) else f"{type(error).__name__}: {error}"
        return Failed(shard, said if name in said else f"{name}: {said}")


def ended(job: Job, shard: Shard, how: str) -> Failed:
    """A shard that ended the process that scored it so often that it counts as failed.

    Args:
        job: What is asked.
        shard: The shard.
        how: How the last process ended.
    """
    return Failed(shard, f"{job.source.named(shard.path)}: ended {TRIES} processes that scored it, the last with {how}")
