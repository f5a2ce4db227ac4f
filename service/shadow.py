"""A version that is tried out: it scores what the served one scores, and answers nobody."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from bundle.fields import Tensors
from bundle.manifest import Manifest
from service.errors import ServiceError
from service.metrics import Metrics
from service.question import Question

if TYPE_CHECKING:
    from service.served_model import ServedModel

MOST_WAITING = 64
"""Requests that may wait to be decoded for a shadow; those beyond it are left out."""

log = logging.getLogger("surprisal.shadow")


class Asked(Protocol):
    """What a body holds."""

    @property
    def tensors(self) -> Tensors:
        """The graph's inputs, B records."""

    @property
    def question(self) -> Question:
        """What is asked of them."""


class Shadow:
    """Gives a version what another one is asked, as far as there is time for it.

    Args:
        model: The version.
        metrics: Where it is counted what was left out.
        seconds: Deadline of a request, once more.
    """

    def __init__(self, model: "ServedModel", metrics: Metrics, seconds: float) -> None:
        self.model = model
        self._left_out = metrics.shadow_left_out
        self._seconds = seconds
        self._waiting: set[asyncio.Task[None]] = set()

    def offer(self, decode: Callable[[Manifest], Asked]) -> None:
        """Have a body scored once more, later.

        Args:
            decode: Reads the body, which it holds, as the fields of a manifest; called on a thread.
        """
        if len(self._waiting) >= MOST_WAITING:
            self._count("queue-full")
            return
        # In a context of its own: nothing of it belongs to the request's trace.
        task = asyncio.get_running_loop().create_task(self._score(decode), context=Context())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def aclose(self, grace: float) -> None:
        """Give up what waits, and end the version; see `ServedModel.aclose`."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        await self.model.aclose(grace)

    async def _score(self, decode: Callable[[Manifest], Asked]) -> None:
        try:
            asked = await asyncio.to_thread(decode, self.model.manifest)
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
        self._left_out.labels(self.model.name, str(self.model.version), reason).inc()
