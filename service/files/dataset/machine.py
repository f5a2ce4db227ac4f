"""What a machine of a cluster does: it scores shards, once it is known to have what the others have."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from bundle.errors import BundleError, BundleRefused
from service.engine.device import CUDA_PROVIDER, DeviceUnavailable
from service.files.dataset.connection import ClusterFailed
from service.files.dataset.job import Job, Worker
from service.files.dataset.outcome import Outcome, Stopped, attempt
from service.files.dataset.shard import Shard
from service.settings import settings

RELEASE = "surprisal-vae"
_SHARED = "every machine has to find the same under this path: share the folder among them, or name object storage"


class MachineDiffers(ClusterFailed):
    """A machine has not what the one that began the run has; says which machine, and what."""


@dataclass(frozen=True)
class Terms:
    """What every machine has to find as the one that began the run did, so that the results are the same.

    Args:
        release: Of this package.
        digest: Of the bundle.
        provider: Execution provider of ONNX Runtime.
        plan: The file of the plan, below OUT.
    """

    release: str
    digest: str
    provider: str
    plan: str

    @property
    def on_gpus(self) -> bool:
        """Whether an actor takes a GPU."""
        return self.provider == CUDA_PROVIDER


class Actor:
    """Scores shards on whichever machine it is.

    Args:
        job: What is asked.
        terms: What this machine has to find.
        variables: Of the environment, by name.
    """

    def __init__(self, job: Job, terms: Terms, variables: Mapping[str, str]) -> None:
        self._job, self._terms = job, terms
        os.environ.update(variables)

    def begin(self, shard: Shard) -> Stopped | None:
        """Open the bundle, once this machine is known to have what it has to.

        Args:
            shard: Whose file is to be there.
        """
        try:
            self._worker = self._checked(shard)
        except ClusterFailed as error:
            return Stopped(error)
        return None

    def do(self, shard: Shard) -> Outcome | Stopped:
        """Score a shard."""
        return attempt(self._worker, self._job, shard)

    def _checked(self, shard: Shard) -> Worker:
        job, terms = self._job, self._terms
        if (release := version(RELEASE)) != terms.release:
            raise _differs(f"has {RELEASE} {release} in place of {terms.release}; install one release on all")
        try:
            worker = Worker(job)
        except (BundleError, DeviceUnavailable, OSError) as error:
            said = error.whole if isinstance(error, BundleRefused) else error
            raise _differs(f"cannot open {job.bundle}: {said}; {_SHARED}") from None
        if worker.digest != terms.digest:
            told = f"a bundle with the digest {worker.digest} in place of {terms.digest}"
            raise _differs(f"has in {job.bundle} {told}; {_SHARED}")
        if worker.provider != terms.provider:
            raise _differs(f"runs the bundle by {worker.provider} in place of {terms.provider}; take machines alike")
        for place, path in ((job.source, shard.path), (job.out, terms.plan)):
            if place.entry(path) is None:
                raise _differs(f"has no {place.named(path)}; {_SHARED}")
        return worker


def _differs(what: str) -> MachineDiffers:
    import ray

    return MachineDiffers(f"machine {socket.gethostname()} ({ray.util.get_node_ip_address()}) {what}")


def environment(terms: Terms) -> dict[str, str]:
    """Settings as they are here, as far as scores depend on them; an actor has one processor."""
    here = settings()
    found = {"DEVICE": "cuda" if terms.on_gpus else "cpu", "TF32": str(here.tf32), "THREADS": "1"}
    found["GPU_MEMORY_MB"] = "" if here.gpu_memory_mb is None else str(here.gpu_memory_mb)
    return {f"SURPRISAL_{name}": value for name, value in found.items()}
