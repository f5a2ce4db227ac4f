"""Joins concurrent requests into batches for a blocking backend: bounded in rows and in seconds, and fair to clients.

State is touched only on the event loop, so there are no locks.
"""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import KW_ONLY, dataclass
from typing import Generic, Protocol, TypeVar

from bundle.record.fields import Tensors
from service.engine.backlog import Backlog, QueueObserver
from service.engine.fair_queue import FairQueue
from service.engine.pace import Pace
from service.engine.portions import Outcome, Portion, R, Request, Results, give, joined, rows_of
from service.errors import DeadlineExceeded, InferenceFailed, ServiceError, ShuttingDown, TooManyRecords

_Given = TypeVar("_Given", covariant=True)
_Heard = TypeVar("_Heard", contravariant=True)


class Backend(Protocol[_Given]):
    """What a batch is run by."""

    def run(self, rows: Tensors, samples: int) -> _Given:
        """Blocks until `rows` (n, ...), which are only read, have run; returns n of what it gives, row for row.

        Called by a thread and by the event loop, and by both at a time where batches run on the event loop.
        """
        ...


class Observer(QueueObserver, Protocol[_Heard]):
    """QueueObserver what happens as well; the same holds."""

    def waited(self, seconds: float) -> None:
        """A request, or a portion of one that is cut, was queued this long before it joined a batch."""

    def batch(self, rows: int) -> None:
        """A batch of this many rows starts to run."""

    def ran(self, seconds: float) -> None:
        """A batch ran this long and did not fail."""

    def answered(self, result: _Heard) -> None:
        """What the batch gave, all its requests together."""


