"""A version that is tried out: it scores what the served one scores, and answers nobody."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Protocol

from bundle.contents.manifest import Manifest
from bundle.record.fields import Tensors
from service.engine.question import Question
from service.errors import MemoryFull, ServiceError
from service.telemetry.metrics import Metrics
from service.telemetry.tally import TallyCounter
from service.wire.memory_budget import Budget, Lease

MOST_WAITING = 64
"""Requests that may wait to be decoded for a shadow; those beyond it are left out."""

CLIENT = "shadow"
"""As what shadows reserve memory."""

log = logging.getLogger("surprisal.shadow")


class Candidate(Protocol):
    """A version, as far as a shadow needs it; see `service.models.served_model.ServedModel`."""

    name: str
    version: int
    manifest: Manifest
    question: Question

    async def score(self, tensors: Tensors, question: Question, deadline: float) -> object:
        """Score records."""

    async def aclose(self, grace: float) -> None:
        """End."""


class Asked(Protocol):
    """What a body holds."""

    @property
    def tensors(self) -> Tensors:
        """The graph's inputs, B records."""

    @property
    def question(self) -> Question:
        """What is asked of them."""


@dataclass(frozen=True, slots=True)
class Body:
    """A body that may be read once more.

    Args:
        size: Bytes of it.
        bound: Says how much more reading it takes, by the fields of a manifest; see `service.score.negotiation.Codec`.
        decode: Reads it, as the fields of a manifest.
    """

    size: int
    bound: Callable[[Manifest], int]
    decode: Callable[[Manifest], Asked]


class Shadow:
    """Gives a version what another one is asked, as far as there is time for it.

    Args:
        model: The version.
        metrics: Where it is counted what was left out.
        seconds: Deadline of a request, once more.
    """

    def __init__(self, model: Candidate, metrics: Metrics, seconds: float) -> None:
        self.model = model
        self._left_out = metrics.shadow_left_out
        # So that 0 is shown, and an alert on it can rise from there.
        self._of("queue-full")
        self._seconds = seconds
        self._waiting: set[asyncio.Task[None]] = set()
        # One at a time, on a thread that nobody waits for.
        self._thread = ThreadPoolExecutor(1, "shadow")

    def offer(self, body: Body, budget: Budget) -> None:
        """Have a body scored once more, later.

        Args:
            body: What is scored; it is held until then.
            budget: The memory that requests may take, and this as well.
        """
        if len(self._waiting) >= MOST_WAITING:
            self._count("queue-full")
            return
        lease = Lease(budget, CLIENT)
        if not lease.take(body.size):
            self._count(MemoryFull.slug)
            return
        # In a context of its own: nothing of it belongs to the request's trace.
        task = asyncio.get_running_loop().create_task(self._score(body, lease), context=Context())
        task.add_done_callback(lambda _: lease.close())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def aclose(self, grace: float) -> None:
        """Give up what waits, and end the version; see `ServedModel.aclose`."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self.model.aclose(grace)

    async def _score(self, body: Body, lease: Lease) -> None:
        in_thread = asyncio.get_running_loop().run_in_executor
        try:
            lease.need(body.size + await in_thread(self._thread, body.bound, self.model.manifest))
            asked = await in_thread(self._thread, body.decode, self.model.manifest)
            question = self.model.question
            # Another score or rate changes nothing of what is counted.
            if asked.question.samples in self.model.manifest.sample_counts:
                question = replace(question, samples=asked.question.samples)
            await self.model.score(asked.tensors, question, time.monotonic() + self._seconds)
        except ServiceError as error:
            self._count(error.slug)
        except Exception:
            self._count("internal-error")
            log.exception("version %d of %s failed as a shadow", self.model.version, self.model.name)

    def _count(self, reason: str) -> None:
        self._of(reason).inc()

    def _of(self, reason: str) -> TallyCounter.Child:
        return self._left_out.labels(self.model.name, str(self.model.version), reason)
