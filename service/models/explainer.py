"""Explains the records that were asked to be: a batcher of its own, so that scores never wait for explanations."""

import time

from bundle.contents.explanation import Explanations, decoded_numbers
from bundle.contents.manifest import Manifest
from bundle.record.fields import Tensors
from service.engine.batcher import Batcher
from service.engine.graph import Graph
from service.engine.portions import TENSORS
from service.errors import Fault, RequestInvalid
from service.settings import Settings
from service.wire import client

REQUEST_NUMBERS = 2**25
"""Most numbers that the network computes to explain one request: three to five seconds' work of a slow processor."""
_NUMBERS_A_ROW = 256
"""Numbers that cost as much as a row that is decoded to be scored."""


def decodes(manifest: Manifest) -> int:
    """Tensors that explaining one record with one draw costs, or scoring an image; see `Graph`."""
    return -(-decoded_numbers(manifest.record, 1) // _NUMBERS_A_ROW)


class Explainer:
    """Runs one version's `explainer.onnx`.

    Args:
        manifest: Of the bundle.
        graph: The session, which blocks.
        settings: Limits of the batcher.
    """

    def __init__(self, manifest: Manifest, graph: Graph, settings: Settings) -> None:
        self._manifest = manifest
        self._graph = graph
        self._most = settings.max_records
        self._batcher = Batcher(
            graph,
            TENSORS,
            max_batch_rows=settings.max_batch_records,
            max_queue_rows=settings.max_queue_records,
            max_request_rows=settings.max_records,
            max_batch_draws=graph.batch_draws,
            # Never on the event loop, on which others wait.
            inline_seconds=0.0,
            observer=_Nobody(),
            clock=time.monotonic,
        )

    def limit(self, samples: int) -> int:
        """Most records that a request may have explained with so many draws."""
        return min(self._most, max(1, REQUEST_NUMBERS // decoded_numbers(self._manifest.record, samples)))

    def refuse(self, records: int, samples: int, deadline: float, asking: str) -> None:
        """Say no, where there is reason to, before anything is scored.

        Args:
            records: How many.
            samples: Number of draws, L.
            deadline: On `time.monotonic`, in seconds.
            asking: The client that asks.

        Raises:
            RequestInvalid: More records than are explained at a time.
            ServiceError: They would be late; see `service.engine.batcher.Batcher.submit`.
        """
        if records > (limit := self.limit(samples)):
            detail = f"at most {limit} records of this model are explained in a request with {samples} draws"
            raise RequestInvalid([Fault("/explain", detail)])
        self._batcher.refuse_if_late(records, samples, deadline, asking)

    async def explain(self, tensors: Tensors, samples: int, deadline: float) -> Explanations:
        """Explain records.

        Args:
            tensors: The graph's inputs, B records.
            samples: Number of draws, L.
            deadline: On `time.monotonic`, in seconds.

        Raises:
            ServiceError: See `service.engine.batcher.Batcher.submit`.
        """
        outcome = await self._batcher.submit(tensors, samples, deadline, client.CURRENT.get())
        return Explanations(self._manifest, tensors, outcome.result)

    async def aclose(self, grace: float) -> None:
        """Answer what is queued, then end; see `Batcher.aclose`."""
        await self._batcher.aclose(grace)
        self._graph.close()


class _Nobody:
    """Is told what the batcher does, and counts none of it: these records count when they are scored."""

    def queued(self, rows: int) -> None:
        """Tensors queued now."""

    def abandoned(self, rows: int) -> None:
        """Tensors that left the queue."""

    def waited(self, seconds: float) -> None:
        """Seconds that a portion was queued."""

    def batch(self, rows: int) -> None:
        """Tensors of a batch that starts."""

    def ran(self, seconds: float) -> None:
        """Seconds that a batch ran."""

    def answered(self, result: Tensors) -> None:
        """What the graph gave."""
