"""What lies under `/v2`: paths, methods, and what answers each."""

from collections.abc import Awaitable, Callable
from importlib.metadata import version as package_version
from typing import Any

import orjson

from service.errors import NotReady, ServiceError
from service.exchange.answering import answer
from service.exchange.exchange import Exchange, Resources
from service.exchange.routing import Route, with_version
from service.openinference import metadata, repository
from service.openinference.infer import Infer
from service.openinference.outputs import JSON
from service.openinference.request import HEADER_LENGTH
from service.openinference.statistics import InferStatistics
from service.wire import client
from service.wire.asgi import respond
from service.wire.body import BodyReader
from service.wire.deadline import seconds_allowed
from service.wire.memory_budget import Lease
from service.wire.problems import problem
from service.wire.trace import Trace

PREFIX = "/v2"


class OpenInference:
    """Answers requests under `/v2`.

    Args:
        resources: What answers them.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._models = resources.models
        most = repository.LARGEST_BODY
        self._commands = BodyReader(most, most, resources.bodies.threads)
        self._statistics = InferStatistics(resources.metrics)
        self._server = metadata.server(package_version("surprisal-vae"))
        model = "/v2/models/{name}"
        self.routes = [
            *_routes("POST", self._answer_infer, *with_version(f"{model}/infer")),
            *_routes("GET", self._answer_server, "/v2"),
            *_routes("GET", self._answer_live, "/v2/health/live"),
            *_routes("GET", self._answer_ready, "/v2/health/ready"),
            *_routes("GET", self._answer_model, *with_version(model)),
            *_routes("GET", self._answer_model_ready, *with_version(f"{model}/ready")),
            *_routes("GET", self._answer_config, *with_version(f"{model}/config")),
            *_routes("GET", self._answer_statistics, "/v2/models/stats", *with_version(f"{model}/stats")),
            *_routes("POST", self._answer_index, "/v2/repository/index"),
            *_routes("POST", self._load, "/v2/repository/models/{name}/load"),
            *_routes("POST", self._unload, "/v2/repository/models/{name}/unload"),
        ]

    async def _answer_infer(self, exchange: Exchange) -> None:
        dialect = Infer(exchange.headers.get(HEADER_LENGTH), self._statistics)
        await answer(exchange, dialect, self._resources)

    async def _answer_server(self, exchange: Exchange) -> None:
        await _respond(exchange, self._server)

    async def _answer_live(self, exchange: Exchange) -> None:
        await _respond(exchange, {"live": True})

    async def _answer_ready(self, exchange: Exchange) -> None:
        reason = self._models.not_ready()
        if reason is not None:
            raise NotReady(reason)
        await _respond(exchange, {"ready": True})

    async def _answer_model(self, exchange: Exchange) -> None:
        await _respond(exchange, metadata.model(self._models.get(exchange.name, exchange.version)))

    async def _answer_model_ready(self, exchange: Exchange) -> None:
        model = self._models.get(exchange.name, exchange.version)
        if self._models.draining or not model.healthy:
            raise NotReady("the service is shutting down" if self._models.draining else "the model's batcher has died")
        await _respond(exchange, {"name": model.name, "ready": True})

    async def _answer_config(self, exchange: Exchange) -> None:
        model = self._models.get(exchange.name, exchange.version)
        await _respond(exchange, metadata.config(model))

    async def _answer_statistics(self, exchange: Exchange) -> None:
        models = self._models.served if exchange.name is None else (self._models.get(exchange.name, exchange.version),)
        await _respond(exchange, self._statistics.of(models))

    async def _answer_index(self, exchange: Exchange) -> None:
        body = await self._command(exchange)
        await _respond(exchange, repository.index(self._models, ready=repository.ready_only(body)))

    async def _load(self, exchange: Exchange) -> None:
        await self._set_loaded(exchange, loaded=True)

    async def _unload(self, exchange: Exchange) -> None:
        await self._set_loaded(exchange, loaded=False)

    async def _set_loaded(self, exchange: Exchange, *, loaded: bool) -> None:
        body = await self._command(exchange)
        repository.refuse_parameters(body)
        assert exchange.name is not None
        await self._models.set_loaded(exchange.name, loaded)
        await _respond(exchange, {})

    async def _command(self, exchange: Exchange) -> bytes:
        with Lease(self._resources.budget, client.CURRENT.get()) as lease:
            seconds = seconds_allowed(exchange.headers, self._resources.settings)
            return await self._commands.read(exchange.headers, exchange.receive, lease, seconds)


def is_under(path: str) -> bool:
    """Whether a path belongs to this protocol."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def refusal(error: ServiceError, trace: Trace) -> bytes:
    """The body of a refusal: the other routes' problem document, and `error`, which clients of this protocol read.

    Args:
        error: Why.
        trace: Of the request.
    """
    return orjson.dumps({"error": error.detail, **orjson.loads(problem(error, trace))})


def _routes(method: str, handler: Callable[[Exchange], Awaitable[None]], *paths: str) -> list[Route]:
    return [Route(path, method, handler) for path in paths]


async def _respond(exchange: Exchange, content: Any) -> None:
    await respond(exchange.send, 200, orjson.dumps(content), JSON)
