"""The application: wiring and lifespan."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from service import openapi
from service.asgi import Receive, Scope, Send
from service.client import Clients
from service.gate import OPERATORS, Gate, is_hot
from service.keys import KeyRing
from service.metrics import FLUSH_SECONDS, Metrics
from service.models import Models
from service.openinference.endpoint import OpenInference
from service.origins import Origins
from service.routes import router
from service.score import ScoreEndpoint
from service.settings import Settings
from service.tracing import Tracing

log = logging.getLogger("surprisal.http")


class Application:
    """The ASGI application: FastAPI, and a short way around it for what is asked thousands of times a second.

    Nothing is loaded before its lifespan begins.

    Args:
        settings: Read once, here.
    """

    def __init__(self, settings: Settings) -> None:
        self.metrics = Metrics()
        if settings.expect_provider is not None:
            self.metrics.expect(settings.expect_provider)
        self.models = Models(settings, self.metrics)
        self._keys = KeyRing(settings)
        self._tracing = Tracing.start(settings)
        self.api = FastAPIOffline(
            title="Surprisal",
            version=version("surprisal"),
            lifespan=self._lifespan,
            redoc_url=None,
            redirect_slashes=False,
            # Starlette would answer these itself, as plain text; the gate makes problem documents of them.
            exception_handlers={HTTPException: _leave_to_the_gate},
        )
        self.api.include_router(router(self.models, self.metrics))
        self.api.openapi = lambda: openapi.document(self.api, self.models, settings)  # type: ignore[method-assign]
        score = ScoreEndpoint(self.models, settings, self.metrics)
        open_inference = OpenInference(self.models, settings, self.metrics)
        gate = partial(
            Gate,
            score=score,
            open_inference=open_inference,
            metrics=self.metrics,
            models=self.models,
            keys=self._keys,
            clients=Clients(settings.trusted_proxies),
            origins=Origins(settings.host, settings.hosts, locked=self._keys.locked),
            tracing=self._tracing,
            two_ports=settings.ops_port is not None,
            slow_seconds=settings.slow_ms / 1e3,
        )
        self.api.add_middleware(gate)
        self._short_way = gate(self.api)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or live through the lifespan."""
        hot = scope["type"] == "http" and is_hot(scope["path"])
        await (self._short_way if hot else self.api)(scope, receive, send)

    async def operators(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request on the port for operators: health and metrics, without a key."""
        if scope["type"] == "http":
            await self({**scope, OPERATORS: True}, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, api: FastAPI) -> AsyncIterator[None]:
        await self.models.refresh()
        watched = (self.models.watch(), self._keys.watch(), _flush(self.metrics))
        background = [asyncio.create_task(each) for each in watched]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self.models.aclose()
            self.metrics.flush()
            await self._tracing.aclose()


async def _flush(metrics: Metrics) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        try:
            metrics.flush()
        except Exception:
            log.exception("the metrics could not be written")


def _leave_to_the_gate(request: Request, error: Exception) -> Any:
    raise error
