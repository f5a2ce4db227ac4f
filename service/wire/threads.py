"""Threads for one purpose, shared out between clients: each has its turn, and none has all of them."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.wire import client

LEAST = 2
"""Threads of a purpose: one that a client may keep busy, and one that it leaves to the next. More of them would be no
faster, and keep the event loop from its turn."""

_Result = TypeVar("_Result")


class Threads:
    """A pool of threads; what waits for one is touched on the event loop alone.

    Args:
        purpose: What it is for, as the threads are named.
        threads: How many there are; at least two, so that one client leaves another one.
    """

    def __init__(self, purpose: str, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, purpose)
        self._free = threads
        self._most = threads - 1
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Call a function on a thread, once it is the client's turn.

        A caller who leaves before that is forgotten; one who leaves later leaves a thread that ends by itself.
        """
        who = client.CURRENT.get()
        if self._may_run(who):
            self._start(who)
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(who, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it was its turn, too
                    self._end(who)
                raise
        loop = asyncio.get_running_loop()
        running = self._pool.submit(function, *arguments)
        running.add_done_callback(lambda _: self._ended(loop, who))
        return await asyncio.wrap_future(running)

    def close(self) -> None:
        """Start nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _may_run(self, who: str) -> bool:
        return self._free > 0 and self._running[who] < self._most

    def _start(self, who: str) -> None:
        self._free -= 1
        self._running[who] += 1

    def _ended(self, loop: asyncio.AbstractEventLoop, who: str) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._end, who)

    def _end(self, who: str) -> None:
        self._free += 1
        self._running[who] -= 1
        if not self._running[who]:
            del self._running[who]
        for each in list(self._waiting):
            if not self._free:
                return
            self._let_one_run(each)

    def _let_one_run(self, who: str) -> None:
        """Give a client its turn, if it may have one, and put it behind the others."""
        turns = self._waiting[who]
        while turns and turns[0].done():  # it has left
            turns.popleft()
        if turns and self._may_run(who):
            self._start(who)
            turns.popleft().set_result(None)
            self._waiting.move_to_end(who)
        if not turns:
            del self._waiting[who]
