"""A bare ASGI endpoint: orjson in, one run of the graph for what arrived in one turn of the event loop, orjson out.

It validates nothing, counts nothing, refuses nothing and calibrates nothing: it bounds what a server of this kind can
reach. Started by uvicorn as `bare:app`.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from graph import Columns, Graph

Message = MutableMapping[str, Any]


class Bare:
    """The ASGI application."""

    def __init__(self) -> None:
        self._graph = Graph()
        self._waiting: list[tuple[npt.NDArray[np.float64], asyncio.Future[Columns]]] = []

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Columns] = loop.create_future()
        self._waiting.append((np.array(orjson.loads(body)["records"], np.float64), outcome))
        if len(self._waiting) == 1:
            loop.call_soon(self._run)
        answer = orjson.dumps(await outcome, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _run(self) -> None:
        batch, self._waiting = self._waiting, []
        columns = self._graph.run(np.concatenate([rows for rows, _ in batch]))
        first = 0
        for rows, outcome in batch:
            last = first + len(rows)
            outcome.set_result({name: values[first:last] for name, values in columns.items()})
            first = last


app = Bare()
