"""A request's body: within its limits, in time, inflated."""

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any

from service.asgi import ClientGone, Headers, Receive
from service.errors import BodyMalformed, BodyTooLarge, EncodingUnsupported
from service.problems import CODINGS

PIECE = 2**16
"""Most bytes that are inflated at a time."""
_FED = 2**12
"""Bytes fed to zlib at a time: it copies the rest of them at the end of each of a gzip body's members."""
_INLINE = 2**19
"""Bytes that are inflated on the event loop before a thread goes on: about a millisecond."""


async def read_body(headers: Headers, receive: Receive, limit: int, max_expanded: int | None = None) -> bytes:
    """Read a request's body, deciding from `Content-Length` where there is one.

    Args:
        headers: The request's.
        receive: Its ASGI channel.
        limit: Most bytes that are sent.
        max_expanded: Most bytes once inflated; by default the same.

    Raises:
        BodyTooLarge: Over a limit; a body a little over the first has been read to its end, so that the client sees
            the answer, and one far over is left to the closing of the connection.
        BodyMalformed: It is not what `Content-Encoding` says.
        EncodingUnsupported: `Content-Encoding` is none that is read here.
    """
    if b"content-encoding" not in headers:
        return await _read(headers, receive, limit)
    coding = inflater(headers)
    body = await _read(headers, receive, limit)
    if coding is None:
        return body
    return await _inflate(coding, body, limit if max_expanded is None else max_expanded)


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


async def _read(headers: Headers, receive: Receive, limit: int) -> bytes:
    # The parser lets any number of digits through; Python refuses to read more than some thousands.
    announced = int(headers.get(b"content-length", b"0").lstrip(b"0")[:18] or b"0")
    refused = announced > limit
    if announced > 2 * limit:
        raise BodyTooLarge(f"the body is over {limit} bytes; send fewer records at a time", close=True)
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
            chunks.append(chunk)
        if size > 2 * limit:
            raise BodyTooLarge(f"the body is over {limit} bytes; send fewer records at a time", close=True)
        if not message.get("more_body", False):
            break
    if refused:
        raise BodyTooLarge(f"the body is over {limit} bytes; send fewer records at a time")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _inflate(coding: Inflater, body: bytes, limit: int) -> bytes:
    pieces, inflated, size = coding.feed(body), list[bytes](), 0

    def inflate(enough: int) -> bool:
        nonlocal size
        for piece in pieces:
            size += len(piece)
            if size > limit:
                inflated.clear()
                raise BodyTooLarge(f"the body expands to over {limit} bytes; send fewer records at a time")
            inflated.append(piece)
            if size > enough:
                return False
        coding.close()
        return True

    if len(body) > PIECE or not inflate(_INLINE):
        await asyncio.to_thread(inflate, limit)
    return b"".join(inflated)
