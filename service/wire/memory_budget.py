"""The memory that requests may take in this worker, shared out before anything is allocated.

A request reserves what it may need before it makes it, and gives it back when it is answered. It waits for memory only
while it holds none, so that requests never wait for each other in a circle; what turns out to be needed besides is
had at once or not at all. All of this is touched on the event loop alone.
"""

import asyncio
from collections import deque
from types import TracebackType

from service.errors import BodyTooLarge, MemoryFull

WAIT_SECONDS = 1.0
"""How long a request that holds nothing waits for memory; then it is refused."""
TIMES_FREE = 8
"""A client may hold so many times what is left free: eight ninths alone, and who comes next finds the rest."""
WORTH_GIVING_BACK = 2**17
"""Fewer bytes than this are given back only at the end of their request."""


class Budget:
    """What is reserved, by client.

    Args:
        total: Bytes that all requests together may take.
        wait_seconds: How long a request waits for them.
    """

    def __init__(self, total: int, wait_seconds: float = WAIT_SECONDS) -> None:
        self.total = total
        self.most = total * TIMES_FREE // (TIMES_FREE + 1)
        """The most that one client can ever hold, in bytes."""
        self._wait_seconds = wait_seconds
        self._reserved = 0
        self._held: dict[str, int] = {}
        self._waiting: deque[tuple[Lease, int, asyncio.Future[None]]] = deque()

    @property
    def reserved(self) -> int:
        """Bytes that are reserved now."""
        return self._reserved

    def held_by(self, client: str) -> int:
        """Bytes that a client has reserved now."""
        return self._held.get(client, 0)

    def take(self, size: int, client: str) -> bool:
        """Reserve at once; false where there is too little, for all or for this client.

        Args:
            size: Bytes.
            client: Who asks.
        """
        held = self._held.get(client, 0) + size
        reserved = self._reserved + size
        if held > TIMES_FREE * (self.total - reserved):
            return False
        self._reserved = reserved
        self._held[client] = held
        return True

    def give(self, size: int, client: str) -> None:
        """Give back."""
        self._reserved -= size
        held = self._held[client] - size
        if held:
            self._held[client] = held
        else:
            del self._held[client]
        if self._waiting:
            self._serve()

    async def wait(self, lease: "Lease", size: int) -> None:
        """Reserve for a lease that holds nothing, as soon as there is room.

        Args:
            lease: Whose it will be.
            size: Bytes.

        Raises:
            BodyTooLarge: There will never be so much for one client.
            MemoryFull: There is too little for longer than a request waits.
        """
        if size > self.most:
            raise BodyTooLarge(
                f"this request takes about {size >> 20} MiB of memory, and all requests together have "
                f"{self.total >> 20} MiB; send fewer records at a time",
                close=True,
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((lease, size, turn))
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except TimeoutError:
            raise MemoryFull("other requests have the memory for now; try again soon", close=True) from None
        finally:
            turn.cancel()  # whoever leaves has no turn any more; what it was given goes back with its lease

    def _serve(self) -> None:
        """Let those have their turn for whom there is room now, the oldest first."""
        left: deque[tuple[Lease, int, asyncio.Future[None]]] = deque()
        for lease, size, turn in self._waiting:
            if turn.done():
                continue
            if lease.take(size):
                turn.set_result(None)
            else:
                left.append((lease, size, turn))
        self._waiting = left


class Lease:
    """What one request has reserved; as a context, it is given back at the end.

    Args:
        budget: Where from.
        client: Who asks.
    """

    __slots__ = ("_budget", "_client", "size")

    def __init__(self, budget: Budget, client: str) -> None:
        self._budget = budget
        self._client = client
        self.size = 0
        """Bytes that are reserved."""

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self, size: int) -> bool:
        """Reserve so many bytes more, at once; false where there is too little."""
        if not self._budget.take(size, self._client):
            return False
        self.size += size
        return True

    async def reserve(self, size: int) -> None:
        """Reserve the first bytes of a request; see `Budget.wait`.

        Args:
            size: Bytes; where they are more than a client can ever have, that is reserved, and the rest will be asked
                for once it is known to be needed.
        """
        assert not self.size, "a request that holds memory never waits for more"
        size = min(size, self._budget.most // 2)  # its connection may hold some as well
        if not self.take(size):
            await self._budget.wait(self, size)

    def need(self, size: int) -> None:
        """Hold at least so many bytes, at once or not at all.

        Raises:
            BodyTooLarge: There will never be so much for one client.
            MemoryFull: There is too little now.
        """
        if size <= self.size:
            return
        if not self.take(size - self.size):
            if size > self._budget.most:
                raise BodyTooLarge(
                    f"this request takes about {size >> 20} MiB of memory, and all requests together have "
                    f"{self._budget.total >> 20} MiB; send fewer records at a time"
                )
            raise MemoryFull("other requests have the memory for now; try again soon")

    def settle(self, size: int) -> None:
        """Hold so many bytes and little more; see `need`."""
        if size + WORTH_GIVING_BACK < self.size:
            self._budget.give(self.size - size, self._client)
            self.size = size
        elif size > self.size:
            self.need(size)

    def hand_over(self, size: int, lease: "Lease") -> None:
        """Let another lease of the same client have some of what is reserved."""
        self.size -= size
        lease.size += size

    def close(self) -> None:
        """Give everything back; a second call does no harm."""
        if self.size:
            self._budget.give(self.size, self._client)
            self.size = 0
