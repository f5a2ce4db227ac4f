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

from service.engine import cpus
from service.exchange.exchange import Resources
from service.exchange.routing import Routes
from service.front import openapi
from service.front.entrance import OPERATORS, Entrance
from service.front.gate import Gate
from service.front.keys import KeyRing
from service.front.origins import Origins
from service.front.routes import router
from service.models.quarantine import Quarantine
from service.models.registry import Models
from service.openinference import endpoint as openinference
from service.openinference.endpoint import OpenInference
from service.score.endpoint import ScoreEndpoint
from service.settings import Settings
from service.telemetry.metrics import FLUSH_SECONDS, Metrics
from service.telemetry.tracing import Tracing
from service.telemetry.worker_table import WorkerTable
from service.wire import memory_limit, threads
from service.wire.asgi import Receive, Scope, Send
from service.wire.body import BodyReader
from service.wire.client import Clients
from service.wire.memory_budget import Budget
from service.wire.threads import Threads

log = logging.getLogger("surprisal.http")


class Application:
    """The ASGI application: FastAPI, and a short way around it for what is asked thousands of times a second.

    Nothing is loaded before its lifespan begins.

    Args:
        settings: Read once, here.
        table: What is known of each worker; None for a service without a supervisor.
        worker: This one's place among them.
        keys: Who may ask; by default who the settings say.
        quarantine: Versions whose graph had to be stopped, in memory that the workers share.

    Raises:
        KeysInvalid: The keys cannot be read.
        TracingUnusable: Traces cannot be sent.
    """

    def __init__(
        self,
        settings: Settings,
        table: WorkerTable | None = None,
        worker: int = 0,
        keys: KeyRing | None = None,
        quarantine: Quarantine | None = None,
    ) -> None:
        self.metrics = Metrics(table, worker)
        if settings.expect_provider is not None:
            self.metrics.expect(settings.expect_provider)
        self.models = Models(settings, self.metrics, quarantine)
        total = memory_limit.budget_bytes(1) if settings.memory_mb is None else settings.memory_mb * 2**20
        self.connection_bytes = total // memory_limit.CONNECTIONS_SHARE
        """What connections that hold little may take, all together."""
        self.budget = Budget(total - self.connection_bytes)
        most_threads = max(threads.LEAST, 1 + (settings.threads or cpus.available()))
        self._decoding, self._encoding = Threads("decode", most_threads), Threads("encode", most_threads)
        self._keys = KeyRing(settings) if keys is None else keys
        self._tracing = Tracing.start(settings)
        self.api = FastAPIOffline(
            title="Surprisal",
            version=version("surprisal-vae"),
            lifespan=self._lifespan,
            redoc_url=None,
            redirect_slashes=False,
            # Starlette would answer these itself, as plain text; the gate makes problem documents of them.
            exception_handlers={HTTPException: _leave_to_the_gate},
        )
        self.api.include_router(router(self.models, self.metrics))
        self.api.openapi = lambda: openapi.document(self.api, self.models, settings)  # type: ignore[method-assign]
        bodies = BodyReader.of(settings, self._decoding)
        resources = Resources(self.models, settings, self.metrics, self.budget, bodies, self._decoding, self._encoding)
        self.routes = Routes([*ScoreEndpoint(resources).routes, *OpenInference(resources).routes])
        """What is answered beside the framework."""
        origins = Origins(settings.host, settings.hosts, locked=self._keys.locked)
        clients = Clients(settings.trusted_proxies)
        gate = partial(
            Gate,
            routes=self.routes,
            entrance=Entrance(self._keys, clients, origins, two_ports=settings.ops_port is not None),
            metrics=self.metrics,
            models=self.models,
            tracing=self._tracing,
            slow_seconds=settings.slow_ms / 1e3,
        )
        self.api.add_middleware(gate)
        self._short_way = gate(self.api)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or live through the lifespan."""
        hot = scope["type"] == "http" and self._is_hot(scope["path"])
        await (self._short_way if hot else self.api)(scope, receive, send)

    def _is_hot(self, path: str) -> bool:
        """Whether a path is answered without the framework."""
        return self.routes.find(path) is not None or openinference.is_under(path)

    async def operators(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request on the port for operators: health and metrics, without a key."""
        if scope["type"] == "http":
            await self({**scope, OPERATORS: True}, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, api: FastAPI) -> AsyncIterator[None]:
        await self.models.start()
        watched = (self.models.watch(), self._keys.watch(), _flush(self.metrics))
        background = [asyncio.create_task(each) for each in watched]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self.models.aclose()
            self._decoding.close()
            self._encoding.close()
            self.metrics.flush()
            await self._tracing.aclose()


async def _flush(metrics: Metrics) -> None:
    while True:
        try:
            metrics.flush()
        except Exception:
            log.exception("the metrics could not be written")
        await asyncio.sleep(FLUSH_SECONDS)


def _leave_to_the_gate(request: Request, error: Exception) -> Any:
    raise error
