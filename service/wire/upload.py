"""A body that arrives while it is answered."""

import asyncio
import contextlib
from typing import Any

from service.wire.asgi import ClientGone, Receive

DRAINED_BYTES = 2**20
DRAINED_SECONDS = 1.0
"""What is still read of a body that is refused, so that ordinary clients see the answer."""
CLOSING_SECONDS = 5.0
"""How long a connection that is broken off waits for its client to take what was said last."""


class Upload:
    """One body.

    Args:
        receive: Its ASGI channel.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def read(self) -> bytes:
        """What has arrived since the last time.

        Raises:
            ClientGone: The client has left.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self.ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body

    async def until_gone(self) -> None:
        """Read on, for nothing; return once the client has left, or the response is complete."""
        with contextlib.suppress(ClientGone):
            while True:
                await self.read()

    async def drain(self) -> None:
        """Read on for a while; `ended` says afterwards whether that was all."""
        left = DRAINED_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAINED_SECONDS):
                while not self.ended and left > 0:
                    left -= len(await self.read())

    def abort(self) -> None:
        """Break the connection off, with all that is still to be sent: closing it would wait for the client to read."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Close the connection once what was sent has left, without the end that would make the answer seem whole."""
        if self._transport is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                await self.until_gone()
        except TimeoutError:
            self._transport.abort()

    @property
    def _transport(self) -> Any:
        # ASGI has no message for it; this is uvicorn's.
        return getattr(getattr(self._receive, "__self__", None), "transport", None)
