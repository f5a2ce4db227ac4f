"""What waits for a batch: who may join it, who is told at once that it would be late, and who makes room for others."""

from collections import Counter
from collections.abc import Iterable
from typing import Generic, Protocol

from service.engine.fair_queue import FairQueue
from service.engine.pace import Pace
from service.engine.portions import R, Request
from service.errors import DeadlineExceeded, QueueFull, ServiceError

_HOPELESS = 1.5
"""What has been let in is given up only when it should take so many times as long as it has."""
_CERTAIN = 2.0
"""What finds nothing before it is refused only when it should take so many times as long as it may."""


class QueueObserver(Protocol):
    """Told what waits, always on the event loop; must be quick and must not raise."""

    def queued(self, rows: int) -> None:
        """The queue now holds this many rows."""

    def abandoned(self, rows: int) -> None:
        """This many rows left the queue without a run: their request was cancelled, late, failed or given up."""


class Backlog(Generic[R]):
    """The requests that wait, short ones apart from long ones.

    Args:
        max_rows: Rows that may wait at one time.
        inline_seconds: What should run shorter than this is short.
        pace: How long runs take.
        observer: Is told what waits.
    """

    def __init__(self, max_rows: int, inline_seconds: float, pace: Pace, observer: QueueObserver) -> None:
        self.short, self.long = FairQueue[R](), FairQueue[R]()
        self.rows = 0
        """Rows that wait."""
        self._max_rows = max_rows
        self._inline_seconds = inline_seconds
        self._pace = pace
        self._observer = observer

    def queue_for(self, draws: int, client: str, deadline: float, now: float, *, busy: bool) -> FairQueue[R]:
        """Where a request would wait; it only looks, so that any thread may call it.

        Args:
            draws: Of the request: rows x samples.
            client: Who asks.
            deadline: Time by which it must be answered, in seconds.
            now: The time, in seconds.
            busy: Whether a batch runs on the thread.

        Raises:
            QueueFull: So much work waits that it would be late.
            DeadlineExceeded: It would be late by itself.
        """
        long = self._pace.any * draws >= self._inline_seconds
        queue, left = self.long if long else self.short, deadline - now
        if not (long or queue.draws):  # a short one alone is not late
            return queue
        if self._pace.seconds(queue.draws + draws, now, long=long) <= left:
            return queue
        alone = self._pace.seconds(draws, now, long=long)
        if alone > left * (1.0 if queue or busy else _CERTAIN):
            raise DeadlineExceeded(
                f"this would take about {_said(alone)}, longer than its deadline; send fewer records or draws"
            )
        wait = self._pace.seconds(queue.draws_before(client, draws) - draws, now, long=long)
        if queue and wait + alone > left:
            raise QueueFull(f"about {_said(wait)} of work wait before these records already; try again then")
        return queue

    def make_room(self, client: str, size: int) -> None:
        """Have those that hold most of the queue give up what came last, for a client that has less than its share.

        Args:
            client: Who asks.
            size: Rows that it asks with.

        Raises:
            QueueFull: There is no room for them, nor is anybody to make it.
        """
        if self.rows + size <= self._max_rows:
            return
        held = self._rows_by_client()
        share = self._max_rows / len(held | {client: 0})
        while self.rows + size > self._max_rows:
            most = max(held, key=held.__getitem__)
            if most == client or held[client] + size > share:
                raise QueueFull(f"{self.rows} of {self._max_rows} records are waiting already; try again soon")
            last = [each for queue in (self.short, self.long) if (each := queue.youngest(most)) is not None]
            youngest = max(last, key=lambda request: request.arrived)
            held[most] -= youngest.size - youngest.taken
            self.fail([youngest], QueueFull("others who have less waiting need the place; try again soon"))

    def is_full(self, client: str, rows: float) -> bool:
        """Whether more than so many rows wait, and of this client as many as of others or more."""
        if self.rows <= rows:
            return False
        held = self._rows_by_client()
        return held[client] >= self.rows / len(held | {client: 0})

    def give_up_hopeless(self, client: str, now: float) -> None:
        """Tell the request that a client sent last at once if it will be late: others have come meanwhile.

        Args:
            client: Whose.
            now: The time, in seconds.
        """
        last = self.long.youngest(client)
        if last is None or last.taken:
            return
        left = _HOPELESS * (last.deadline - now)
        if self._pace.seconds(self.long.draws, now, long=True) <= left:
            return
        wait = self._pace.seconds(self.long.draws_before(client, 0), now, long=True)
        if wait > left:
            self.fail([last], QueueFull(f"about {_said(wait)} of work wait, also for others; try again then"))

    def count(self, rows: int) -> None:
        """So many rows more wait, or fewer."""
        self.rows += rows
        self._observer.queued(self.rows)

    def withdraw(self, request: Request[R]) -> None:
        """Take out what still waits of a request."""
        if request.taken < request.size:
            left = self.long.remove(request) or self.short.remove(request)
            if left:
                self.count(-left)
                self._observer.abandoned(left)

    def fail(self, requests: Iterable[Request[R]], error: ServiceError) -> None:
        """Tell requests that they are not answered, and take them out."""
        for request in requests:
            if not request.outcome.done():
                request.outcome.set_result(error)
            self.withdraw(request)

    def _rows_by_client(self) -> Counter[str]:
        held = Counter[str]()
        for queue in (self.short, self.long):
            for client, rows in queue.rows_by_client():
                held[client] += rows
        return held


def _said(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
