"""What lies under `/v2`: paths, methods, and what answers each."""

import re
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version as package_version
from typing import Any, NamedTuple

import orjson

from service.codecs import footprint, json
from service.errors import MethodNotAllowed, NotReady, RouteNotFound, ServiceError
from service.models.registry import Models
from service.openinference import metadata, repository
from service.openinference.infer import Inference
from service.openinference.outputs import JSON
from service.openinference.statistics import InferStatistics
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.wire import client
from service.wire.asgi import Headers, Receive, Scope, Send, respond
from service.wire.body import BodyReader
from service.wire.budget import Budget, Lease
from service.wire.deadline import seconds_allowed
from service.wire.problems import problem
from service.wire.threads import Threads
from service.wire.trace import Trace

PREFIX = "/v2"


class Call(NamedTuple):
    """One request, its route found.

    Args:
        name: The model that the path names, or None.
        version: The version that it names, or None.
        headers: By lower-case name.
        receive: Where its body comes from.
        send: Where the answer goes.
    """

    name: str | None
    version: str | None
    headers: Headers
    receive: Receive
    send: Send


Handler = Callable[[Call], Awaitable[None]]


class Route(NamedTuple):
    """A path and what answers it.

    Args:
        path: With `{name}` and `{version}` where those stand, as metrics name it.
        method: The one that it takes; GET means HEAD too.
        handler: What answers.
    """

    path: str
    method: str
    handler: Handler


class Found(NamedTuple):
    """What a path leads to.

    Args:
        route: What answers.
        name: The model that the path names, or None.
        version: The version that it names, or None.
    """

    route: Route
    name: str | None
    version: str | None


