"""What waits for a batch, shared out between clients by work: who has had least of late goes first.

Each client has a queue of its own, in the order of arrival, and a mark: the work that it has been given. The next batch
is led by the client whose mark is lowest. Who comes begins at the mark of the last leader, neither with what it did not
use before nor with what it used (start-time fair queueing).

Reference: Goyal, Vin, Cheng 1996, "Start-time Fair Queueing", section 2, with one mark for each client.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic

from service.engine.portions import Portion, R, Request

_LOOKED_AT = 64
"""Clients in a row with nothing for a batch, after which it is not filled up any more."""


@dataclass(eq=False, slots=True)
class _Client(Generic[R]):
    name: str
    mark: int  # draws that it has been given, more or less
    requests: OrderedDict[Request[R], None] = field(default_factory=OrderedDict)
    rows: int = 0
    draws: int = 0


class _Filling(Generic[R]):
    """A batch that is being filled: of one number of samples, and cut only what is too large alone.

    Args:
        most_rows: Rows in a batch.
        most_draws: Draws in a batch, if that is a row or more.
        now: The time, in seconds.
        filled: Draws beyond which it is not filled up, though its first request may be larger.
    """

    __slots__ = ("_filled", "_largest", "_most_draws", "_now", "late", "portions", "room", "samples")

    def __init__(self, most_rows: int, most_draws: float, now: float, filled: float) -> None:
        self._most_draws = most_draws
        self._filled = filled
        self._now = now
        self._largest = most_rows
        self.room = most_rows
        self.samples = 0
        self.portions: list[Portion[R]] = []
        self.late: list[Request[R]] = []

    def add(self, requests: Iterable[Request[R]]) -> None:
        """Take from one client's requests, in order, as long as they fit."""
        batch = self.portions
        for request in requests:
            if request.outcome.done() or request.deadline <= self._now:  # done: cancelled in this turn, not gone yet
                self.late.append(request)
                continue
            if not batch:
                self.samples = request.samples
                self._largest = max(1, int(min(self._largest, self._most_draws / self.samples)))
                self.room = max(1, int(min(self._largest, self._filled / self.samples)))
            elif request.samples != self.samples:
                continue
            size = request.size - request.taken
            if size > self.room:
                if batch:
                    return
                size = min(size, self._largest)
            batch.append(Portion(request, request.taken, size))
            self.room -= size
            if self.room <= 0:
                return


class FairQueue(Generic[R]):
    """The requests that wait for the same backend; any of them may leave at any time."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client[R]] = {}
        self._turns: list[tuple[int, int, _Client[R]]] = []  # a heap; each client is there once
        self._count = 0
        self._mark = 0
        self.draws = 0
        """Draws (row x sample) that wait."""

    def __bool__(self) -> bool:
        return self.draws > 0

    def add(self, request: Request[R]) -> None:
        """Put a request behind those of its client."""
        client = self._clients.get(request.client)
        if client is None:
            client = self._clients[request.client] = _Client(request.client, self._mark)
            self._push(client)
        elif not client.requests:
            client.mark = max(client.mark, self._mark)
        client.requests[request] = None
        self._add(client, request.size, request.samples)

    def remove(self, request: Request[R]) -> int:
        """Take a request out, if it is in; returns the rows that it held."""
        client = self._clients.get(request.client)
        if client is None or request not in client.requests:
            return 0
        del client.requests[request]
        left = request.size - request.taken
        self._add(client, -left, request.samples)
        return left

    def take(
        self, most_rows: int, most_draws: float, now: float, filled: float
    ) -> tuple[list[Portion[R]], list[Request[R]]]:
        """Take the next batch: of one number of samples, requests in order, and cut only what is too large alone.

        Args:
            most_rows: Rows in a batch.
            most_draws: Draws in a batch, if that is a row or more.
            now: The time, in seconds.
            filled: Draws beyond which a batch is not filled up, though its first request may be larger.

        Returns:
            The batch, and requests that are too late for any, which are still in the queue.
        """
        batch: _Filling[R] = _Filling(most_rows, most_draws, now, filled)
        looked_at: list[_Client[R]] = []
        in_vain = 0
        while self._turns and batch.room > 0 and in_vain < _LOOKED_AT:
            client = heapq.heappop(self._turns)[2]
            if not client.requests:
                del self._clients[client.name]
                continue
            looked_at.append(client)
            before = len(batch.portions)
            if not before:
                self._mark = max(self._mark, client.mark)
            batch.add(client.requests)
            if len(batch.portions) > before:
                self._serve(client, batch.portions[before:], batch.samples)
                in_vain = 0
            else:
                in_vain += 1
        for client in looked_at:
            if client.requests:
                self._push(client)
            else:
                del self._clients[client.name]
        return batch.portions, batch.late

    def _serve(self, client: _Client[R], portions: list[Portion[R]], samples: int) -> None:
        """Count what a client is given, and forget those of its requests that all have joined a batch."""
        rows = 0
        for request, _, size in portions:
            rows += size
            request.taken += size
            if request.taken == request.size:
                del client.requests[request]
        client.mark += rows * samples
        self._add(client, -rows, samples)

    def draws_before(self, name: str, draws: int) -> int:
        """Draws that run until a client's queue, and so many draws more of it, have run.

        Each other client is given as much meanwhile, if it wants as much.
        """
        own = self._clients.get(name)
        mine = draws + (own.draws if own is not None else 0)
        others = list(self._clients.values())  # in one step: another thread may look
        return mine + sum(min(mine, client.draws) for client in others if client is not own)

    def rows_by_client(self) -> Iterator[tuple[str, int]]:
        """Who waits, and for how many rows."""
        return ((client.name, client.rows) for client in self._clients.values() if client.rows)

    def youngest(self, name: str) -> Request[R] | None:
        """The request of a client that came last; None where it waits for nothing."""
        client = self._clients.get(name)
        return next(reversed(client.requests)) if client is not None and client.requests else None

    def _push(self, client: _Client[R]) -> None:
        self._count += 1
        heapq.heappush(self._turns, (client.mark, self._count, client))

    def _add(self, client: _Client[R], rows: int, samples: int) -> None:
        client.rows += rows
        client.draws += rows * samples
        self.draws += rows * samples
