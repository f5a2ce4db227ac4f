"""A request's body: within its limits, in time, inflated, its memory reserved before it is read."""

import asyncio
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.errors import BodyMalformed, BodyTooLarge, BodyTooSlow, EncodingUnsupported
from service.settings import Settings
from service.wire.asgi import ClientGone, Headers, Receive
from service.wire.memory_budget import Lease
from service.wire.problems import CODINGS
from service.wire.threads import Threads

PIECE = 2**16
"""Most bytes that are inflated at a time."""
_FED = 2**12
"""Bytes fed to zlib at a time: it copies the rest of them at the end of each of a gzip body's members."""
_INLINE = 2**19
"""Bytes that are inflated on the event loop before a thread goes on: about a millisecond."""
SMALL_BYTES = 2**12
"""A body of at most so many bytes is never waited for in pieces, and what it becomes is reserved with it."""
SMALL_BASE_BYTES, TIMES_SMALL = 2**16 + 2**13, 128
"""What a small body becomes takes this much, and so many times its size; hardly one needs more."""
_UNKNOWN_BYTES = 2**16
"""Reserved at first for a body whose size is not announced."""
_TYPICAL_RATIO = 8
"""What a compressed body is at first taken to inflate to, in times its size."""
_STREAM_BYTES = 2**16
"""What zlib keeps of a body that it inflates."""


