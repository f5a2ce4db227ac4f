"""Reads the lines of a stream as they arrive: within its limits, in time, their memory reserved."""

import asyncio

from service.codecs.ndjson import Splitter
from service.errors import BodyMalformed, BodyTooLarge, BodyTooSlow, MemoryFull
from service.score.waiting_lines import WaitingLines
from service.settings import Settings
from service.wire.body import PIECE, Inflater
from service.wire.memory_budget import Lease
from service.wire.upload import Upload

TEXT_BYTES = 2**18
"""Reserved for what a stream has read, however little it is."""
LONG_BYTES = 2**14
"""A line that has begun and is longer must be whole within the deadline: others may need its memory."""
FREE_BYTES = 2**23
MOST_TIMES_SENT = 100
"""A stream may inflate to so many times what was sent, and to `FREE_BYTES` besides."""


class LineReader:
    """Reads one stream.

    Args:
        waiting: Where its lines go.
        lease: What they are reserved in; it holds `TEXT_BYTES` at least.
        settings: Limits.
        seconds: How long a long line may take.
    """

    def __init__(self, waiting: WaitingLines, lease: Lease, settings: Settings, seconds: float) -> None:
        self._waiting = waiting
        self._lease = lease
        self._idle_seconds = settings.idle_seconds
        self._seconds = seconds
        self._splitter = Splitter(settings.max_line_bytes)
        self._long_since: float | None = None
        """When the line was first seen that is long and not whole yet, on the event loop's clock in seconds."""

    async def read(self, upload: Upload, inflater: Inflater | None) -> None:
        """Read to the end, and tell those who wait for lines what it was.

        Args:
            upload: The body.
            inflater: Of its content encoding.

        Raises:
            ClientGone: The client has left.
        """
        try:
            await self._read(upload, inflater)
        except (BodyMalformed, BodyTooLarge, BodyTooSlow, MemoryFull) as error:
            self._waiting.end(error)
        else:
            self._waiting.add(self._splitter.end())
            self._waiting.end(None)

    async def _read(self, upload: Upload, inflater: Inflater | None) -> None:
        sent = expanded = 0
        while not upload.ended:
            body = await self._next(upload)
            sent += len(body)
            for piece in (body,) if inflater is None else inflater.feed(body):
                expanded += len(piece)
                if expanded > FREE_BYTES + MOST_TIMES_SENT * sent:
                    raise BodyTooLarge(f"the stream inflates to over {MOST_TIMES_SENT} times what was sent")
                self._waiting.add(self._splitter.feed(piece))
                await self._hold()
                await self._waiting.room()
            if self._splitter.begun <= LONG_BYTES:
                self._long_since = None
            elif self._long_since is None:
                self._long_since = asyncio.get_running_loop().time()
        if inflater is not None:
            inflater.close()

    async def _next(self, upload: Upload) -> bytes:
        """What arrives next.

        Raises:
            BodyTooSlow: Nothing does, or too little.
        """
        patience, reason = self._idle_seconds, f"nothing came for {self._idle_seconds:g} seconds"
        if self._long_since is not None:
            left = self._long_since + self._seconds - asyncio.get_running_loop().time()
            if left < patience:
                patience, reason = max(0.0, left), f"a long line was not whole within {self._seconds:g} seconds"
        try:
            async with asyncio.timeout(patience):
                return await upload.read()
        except TimeoutError:
            raise BodyTooSlow(reason, close=True) from None

    async def _hold(self) -> None:
        """Reserve what has been read; where there is too little, read no more until lines before it are answered.

        Raises:
            MemoryFull: The line that has begun is itself too long for what there is.
        """
        while (held := self._waiting.bytes + self._splitter.begun + 2 * PIECE) > TEXT_BYTES:
            if held <= self._lease.size or self._lease.take(held - self._lease.size):
                return
            if not self._waiting.bytes:
                raise MemoryFull("other requests have the memory that so long a line takes; send it again soon")
            await self._waiting.changed()
        self._lease.settle(TEXT_BYTES)
