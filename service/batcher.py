"""Joins concurrent requests into batches for a blocking backend: bounded in rows, first come first served.

State is touched only on the event loop, so there are no locks.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from service.errors import DeadlineExceeded, InferenceFailed, QueueFull, ServiceError, ShuttingDown, TooManyRecords

Rows: TypeAlias = Mapping[str, npt.NDArray[Any]]  # arrays (n, ...); row i of a request is row i of each
_NEWEST_RUN = 0.2  # weight of the newest run in the running estimate of seconds per draw


class Backend(Protocol):
    """What a batch is run by."""

    def run(self, rows: Rows, samples: int) -> Rows:
        """Blocks until `rows` (n, ...), which are only read, have run; returns arrays (n, ...), row for row."""
        ...


class Observer(Protocol):
    """Told what happens, always on the event loop; must be quick and must not raise."""

    def queued(self, rows: int) -> None:
        """The queue now holds this many rows."""

    def abandoned(self, rows: int) -> None:
        """This many rows left the queue without a run: their request was cancelled, late or failed."""

    def waited(self, seconds: float) -> None:
        """A request, or a piece of a split one, was queued this long before it joined a batch."""

    def batch(self, rows: int) -> None:
        """A batch of this many rows starts to run."""

    def ran(self, seconds: float) -> None:
        """A batch ran this long and did not fail."""

    def answered(self, rows: Rows) -> None:
        """What the batch gave, all its requests together."""


@dataclass(slots=True)  # not frozen: that would double the time that one takes to make
class Answer:
    """The backend's arrays `(n, ...)` for one request, and where its time went.

    A split request waited as long as the piece that waited longest, and ran as long as all its pieces together.
    """

    rows: Rows
    waited: float  # seconds in the queue
    ran: float  # seconds that the backend took for the whole batch


@dataclass(eq=False, slots=True)
class _Entry:
    """What is queued: a request, or as much of a large one as a batch holds."""

    rows: Rows
    size: int
    samples: int
    arrived: float
    deadline: float
    outcome: asyncio.Future[Answer | ServiceError]


@dataclass(eq=False)
class Batcher:
    """Collects rows from many coroutines, runs them in batches, gives each its own rows back.

    The slot is taken first and the batch formed second, so that waiting turns into batch size by itself. A batch
    holds one value of `samples`: the oldest request and those with its value, in order, up to the first that does
    not fit, which nobody overtakes.

    Args:
        backend: runs the batches.
        max_batch_rows: rows in a batch; larger requests are split.
        max_queue_rows: rows waiting at one time, not counting those that run.
        max_request_rows: rows in a request; not above `max_queue_rows`, or some would always find the queue full.
        in_flight: batches running at one time.
        max_wait: seconds, from the arrival of its oldest request, that a batch may wait to become full.
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
    in_flight: int = 1
    max_wait: float = 0.0
    inline_seconds: float = 0.0
    observer: Observer
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._queue: OrderedDict[_Entry, None] = OrderedDict()  # by arrival; any entry may leave at any time
        self._queued_rows = 0
        self._unanswered: set[_Entry] = set()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(self.in_flight)
        self._executor = ThreadPoolExecutor(self.in_flight, thread_name_prefix="batcher")
        self._seconds_per_draw = math.inf  # of the backend; not known yet
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

    async def submit(self, rows: Rows, samples: int, deadline: float | None = None) -> Answer:
        """Waits until the rows have run in some batch; whoever leaves before that frees its place at once.

        Args:
            rows: arrays `(n, ...)` with the keys, dtypes and inner shapes of every other request.
            samples: draws a row.
            deadline: time on the batcher's clock, in seconds.

        Raises:
            ShuttingDown: the batcher is closing, or closed before the answer.
            TooManyRecords: n is above `max_request_rows`.
            QueueFull: n rows more would be above `max_queue_rows`.
            DeadlineExceeded: the deadline has passed, now or before the answer.
            InferenceFailed: the run failed, or the batcher's loop has died.
            ValueError: n is 0, or not the same for all arrays.
        """
        due = math.inf if deadline is None else deadline
        size = self._admit(rows, due)
        loop, now, step = asyncio.get_running_loop(), self.clock(), self.max_batch_rows
        if self._loop_task is None:
            # In a context of its own: it works for many requests, not for the first one.
            self._loop_task = loop.create_task(self._form_batches(), context=Context())
            self._loop_task.add_done_callback(self._loop_ended)
        if size <= step:
            entries = [_Entry(rows, size, samples, now, due, loop.create_future())]
        else:
            entries = [
                _Entry(_part(rows, i, step), min(step, size - i), samples, now, due, loop.create_future())
                for i in range(0, size, step)
            ]
        for entry in entries:
            self._unanswered.add(entry)
            self._queue[entry] = None
        self._count(size)
        self._wake.set()
        alarm = None if deadline is None else loop.call_later(deadline - now, self._too_late, entries)
        try:
            answers = [_answered(await entry.outcome) for entry in entries]
        finally:
            if alarm is not None:
                alarm.cancel()
            for entry in entries:
                self._withdraw(entry)
                self._unanswered.discard(entry)
        if len(answers) == 1:
            return answers[0]
        joined = _joined([answer.rows for answer in answers])
        return Answer(joined, max(answer.waited for answer in answers), sum(answer.ran for answer in answers))

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

    def _admit(self, rows: Rows, due: float) -> int:
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
        if self._queued_rows + size > self.max_queue_rows:
            raise QueueFull(f"{self._queued_rows} of {self.max_queue_rows} records are waiting already; try again soon")
        if due <= self.clock():
            raise DeadlineExceeded("the deadline had passed on arrival")
        return size

    def _count(self, rows: int) -> None:
        self._queued_rows += rows
        self.observer.queued(self._queued_rows)

    def _withdraw(self, entry: _Entry) -> None:
        if entry in self._queue:
            del self._queue[entry]
            self._count(-entry.size)
            self.observer.abandoned(entry.size)

    def _too_late(self, entries: Iterable[_Entry]) -> None:
        self._fail(entries, DeadlineExceeded("the deadline passed before the answer"))

    def _fail(self, entries: Iterable[_Entry], error: ServiceError) -> None:
        for entry in entries:
            if not entry.outcome.done():
                entry.outcome.set_result(error)
            self._withdraw(entry)

    async def _form_batches(self) -> None:
        async with asyncio.TaskGroup() as executions:
            while batch := await self._next_batch():
                draws = _size(batch) * batch[0].samples
                if self._seconds_per_draw * draws < self.inline_seconds:
                    await self._execute(batch, draws, inline=True)
                    await asyncio.sleep(0)  # or a long queue would keep answers and newcomers from their turn
                else:
                    executions.create_task(self._execute(batch, draws, inline=False))
                del batch  # or its arrays would live until there is a next one

    async def _next_batch(self) -> list[_Entry]:
        """Waits for a slot, then for a batch; empty when the batcher is closing and nothing is queued."""
        await self._slots.acquire()
        while not (batch := self._take()) and (self._queue or not self._closing):
            self._wake.clear()
            await self._wake.wait()
        return batch

    def _take(self) -> list[_Entry]:
        """Takes the next batch out of the queue; empty when there is none, or when it may still wait for more."""
        batch: list[_Entry] = []
        room, now = self.max_batch_rows, self.clock()
        late: list[_Entry] = []
        for entry in self._queue:
            if entry.outcome.done() or entry.deadline <= now:  # done: cancelled in this turn, not gone yet
                late.append(entry)
            elif not batch or entry.samples == batch[0].samples:
                if entry.size > room:
                    room = 0
                    break
                room -= entry.size
                batch.append(entry)
                if not room:
                    break
        if late:
            self._fail(late, DeadlineExceeded("the deadline passed in the queue"))
        if batch and room and not self._closing and (wait := batch[0].arrived + self.max_wait - now) > 0:
            asyncio.get_running_loop().call_later(wait, self._wake.set)
            return []
        for entry in batch:
            del self._queue[entry]
            self._count(-entry.size)
            self.observer.waited(now - entry.arrived)
        return batch

    async def _execute(self, batch: list[_Entry], draws: int, *, inline: bool) -> None:
        started, in_thread = self.clock(), asyncio.get_running_loop().run_in_executor
        try:
            self.observer.batch(_size(batch))
            rows, seconds = self._run(batch) if inline else await in_thread(self._executor, self._run, batch)
            self.observer.ran(seconds)
            self.observer.answered(rows)
            newest = seconds / draws
            past = self._seconds_per_draw if math.isfinite(self._seconds_per_draw) else newest
            self._seconds_per_draw = past + _NEWEST_RUN * (newest - past)
            first = 0
            for entry in batch:
                if not entry.outcome.done():
                    part = _part(rows, first, entry.size)
                    entry.outcome.set_result(Answer(part, started - entry.arrived, seconds))
                first += entry.size
        except Exception as error:  # noqa: BLE001 - every member is told, and the loop lives on
            self._seconds_per_draw = math.inf  # what fails slowly must not do so on the event loop
            failure = InferenceFailed(f"a batch of {_size(batch)} records failed; the log says why")
            failure.__cause__ = error
            self._fail(batch, failure)
        finally:
            self._slots.release()

    def _run(self, batch: list[_Entry]) -> tuple[Rows, float]:
        started, size = self.clock(), _size(batch)
        try:
            answer = self.backend.run(_joined([entry.rows for entry in batch]), batch[0].samples)
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


def _answered(outcome: Answer | ServiceError) -> Answer:
    if isinstance(outcome, ServiceError):
        raise type(outcome)(*outcome.args) from outcome.__cause__  # callers of one batch share no instance
    return outcome


def _size(entries: Iterable[_Entry]) -> int:
    return sum(entry.size for entry in entries)


def _joined(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _part(rows: Rows, first: int, size: int) -> Rows:
    return {name: array[first : first + size] for name, array in rows.items()}