@dataclass(eq=False)
class Batcher(Generic[R]):
    """Collects rows from many coroutines, runs them in batches, gives each its own rows back.

    A batch is formed only when it can run, so that waiting turns into batch size by itself. It holds one value of
    `samples`. Clients are served by the work that they have had (see `FairQueue`); of one client no request overtakes
    another of its kind. There are two kinds: those that should run shorter than `inline_seconds` run on the event loop
    while the thread is taken, so that they never wait for longer ones, which have the thread before them.

    Args:
        backend: runs the batches.
        results: cuts and joins what it gives.
        max_batch_rows: rows in a batch; larger requests are cut.
        max_queue_rows: rows waiting at one time, not counting those that run.
        max_request_rows: rows in a request; not above `max_queue_rows`, or some would always find the queue full.
        max_batch_draws: draws (row x sample) in a batch, if that is a row or more: nobody waits behind a longer run of
            somebody else. A number and no time, so that a request is always cut alike, and has the same scores.
        inline_seconds: batches that should run shorter than this, by the seconds per draw (row x sample) of the runs
            before, run on the event loop: handing them to a thread would cost more than the run. 0 for never.
        observer: is told what happens.
        clock: seconds, monotonic, also read in threads; deadlines are times on it.
    """

    backend: Backend[R]
    results: Results[R]
    _: KW_ONLY
    max_batch_rows: int
    max_queue_rows: int
    max_request_rows: int
    max_batch_draws: float
    inline_seconds: float
    observer: Observer[R]
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self._pace = Pace(min(self.max_batch_draws, self.max_batch_rows))
        self._backlog: Backlog[R] = Backlog(self.max_queue_rows, self.inline_seconds, self._pace, self.observer)
        self._unanswered: set[Request[R]] = set()
        self._wake = asyncio.Event()
        self._thread_taken = False
        self._thread_runs_long = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batcher")
        self._closing = False
        self._loop_task: asyncio.Task[None] | None = None
        self._loop_error: InferenceFailed | None = None

    @property
    def queued_rows(self) -> int:
        """Rows waiting for a batch now."""
        return self._backlog.rows

    @property
    def healthy(self) -> bool:
        """False once the loop that forms batches has died: nothing will be answered any more."""
        return self._loop_error is None

    async def submit(self, rows: Tensors, samples: int, deadline: float, client: str) -> Outcome[R]:
        """Waits until the rows have run in some batch; whoever leaves before that frees its place at once.

        Args:
            rows: arrays `(n, ...)` with the keys, dtypes and inner shapes of every other request.
            samples: draws a row.
            deadline: time on the batcher's clock, in seconds.
            client: who asks.

        Raises:
            ShuttingDown: the batcher is closing, or closed before the answer.
            TooManyRecords: n is above `max_request_rows`.
            QueueFull: n rows more would be above `max_queue_rows`, or so much work waits that these would be late, or
                others that have less need the place.
            DeadlineExceeded: the deadline has passed, now or before the answer, or is too soon for this much work.
            InferenceFailed: the run failed, or the batcher's loop has died.
            ValueError: n is 0, or not the same for all arrays.
        """
        loop, now = asyncio.get_running_loop(), self.clock()
        size = self._admissible(rows, deadline - now)
        queue = self._backlog.queue_for(size * samples, client, deadline, now, busy=self._thread_taken)
        self._backlog.make_room(client, size)
        if self._loop_task is None:
            # In a context of its own: it works for many requests, not for the first one.
            self._loop_task = loop.create_task(self._form_batches(), context=Context())
            self._loop_task.add_done_callback(self._loop_ended)
        request: Request[R] = Request(rows, size, samples, client, now, deadline, loop.create_future())
        self._unanswered.add(request)
        queue.add(request)
        self._backlog.count(size)
        self._wake.set()
        alarm = loop.call_later(deadline - now, self._too_late, request)
        try:
            outcome = await request.outcome
        finally:
            alarm.cancel()
            self._backlog.withdraw(request)
            self._unanswered.discard(request)
        if isinstance(outcome, ServiceError):
            raise type(outcome)(*outcome.args) from outcome.__cause__  # callers of one batch share no instance
        return outcome

    def refuse_if_late(self, rows: int, samples: int, deadline: float, client: str) -> None:
        """Say no to a request before the work that it takes elsewhere, if it would be refused for its deadline here.

        It only looks, so that any thread may call it.

        Args:
            rows: its rows.
            samples: draws a row.
            deadline: time on the batcher's clock, in seconds.
            client: who asks.

        Raises:
            QueueFull: so much work waits that it would be late.
            DeadlineExceeded: it would be late by itself.
        """
        self._backlog.queue_for(rows * samples, client, deadline, self.clock(), busy=self._thread_taken)

    def is_full(self, client: str, rows: float) -> bool:
        """Whether more than so many rows wait, and of this client as many as of others or more."""
        return self._backlog.is_full(client, rows)

    async def aclose(self, grace: float) -> None:
        """Refuses new work, answers what it has, stops; a second call does no harm.

        Args:
            grace: seconds until what is left fails with `ShuttingDown`; a thread stuck in the backend is left behind.
        """
        self._closing = True
        self._wake.set()
        try:
            if self._loop_task is not None:
                await asyncio.wait({self._loop_task}, timeout=grace)
        finally:
            self._backlog.fail(self._unanswered, ShuttingDown("the service closed before the answer"))
            self._executor.shutdown(wait=False, cancel_futures=True)
            if self._loop_task is not None:
                self._loop_task.cancel()
                await asyncio.gather(self._loop_task, return_exceptions=True)

    def _admissible(self, rows: Tensors, left: float) -> int:
        """The size of a request that may be queued, if there is room."""
        if self._closing:
            raise ShuttingDown("the service is shutting down")
        if self._loop_error is not None:
            raise InferenceFailed(*self._loop_error.args) from self._loop_error.__cause__
        sizes = set(map(len, rows.values()))
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(f"a request needs arrays of one length above 0, not {sorted(sizes)}")
        (size,) = sizes
        if size > self.max_request_rows:
            raise TooManyRecords(f"{size} records; a request holds at most {self.max_request_rows}, so send several")
        if left <= 0:
            raise DeadlineExceeded("the deadline had passed on arrival")
        return size

    def _too_late(self, request: Request[R]) -> None:
        self._backlog.fail([request], DeadlineExceeded("the deadline passed before the answer"))

    async def _form_batches(self) -> None:
        async with asyncio.TaskGroup() as executions:
            while True:
                batch, long = self._next_batch()
                if batch:
                    size = sum(portion.size for portion in batch)
                    draws = size * batch[0].request.samples
                    if self._thread_taken or (not long and self._pace.any * draws < self.inline_seconds):
                        await self._execute(batch, size, inline=True, long=False)
                        await asyncio.sleep(0)  # or a long queue would keep answers and newcomers from their turn
                    else:
                        self._thread_taken, self._thread_runs_long = True, long
                        executions.create_task(self._execute(batch, size, inline=False, long=long))
                    del batch  # or its arrays would live until there is a next one
                elif self._backlog.rows or not self._closing:
                    self._wake.clear()
                    await self._wake.wait()
                else:
                    return

    def _next_batch(self) -> tuple[list[Portion[R]], bool]:
        """The next batch that may run now, and whether it is of long requests; empty where there is none.

        While the thread is taken it is one for the event loop.
        """
        if not self._thread_taken and self._backlog.long:
            batch = self._take(self._backlog.long)
            if batch:
                self._backlog.give_up_hopeless(batch[0].request.client, self.clock())
                return batch, True
        if not self._backlog.short:
            return [], False
        if not self._thread_taken:
            return self._take(self._backlog.short), False
        # Behind a run of short requests they wait as well: their batch grows meanwhile.
        short = self._pace.draws_of_short(self.inline_seconds) if self._thread_runs_long else 0.0
        return self._take(self._backlog.short, short) if short else [], False

    def _take(self, queue: FairQueue[R], filled: float = math.inf) -> list[Portion[R]]:
        now = self.clock()
        batch, late = queue.take(self.max_batch_rows, self.max_batch_draws, now, filled)
        while late:
            self._backlog.fail(late, DeadlineExceeded("the deadline passed in the queue"))
            late = []
            if not batch:
                batch, late = queue.take(self.max_batch_rows, self.max_batch_draws, now, filled)
        if batch:
            self._backlog.count(-sum([portion.size for portion in batch]))
        for portion in batch:
            self.observer.waited(now - portion.request.arrived)
        return batch

    async def _execute(self, batch: list[Portion[R]], size: int, *, inline: bool, long: bool) -> None:
        started, in_thread = self.clock(), asyncio.get_running_loop().run_in_executor
        try:
            self.observer.batch(size)
            result, seconds = (
                self._run(batch, size) if inline else await in_thread(self._executor, self._run, batch, size)
            )
            self.observer.ran(seconds)
            self.observer.answered(result)
            self._pace.note(seconds, size * batch[0].request.samples, self.clock(), long=long)
            first = 0
            for portion in batch:
                part = self.results.part(result, first, portion.size)
                give(portion, part, started, seconds, self.results.joined)
                first += portion.size
        except Exception as error:  # noqa: BLE001 - every member is told, and the loop lives on
            self._pace.forget()  # what fails slowly must not do so on the event loop
            failure = InferenceFailed(f"a batch of {size} records failed; the log says why")
            failure.__cause__ = error
            self._backlog.fail([portion.request for portion in batch], failure)
        finally:
            if not inline:
                self._thread_taken = False
                self._wake.set()

    def _run(self, batch: list[Portion[R]], size: int) -> tuple[R, float]:
        started = self.clock()
        try:
            result = self.backend.run(joined([rows_of(portion) for portion in batch]), batch[0].request.samples)
        except StopIteration as error:  # a future would refuse it, and the batch never end
            raise RuntimeError("the backend raised StopIteration") from error
        for name, array in self.results.arrays(result).items():
            if len(array) != size:
                raise ValueError(f"expected {size} rows of {name!r}, got {len(array)}")
        return result, self.clock() - started

    def _loop_ended(self, loop_task: asyncio.Task[None]) -> None:
        if not self._closing:
            cause = asyncio.CancelledError() if loop_task.cancelled() else loop_task.exception()
            self._loop_error = InferenceFailed("the batcher's loop has died")
            self._loop_error.__cause__ = cause
            self._backlog.fail(self._unanswered, self._loop_error)
