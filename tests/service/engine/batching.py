"""What tests of the batcher share: a backend held at its gates, a clock, and a batcher between the two."""

import asyncio
import math
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from bundle.record.fields import Tensors
from service.engine.batcher import Batcher
from service.engine.portions import TENSORS, Outcome

PATIENCE = 60.0  # seconds until a test counts as hanging; no result depends on it
NEVER = 1e9  # a deadline beyond the end of any test


class Clock:
    """Seconds that pass only when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def drive_loop(self) -> None:  # or the loop's timers do not see these seconds
        asyncio.get_running_loop().time = lambda: time.monotonic() + self.now  # type: ignore[method-assign]


class Log(defaultdict[str, list[Any]]):
    """An observer: what it is told is listed under the method's name."""

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        return self[name].append


class Backend:
    """Holds each run at its gate, unless opened."""

    def __init__(self) -> None:
        self.clock, self.log, self.opened = Clock(), Log(list), False
        self.runs, self.ids = list[SimpleNamespace](), list[list[int]]()
        self.seconds_per_draw = 0.0  # that a run takes on the clock
        self.fault: Exception | int = 0  # an error to raise, or a number of rows to leave out of the answer

    def run(self, rows: Any, samples: int) -> Any:
        assert set(rows["samples"]) == {samples}
        run = SimpleNamespace(ids=rows["id"].tolist(), samples=samples, fault=self.fault, gate=threading.Event())
        run.thread = threading.get_ident()
        self.ids.append(run.ids)
        self.runs.append(run)
        assert self.opened or run.thread == threading.main_thread().ident or run.gate.wait(PATIENCE)
        self.clock.now += self.seconds_per_draw * len(run.ids) * samples
        if isinstance(run.fault, Exception):
            raise run.fault
        kept = len(run.ids) - run.fault
        return {"id": rows["id"][:kept], "score": (rows["x"].sum(axis=1) * samples)[:kept]}

    def open(self) -> None:
        self.opened = True
        for run in list(self.runs):
            run.gate.set()

    async def started(self, runs: int) -> None:
        await until(lambda: len(self.runs) == runs)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Backend, Batcher[Tensors]]]:
    """A batcher that must end in time, with an empty queue and no error that only the event loop heard of."""
    backend = Backend()
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    limits: dict[str, Any] = {"max_batch_rows": 8, "max_queue_rows": 100, "max_request_rows": 70}
    limits |= {"max_batch_draws": math.inf, "inline_seconds": 0.0}
    batcher = Batcher(backend, TENSORS, observer=backend.log, clock=backend.clock, **limits | options)
    try:
        async with asyncio.timeout(PATIENCE):
            yield backend, batcher
    finally:
        backend.open()
        await batcher.aclose(PATIENCE)
    await turns()
    assert (batcher.queued_rows, unheard) == (0, [])


async def score(
    batcher: Batcher[Tensors], ids: Iterable[int], samples: int = 1, deadline: float = NEVER, client: str = ""
) -> Outcome[Tensors]:
    """Submits and checks that the answer is the request's own."""
    column = np.array(list(ids))
    x = np.stack([column * 0.5, column * 2.0], axis=1)
    rows = {"id": column, "x": x, "samples": np.full(len(column), samples)}
    outcome = await batcher.submit(rows, samples, deadline, client)
    assert outcome.result["id"].tolist() == column.tolist()
    assert outcome.result["score"].tolist() == (column * 2.5 * samples).tolist()
    return outcome


def send(
    batcher: Batcher[Tensors], ids: Iterable[int], samples: int = 1, **options: Any
) -> asyncio.Task[Outcome[Tensors]]:
    return asyncio.create_task(score(batcher, ids, samples, **options))


async def kinds(tasks: list[asyncio.Task[Outcome[Tensors]]]) -> list[type]:
    return [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # bounded by `serving`
        await asyncio.sleep(0)
