"""Shards on the machines of a Ray cluster: each actor has one at a time, and one that dies takes no other's with it.

Ray schedules and nothing else. An actor reads its rows from IN and publishes their scores to OUT; what comes back of a
shard is its small `Done`, so that no row passes through the object store.

These are plain actors that Ray never restarts, in a pool like that of `local`. Ray Data has pools, too, but repeats
without end what ended its actor, and so a shard that ends each process which scores it. Here every death is seen, and
counted against the shard that the actor had.
"""

import contextlib
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from service.files.dataset.connection import ClusterFailed, connected, in_a_line
from service.files.dataset.job import Job
from service.files.dataset.machine import RELEASE, Actor, Terms, environment
from service.files.dataset.outcome import TRIES, Outcome, Stopped, ended
from service.files.dataset.shard import Shard

_PATIENCE_SECONDS = 60.0
"""After so long without a machine that has room for a worker it is said."""

log = logging.getLogger("surprisal.cluster")


def run(
    job: Job, shards: Sequence[Shard], terms: Terms, workers: int | None = None, address: str | None = None
) -> Iterator[Outcome]:
    """Score shards, each by one of some actors.

    Args:
        job: What is asked.
        shards: Which.
        terms: What every machine has to find.
        workers: How many actors, each with a processor, or with a GPU where the bundle runs on one; by default as many
            as the cluster has of these.
        address: HOST:PORT of the cluster's head; by default that of the cluster which `RAY_ADDRESS` names or which runs
            on this machine, else Ray is started here until the run ends.

    Returns:
        What came of each, as it comes.

    Raises:
        ClusterFailed: No cluster answers, or a machine has not what the others have.
        OutFailed: OUT cannot be written.
    """
    job = replace(job, bundle=job.bundle.absolute())  # an actor has a working folder of its own
    with connected(address) as ray, contextlib.ExitStack() as stack:
        count = min(workers or _places(ray, terms), len(shards))
        pool = stack.enter_context(_Pool(ray, job, terms, shards[0], count))
        waiting, tries = deque(shards), Counter[str]()
        while waiting or pool.at_work:
            while waiting and pool.idle:
                pool.give(waiting.popleft())
            outcomes = list[Outcome]()
            for shard, said in pool.wait():
                if isinstance(said, Stopped):
                    raise said.error
                if not isinstance(said, _Died):
                    outcomes.append(said)
                    continue
                tries[shard.key] += 1
                if tries[shard.key] < TRIES:
                    waiting.append(shard)
                else:
                    outcomes.append(ended(job, shard, said.how))
            yield from outcomes


def _places(ray: Any, terms: Terms) -> int:
    """How many actors the cluster has room for."""
    return max(1, int(ray.cluster_resources().get("GPU" if terms.on_gpus else "CPU", 0)))


@dataclass(frozen=True)
class _Died:
    """An actor that is no more."""

    how: str


class _Pool:
    """Actors that score shards, until they are ended; one that dies is replaced.

    Args:
        ray: The module.
        job: What is asked.
        terms: What every machine has to find.
        shard: Whose file every machine has to find.
        count: How many actors.
    """

    def __init__(self, ray: Any, job: Job, terms: Terms, shard: Shard, count: int) -> None:
        self._ray, self._first, self._count = ray, shard, count
        # A restart would have the actor's shard repeated without an end.
        options = {"max_restarts": 0, "max_task_retries": 0, "num_cpus": 1, "num_gpus": int(terms.on_gpus)}
        actor = ray.remote(Actor).options(**options, scheduling_strategy="SPREAD")
        self._make: Callable[[], Any] = lambda: actor.remote(job, terms, environment(terms))
        self.idle = list[Any]()
        """Actors without a shard."""
        self._asked: dict[Any, tuple[Any, Shard | None]] = {}
        """By what is to come, the actor that was asked for it, and the shard that it has; None while it begins."""
        self._stillborn = 0

    def __enter__(self) -> "_Pool":
        for _ in range(self._count):
            self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        for actor in [*self.idle, *(actor for actor, _ in self._asked.values())]:
            self._ray.kill(actor)

    @property
    def at_work(self) -> bool:
        """Whether any has a shard."""
        return any(shard is not None for _, shard in self._asked.values())

    def give(self, shard: Shard) -> None:
        """Have an idle one score a shard."""
        actor = self.idle.pop()
        self._asked[actor.do.remote(shard)] = actor, shard

    def wait(self) -> Iterator[tuple[Shard, Outcome | Stopped | _Died]]:
        """Wait until something has come: of shards what, of actors that have begun nothing.

        Raises:
            ClusterFailed: Actors die as they begin, or a machine has not what the others have.
        """
        come, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=_PATIENCE_SECONDS)
        if not come and not self.at_work:
            log.warning("no machine of the cluster has had room for a worker for %.0f s", _PATIENCE_SECONDS)
        if come:  # and whatever has come with it
            come, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        for each in come:
            actor, shard = self._asked.pop(each)
            said = self._said(each)
            if isinstance(said, _Died):
                self._ray.kill(actor)
                self._begin()
            elif not isinstance(said, Stopped):
                self.idle.append(actor)
            if shard is not None:
                yield shard, said
            elif isinstance(said, Stopped):
                raise said.error
            else:
                self._count_stillborn(said)

    def _said(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:  # the actor's own errors are answers, so it could not be made at all
            raise ClusterFailed(
                f"a worker cannot begin; every machine needs {RELEASE}[ray] of one release: {in_a_line(error)}"
            ) from None
        except errors.RayError as error:
            return _Died(_how(error))

    def _begin(self) -> None:
        actor = self._make()
        self._asked[actor.begin.remote(self._first)] = actor, None

    def _count_stillborn(self, said: _Died | None) -> None:
        self._stillborn = 0 if said is None else self._stillborn + 1
        if said is not None and self._stillborn >= TRIES * self._count:
            raise ClusterFailed(f"workers end as they begin, {self._stillborn} one after the other: {said.how}")


def _how(error: Exception) -> str:
    """How an actor died, of all that Ray says of it."""
    said = in_a_line(error)
    told = re.search(r"The actor is dead because (.*?)(?: Some common causes|$)", said)
    return said if told is None else told[1]
