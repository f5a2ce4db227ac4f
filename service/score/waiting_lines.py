"""Lines of a stream that have been read and wait to be scored."""

import asyncio
from collections import deque

from service.codecs.ndjson import Line
from service.errors import ServiceError

CHUNK_BYTES = 2**20
"""No line is added to a chunk of so many bytes."""


class WaitingLines:
    """The lines of one stream.

    Args:
        most: Lines that are taken at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: deque[Line] = deque()
        self.bytes = 0
        self._ended = False
        self._changed = asyncio.Event()
        self.error: ServiceError | None = None

    def add(self, lines: list[Line]) -> None:
        """Append lines."""
        if lines:
            self._lines.extend(lines)
            self.bytes += sum(len(text or b"") for _, text in lines)
            self._changed.set()

    def end(self, error: ServiceError | None) -> None:
        """No more lines will come, and why they do not if the body did not simply end."""
        self._ended = True
        self.error = error
        self._changed.set()

    async def room(self) -> None:
        """Return once more lines may be read; others have their turn in any case."""
        await asyncio.sleep(0)
        while len(self._lines) > self._most or self.bytes > CHUNK_BYTES:
            self._changed.clear()
            await self._changed.wait()

    async def changed(self) -> None:
        """Return once lines have come or been taken."""
        self._changed.clear()
        await self._changed.wait()

    def put_back(self, lines: list[Line]) -> None:
        """Let lines that were taken be the next ones again."""
        self._lines.extendleft(reversed(lines))
        self.bytes += sum(len(text or b"") for _, text in lines)

    async def take(self) -> list[Line]:
        """The next lines, as soon as there is one; empty when none will come."""
        while not self._lines and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        taken: list[Line] = []
        size = 0
        while self._lines and len(taken) < self._most and size < CHUNK_BYTES:
            taken.append(self._lines.popleft())
            size += len(taken[-1][1] or b"")
        self.bytes -= size
        self._changed.set()
        return taken
