"""ASGI's messages, as far as the service speaks them without a framework in between."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = dict[bytes, bytes]


class ClientGone(Exception):
    """The client left before its request was read; there is nobody to answer."""


SENT_BYTES = 2**17
"""Most bytes that are handed to the connection at a time: it takes more only once the client has read on."""


async def respond(
    send: Send, status: int, body: bytes, media_type: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Send a whole response; return once all but its last `SENT_BYTES` have been taken by the client's side.

    A client that does not read is cut off by the protocol.
    """
    start = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": start})
    for first in range(0, len(body) - SENT_BYTES, SENT_BYTES):
        await send({"type": "http.response.body", "body": body[first : first + SENT_BYTES], "more_body": True})
    last = max(0, (len(body) - 1) // SENT_BYTES * SENT_BYTES)
    await send({"type": "http.response.body", "body": body[last:] if last else body})