@dataclass(frozen=True, slots=True)
class BodyReader:
    """Reads the bodies of requests.

    Args:
        most_bytes: Most bytes that are sent.
        most_expanded: Most bytes once inflated.
        threads: Where a large body is inflated.
    """

    most_bytes: int
    most_expanded: int
    threads: Threads

    @classmethod
    def of(cls, settings: Settings, threads: Threads) -> "BodyReader":
        """The one of a service."""
        return cls(settings.max_body_bytes, settings.max_expanded_bytes, threads)

    async def read(self, headers: Headers, receive: Receive, lease: Lease, seconds: float, becomes: int = 1) -> bytes:
        """Read a request's body, deciding from `Content-Length` where there is one.

        Args:
            headers: The request's.
            receive: Its ASGI channel.
            lease: What the body is reserved in; it holds nothing yet. Afterwards it holds the body at least.
            seconds: How long it may take to arrive.
            becomes: What an honest body becomes while it is decoded, in times its size: that is reserved at once, so
                that requests wait here, where they hold nothing, and need not ask for more later.

        Raises:
            BodyTooLarge: Over a limit; a body a little over the first has been read to its end, so that the client
                sees the answer, and one far over is left to the closing of the connection.
            BodyMalformed: It is not what `Content-Encoding` says.
            BodyTooSlow: It has not arrived in time.
            EncodingUnsupported: `Content-Encoding` is none that is read here.
            MemoryFull: Other requests have the memory.
        """
        coding = inflater(headers) if b"content-encoding" in headers else None
        # The parser lets any number of digits through; Python refuses to read more than some thousands.
        announced = int(headers.get(b"content-length", b"0").lstrip(b"0")[:18] or b"0")
        if announced > 2 * self.most_bytes:
            raise self._too_large(close=True)
        size = min(announced, self.most_bytes) or _UNKNOWN_BYTES
        if coding is not None:
            await lease.reserve(_STREAM_BYTES + size + min(self.most_expanded, _TYPICAL_RATIO * size) * (1 + becomes))
        else:
            await lease.reserve(SMALL_BASE_BYTES + size * TIMES_SMALL if size <= SMALL_BYTES else size * (2 + becomes))
        try:
            async with asyncio.timeout(seconds):
                body = await self._read(announced, receive, lease)
        except TimeoutError:
            raise BodyTooSlow("the body did not arrive within the deadline", close=True) from None
        if coding is None:
            return body
        return await self._inflate(coding, body, lease)

    async def _read(self, announced: int, receive: Receive, lease: Lease) -> bytes:
        limit = self.most_bytes
        refused = announced > limit
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            refused = refused or size > limit
            if refused:
                chunks.clear()
            else:
                # The pieces, and the whole that they are joined to.
                lease.need(2 * size)
                chunks.append(chunk)
            if size > 2 * limit:
                raise self._too_large(close=True)
            if not message.get("more_body", False):
                break
        if refused:
            raise self._too_large(close=False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _inflate(self, coding: "Inflater", body: bytes, lease: Lease) -> bytes:
        pieces, inflated, size = coding.feed(body), list[bytes](), 0

        def inflate(enough: int) -> bool:
            """Go on to so many bytes or a little more; whether that was all."""
            nonlocal size
            for piece in pieces:
                size += len(piece)
                if size > self.most_expanded:
                    inflated.clear()
                    raise BodyTooLarge(
                        f"the body expands to over {self.most_expanded} bytes; send fewer records at a time"
                    )
                inflated.append(piece)
                if size >= enough:
                    return False
            coding.close()
            return True

        # What is compressed, the pieces, and the whole that they are joined to.
        held = len(body) + _STREAM_BYTES + 2 * PIECE
        lease.need(held + 2 * _INLINE)
        whole = len(body) <= PIECE and inflate(_INLINE)
        while not whole:
            enough = max(_INLINE, 2 * size, (lease.size - held) // 2)
            lease.need(held + 2 * min(enough, self.most_expanded))
            whole = await self.threads.run(inflate, enough)
        return b"".join(inflated)

    def _too_large(self, *, close: bool) -> BodyTooLarge:
        return BodyTooLarge(f"the body is over {self.most_bytes} bytes; send fewer records at a time", close=close)


class Inflater:
    """Inflates one body, piece by piece.

    Args:
        gzip: RFC 1952, of one member or several; otherwise zlib (RFC 1950), or the bare deflate (RFC 1951) that some
            clients take `Content-Encoding: deflate` for.
    """

    def __init__(self, gzip: bool) -> None:
        self._gzip = gzip
        self._stream: Any = None  # zlib does not export its type
        self._start = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What some more bytes of the body inflate to.

        Args:
            data: The bytes, which must be inflated to the end before more are fed.

        Yields:
            At most `PIECE` bytes at a time, inflated only when they are asked for.

        Raises:
            BodyMalformed: Damaged, or there is more after its end.
        """
        for first in range(0, len(data), _FED):
            yield from self._feed(data[first : first + _FED])

    def close(self) -> None:
        """Check that nothing is missing.

        Raises:
            BodyMalformed: The body stops before its end.
        """
        if self._stream is None or not self._stream.eof:
            raise BodyMalformed("the compressed body stops before its end")

    def _feed(self, rest: bytes) -> Iterator[bytes]:
        if self._stream is None:
            rest = self._start = self._start + rest
            if len(rest) < 2:
                return
            self._stream = zlib.decompressobj(_window(self._gzip, rest))
        elif self._stream.eof:
            rest = self._next_member(rest)
        while True:
            try:
                piece = self._stream.decompress(rest, PIECE)
            except zlib.error:
                raise BodyMalformed("the body is not what its Content-Encoding says, or it is damaged") from None
            if piece:
                yield piece
            if self._stream.eof:
                rest = self._stream.unused_data
                if not rest:
                    return
                rest = self._next_member(rest)
            else:
                rest = self._stream.unconsumed_tail
                if not rest and len(piece) < PIECE:
                    return

    def _next_member(self, rest: bytes) -> bytes:
        if not self._gzip:
            raise BodyMalformed("there is more after the end of the compressed body")
        self._stream = zlib.decompressobj(_window(gzip=True, start=b""))
        return rest


def inflater(headers: Headers) -> Inflater | None:
    """What inflates a request's body; None where it is sent as it is.

    Raises:
        EncodingUnsupported: Nothing does.
    """
    match headers.get(b"content-encoding", b"").strip().lower():
        case b"" | b"identity":
            return None
        case b"gzip" | b"x-gzip":
            return Inflater(gzip=True)
        case b"deflate":
            return Inflater(gzip=False)
        case _:
            raise EncodingUnsupported(f"Content-Encoding: one of {', '.join(CODINGS)} is read here")


def _window(gzip: bool, start: bytes) -> int:
    """The number by which zlib knows a format, from its first two bytes."""
    if gzip:
        return 16 + zlib.MAX_WBITS
    headed = start[0] & 0x0F == zlib.DEFLATED and (start[0] << 8 | start[1]) % 31 == 0
    return zlib.MAX_WBITS if headed else -zlib.MAX_WBITS