class OpenInference:
    """Answers requests under `/v2`.

    Args:
        models: What is in service.
        settings: Limits and the default deadline.
        metrics: Where requests are timed and counted, and what statistics are read off.
        budget: The memory that requests may take.
        bodies: What reads bodies.
        decoding: Threads that large bodies are decoded on.
        encoding: Threads that large answers are written on.
    """

    def __init__(
        self,
        models: Models,
        settings: Settings,
        metrics: Metrics,
        budget: Budget,
        bodies: BodyReader,
        decoding: Threads,
        encoding: Threads,
    ) -> None:
        self._models = models
        self._settings = settings
        self._budget = budget
        self._bodies = bodies
        self._commands = BodyReader(repository.LARGEST_BODY, repository.LARGEST_BODY, bodies.threads)
        self._statistics = InferStatistics(metrics)
        self._infer = Inference(metrics, self._statistics, decoding, encoding)
        self._server = metadata.server(package_version("surprisal-vae"))
        post, get = "POST", "GET"
        routes = [
            *_with_version("/infer", post, self._answer_infer),
            Route("/v2", get, self._answer_server),
            Route("/v2/health/live", get, self._answer_live),
            Route("/v2/health/ready", get, self._answer_ready),
            Route("/v2/models/stats", get, self._answer_statistics),
            *_with_version("", get, self._answer_model),
            *_with_version("/ready", get, self._answer_model_ready),
            *_with_version("/config", get, self._answer_config),
            *_with_version("/stats", get, self._answer_statistics),
            Route("/v2/repository/index", post, self._answer_index),
            Route("/v2/repository/models/{name}/load", post, self._load),
            Route("/v2/repository/models/{name}/unload", post, self._unload),
        ]
        self._routes = [(re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route.path)), route) for route in routes]

    def find(self, path: str) -> Found:
        """What a path leads to.

        Args:
            path: `/v2`, or what lies under it.

        Raises:
            RouteNotFound: Nothing does.
        """
        for pattern, route in self._routes:
            matched = pattern.fullmatch(path)
            if matched is not None:
                named = matched.groupdict()
                return Found(route, named.get("name"), named.get("version"))
        raise RouteNotFound("there is no such path under /v2 here; GET /v2 lists the extensions of the protocol")

    async def __call__(self, found: Found, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Answer one request; every refusal is raised as a `ServiceError`.

        Args:
            found: See `find`.
            scope: The request's.
            headers: Its headers, by lower-case name.
            receive: Where its body comes from.
            send: Where the answer goes.
        """
        takes = found.route.method
        # A server leaves the body of the answer to a HEAD away by itself.
        if scope["method"] != takes and (scope["method"], takes) != ("HEAD", "GET"):
            raise MethodNotAllowed(f"this path takes {takes}", allow="GET, HEAD" if takes == "GET" else takes)
        await found.route.handler(Call(found.name, found.version, headers, receive, send))

    async def _answer_infer(self, call: Call) -> None:
        arrived = time.monotonic()
        deadline = arrived + seconds_allowed(call.headers, self._settings)
        self._models.get(call.name, call.version).refuse_if_full()
        with Lease(self._budget, client.CURRENT.get()) as lease:
            seconds, becomes = deadline - arrived, footprint.DECODED[json.MEDIA_TYPE]
            body = await self._bodies.read(call.headers, call.receive, lease, seconds, becomes)
            # Asked again: by now there may be another version.
            model = self._models.get(call.name, call.version)
            asked, decoded = await self._infer.read(model, call.headers, body, lease, deadline)
            again = None if model.shadow is None else self._infer.again(model, call.headers, body)
            del body  # it may be larger than what is queued
            await self._infer(model, call.headers, asked, decoded, arrived, deadline, call.send)
            if again is not None and model.shadow is not None:
                model.shadow.offer(again, self._budget)

    async def _answer_server(self, call: Call) -> None:
        await _answer(call, self._server)

    async def _answer_live(self, call: Call) -> None:
        await _answer(call, {"live": True})

    async def _answer_ready(self, call: Call) -> None:
        reason = self._models.not_ready()
        if reason is not None:
            raise NotReady(reason)
        await _answer(call, {"ready": True})

    async def _answer_model(self, call: Call) -> None:
        await _answer(call, metadata.model(self._models.get(call.name, call.version)))

    async def _answer_model_ready(self, call: Call) -> None:
        model = self._models.get(call.name, call.version)
        if self._models.draining or not model.healthy:
            raise NotReady("the service is shutting down" if self._models.draining else "the model's batcher has died")
        await _answer(call, {"name": model.name, "ready": True})

    async def _answer_config(self, call: Call) -> None:
        model = self._models.get(call.name, call.version)
        await _answer(call, metadata.config(model))

    async def _answer_statistics(self, call: Call) -> None:
        models = self._models.served if call.name is None else (self._models.get(call.name, call.version),)
        await _answer(call, self._statistics.of(models))

    async def _answer_index(self, call: Call) -> None:
        body = await self._command(call)
        await _answer(call, repository.index(self._models, ready=repository.ready_only(body)))

    async def _load(self, call: Call) -> None:
        await self._set_loaded(call, loaded=True)

    async def _unload(self, call: Call) -> None:
        await self._set_loaded(call, loaded=False)

    async def _set_loaded(self, call: Call, *, loaded: bool) -> None:
        body = await self._command(call)
        repository.refuse_parameters(body)
        assert call.name is not None
        await self._models.set_loaded(call.name, loaded)
        await _answer(call, {})

    async def _command(self, call: Call) -> bytes:
        with Lease(self._budget, client.CURRENT.get()) as lease:
            seconds = seconds_allowed(call.headers, self._settings)
            return await self._commands.read(call.headers, call.receive, lease, seconds)


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


def _with_version(action: str, method: str, handler: Handler) -> list[Route]:
    paths = (f"/v2/models/{{name}}{action}", f"/v2/models/{{name}}/versions/{{version}}{action}")
    return [Route(path, method, handler) for path in paths]


async def _answer(call: Call, content: Any) -> None:
    await respond(call.send, 200, orjson.dumps(content), JSON)
