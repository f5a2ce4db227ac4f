"""Joins concurrent requests into batches for a blocking backend: bounded in rows and in seconds, and fair to clients.

State is touched only on the event loop, so there are no locks.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import KW_ONLY, dataclass
from typing import Protocol

from service.engine.fair_queue import FairQueue
from service.engine.pace import Pace
from service.engine.pieces import Answer, Piece, Request, Rows, give, joined, part, rows_of
from service.errors import DeadlineExceeded, InferenceFailed, QueueFull, ServiceError, ShuttingDown, TooManyRecords

_HOPELESS = 1.5
"""What has been let in is given up only when it should take so many times as long as it has."""
_CERTAIN = 2.0
"""What finds nothing before it is refused only when it should take so many times as long as it may."""


class Backend(Protocol):
    """What a batch is run by."""

    def run(self, rows: Rows, samples: int) -> Rows:
        """Blocks until `rows` (n, ...), which are only read, have run; returns arrays (n, ...), row for row.

        Called by a thread and by the event loop, and by both at a time where batches run on the event loop.
        """
        ...


class Observer(Protocol):
    """Told what happens, always on the event loop; must be quick and must not raise."""

    def queued(self, rows: int) -> None:
        """The queue now holds this many rows."""

    def abandoned(self, rows: int) -> None:
        """This many rows left the queue without a run: their request was cancelled, late, failed or given up."""

    def waited(self, seconds: float) -> None:
        """A request, or a piece of one that is cut, was queued this long before it joined a batch."""

    def batch(self, rows: int) -> None:
        """A batch of this many rows starts to run."""

    def ran(self, seconds: float) -> None:
        """A batch ran this long and did not fail."""

    def answered(self, rows: Rows) -> None:
        """What the batch gave, all its requests together."""


@dataclass(eq=False)
class Batcher:
    """Collects rows from many coroutines, runs them in batches, gives each its own rows back.

    A batch is formed only when it can run, so that waiting turns into batch size by itself. It holds one value of
    `samples`. Clients are served by the work that they have had (see `FairQueue`); of one client no request overtakes
    another of its kind. There are two kinds: those that should run shorter than `inline_seconds` run on the event loop
    while the thread is taken, so that they never wait for longer ones, which have the thread before them.

    Args:
        backend: runs the batches.
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

    backend: Backend
    _: KW_ONLY
    max_batch_rows: int
    max_queue_rows: int
    max_request_rows: int
    max_batch_draws: float = math.inf
    inline_seconds: float = 0.0
    observer: Observer
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._short, self._long = FairQueue(), FairQueue()
        self._queued_rows = 0
        self._unanswered: set[Request] = set()
        self._wake = asyncio.Event()
        self._thread_taken = False
        self._thread_runs_long = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batcher")
        self._pace = Pace(min(self.max_batch_draws, self.max_batch_rows))
        self._closing = False
        self._loop_task: asyncio.Task[None] | None = None
        self._loop_error: InferenceFailed | None = None

    @property
    def queued_rows(self) -> int:
        """Rows waiting for a batch now."""
        return self._queued_rows

    @property
    def healthy(self) -> bool:
        """False once the loop that forms batches has died: nothing will be answered any more."""
        return self._loop_error is None

    async def submit(self, rows: Rows, samples: int, deadline: float | None = None, client: str = "") -> Answer:
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
        loop, now, due = asyncio.get_running_loop(), self.clock(), math.inf if deadline is None else deadline
        size = self._admissible(rows, due - now)
        draws = size * samples
        queue = self._refuse_hopeless(draws, client, due, now)
        if self._queued_rows + size > self.max_queue_rows:
            self._make_room(client, size)
        if self._loop_task is None:
            # In a context of its own: it works for many requests, not for the first one.
            self._loop_task = loop.create_task(self._form_batches(), context=Context())
            self._loop_task.add_done_callback(self._loop_ended)
        request = Request(rows, size, samples, client, now, due, loop.create_future())
        self._unanswered.add(request)
        queue.add(request)
        self._count(size)
        self._wake.set()
        alarm = None if deadline is None else loop.call_later(deadline - now, self._too_late, request)
        try:
            outcome: Answer | ServiceError = await request.outcome
        finally:
            if alarm is not None:
                alarm.cancel()
            self._withdraw(request)
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
        self._refuse_hopeless(rows * samples, client, deadline, self.clock())

    def is_full(self, client: str, rows: float) -> bool:
        """Whether more than so many rows wait, and of this client as many as of others or more."""
        if self._queued_rows <= rows:
            return False
        held = self._rows_by_client()
        return held[client] >= self._queued_rows / len(held | {client: 0})

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
            self._fail(self._unanswered, ShuttingDown("the service closed before the answer"))
            self._executor.shutdown(wait=False, cancel_futures=True)
            if self._loop_task is not None:
                self._loop_task.cancel()
                await asyncio.gather(self._loop_task, return_exceptions=True)

    def _admissible(self, rows: Rows, left: float) -> int:
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

    def _refuse_hopeless(self, draws: int, client: str, due: float, now: float) -> FairQueue:
        """Say no at once to what should not be done by its deadline; returns where it waits otherwise."""
        long = self._pace.any * draws >= self.inline_seconds
        queue, left = self._long if long else self._short, due - now
        if left == math.inf or not (long or queue.draws):  # a short one alone is not late
            return queue
        if self._pace.seconds(queue.draws + draws, now, long=long) <= left:
            return queue
        alone = self._pace.seconds(draws, now, long=long)
        if alone > left * (1.0 if queue or self._thread_taken else _CERTAIN):
            raise DeadlineExceeded(
                f"this would take about {_said(alone)}, longer than its deadline; send fewer records or draws"
            )
        wait = self._pace.seconds(queue.draws_before(client, draws) - draws, now, long=long)
        if queue and wait + alone > left:
            raise QueueFull(f"about {_said(wait)} of work wait before these records already; try again then")
        return queue

    def _make_room(self, client: str, size: int) -> None:
        """Have those that hold most of the queue give up what came last, for a client that has less than its share."""
        held = self._rows_by_client()
        share = self.max_queue_rows / len(held | {client: 0})
        while self._queued_rows + size > self.max_queue_rows:
            most = max(held, key=held.__getitem__)
            if most == client or held[client] + size > share:
                raise QueueFull(
                    f"{self._queued_rows} of {self.max_queue_rows} records are waiting already; try again soon"
                )
            last = [each for queue in (self._short, self._long) if (each := queue.youngest(most)) is not None]
            youngest = max(last, key=lambda request: request.arrived)
            held[most] -= youngest.size - youngest.taken
            self._fail([youngest], QueueFull("others who have less waiting need the place; try again soon"))

    def _give_up_hopeless(self, client: str, now: float) -> None:
        """Tell the request that a client sent last at once if it will be late: others have come meanwhile."""
        last = self._long.youngest(client)
        if last is None or last.taken:
            return
        left = _HOPELESS * (last.deadline - now)
        if self._pace.seconds(self._long.draws, now, long=True) <= left:
            return
        wait = self._pace.seconds(self._long.draws_before(client, 0), now, long=True)
        if wait > left:
            self._fail([last], QueueFull(f"about {_said(wait)} of work wait, also for others; try again then"))

    def _rows_by_client(self) -> Counter[str]:
        held = Counter[str]()
        for queue in (self._short, self._long):
            for client, rows in queue.rows_by_client():
                held[client] += rows
        return held

    def _count(self, rows: int) -> None:
        self._queued_rows += rows
        self.observer.queued(self._queued_rows)

    def _withdraw(self, request: Request) -> None:
        if request.taken < request.size:
            left = self._long.remove(request) or self._short.remove(request)
            if left:
                self._count(-left)
                self.observer.abandoned(left)

    def _too_late(self, request: Request) -> None:
        self._fail([request], DeadlineExceeded("the deadline passed before the answer"))

    def _fail(self, requests: Iterable[Request], error: ServiceError) -> None:
        for request in requests:
            if not request.outcome.done():
                request.outcome.set_result(error)
            self._withdraw(request)

    async def _form_batches(self) -> None:
        async with asyncio.TaskGroup() as executions:
            while True:
                batch, long = self._next_batch()
                if batch:
                    size = sum(piece.size for piece in batch)
                    draws = size * batch[0].request.samples
                    if self._thread_taken or (not long and self._pace.any * draws < self.inline_seconds):
                        await self._execute(batch, size, inline=True, long=False)
                        await asyncio.sleep(0)  # or a long queue would keep answers and newcomers from their turn
                    else:
                        self._thread_taken, self._thread_runs_long = True, long
                        executions.create_task(self._execute(batch, size, inline=False, long=long))
                    del batch  # or its arrays would live until there is a next one
                elif self._queued_rows or not self._closing:
                    self._wake.clear()
                    await self._wake.wait()
                else:
                    return

    def _next_batch(self) -> tuple[list[Piece], bool]:
        """The next batch that may run now, and whether it is of long requests; empty where there is none.

        While the thread is taken it is one for the event loop.
        """
        if not self._thread_taken and self._long:
            batch = self._take(self._long)
            if batch:
                self._give_up_hopeless(batch[0].request.client, self.clock())
                return batch, True
        if not self._short:
            return [], False
        if not self._thread_taken:
            return self._take(self._short), False
        # Behind a run of short requests they wait as well: their batch grows meanwhile.
        short = self._pace.draws_of_short(self.inline_seconds) if self._thread_runs_long else 0.0
        return self._take(self._short, short) if short else [], False

    def _take(self, queue: FairQueue, filled: float = math.inf) -> list[Piece]:
        now = self.clock()
        batch, late = queue.take(self.max_batch_rows, self.max_batch_draws, now, filled)
        while late:
            self._fail(late, DeadlineExceeded("the deadline passed in the queue"))
            late = []
            if not batch:
                batch, late = queue.take(self.max_batch_rows, self.max_batch_draws, now, filled)
        if batch:
            self._count(-sum([piece.size for piece in batch]))
        for piece in batch:
            self.observer.waited(now - piece.request.arrived)
        return batch

    async def _execute(self, batch: list[Piece], size: int, *, inline: bool, long: bool) -> None:
        started, in_thread = self.clock(), asyncio.get_running_loop().run_in_executor
        try:
            self.observer.batch(size)
            rows, seconds = (
                self._run(batch, size) if inline else await in_thread(self._executor, self._run, batch, size)
            )
            self.observer.ran(seconds)
            self.observer.answered(rows)
            self._pace.note(seconds, size * batch[0].request.samples, self.clock(), long=long)
            first = 0
            for piece in batch:
                give(piece, part(rows, first, piece.size), started, seconds)
                first += piece.size
        except Exception as error:  # noqa: BLE001 - every member is told, and the loop lives on
            self._pace.forget()  # what fails slowly must not do so on the event loop
            failure = InferenceFailed(f"a batch of {size} records failed; the log says why")
            failure.__cause__ = error
            self._fail([piece.request for piece in batch], failure)
        finally:
            if not inline:
                self._thread_taken = False
                self._wake.set()

    def _run(self, batch: list[Piece], size: int) -> tuple[Rows, float]:
        started = self.clock()
        try:
            answer = self.backend.run(joined([rows_of(piece) for piece in batch]), batch[0].request.samples)
        except StopIteration as error:  # a future would refuse it, and the batch never end
            raise RuntimeError("the backend raised StopIteration") from error
        for name, array in answer.items():
            if len(array) != size:
                raise ValueError(f"expected {size} rows of {name!r}, got {len(array)}")
        return answer, self.clock() - started

    def _loop_ended(self, loop_task: asyncio.Task[None]) -> None:
        if not self._closing:
            cause = asyncio.CancelledError() if loop_task.cancelled() else loop_task.exception()
            self._loop_error = InferenceFailed("the batcher's loop has died")
            self._loop_error.__cause__ = cause
            self._fail(self._unanswered, self._loop_error)


def _said(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
