"""The HTTP surface: scoring as a plain ASGI endpoint, the rest through FastAPI, and the one error -> status table."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from bundle.fields import NumericField
from service import errors
from service.codecs import json
from service.errors import BodyTooLarge, MediaTypeUnsupported, NotAcceptable, RequestInvalid, ServiceError
from service.metrics import Metrics
from service.models import Models, ServedModel
from service.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

STATUS: dict[type[ServiceError], int] = {
    errors.BodyMalformed: 400,
    errors.RouteNotFound: 404,
    errors.ModelNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.NotAcceptable: 406,
    errors.BodyTooSlow: 408,
    errors.BodyTooLarge: 413,
    errors.TooManyRecords: 413,
    errors.MediaTypeUnsupported: 415,
    errors.RequestInvalid: 422,
    errors.QueueFull: 429,
    errors.InferenceFailed: 500,
    errors.Unexpected: 500,
    errors.NotReady: 503,
    errors.ShuttingDown: 503,
    errors.DeadlineExceeded: 504,
}
RETRY_AFTER_SECONDS = 1
SCORE_PATHS = ("/score", "/models/{name}/score", "/models/{name}/versions/{version}/score")


class ScoreEndpoint:
    """`POST /score`: bytes to tensors, tensors to scores, scores to bytes; no framework in between.

    Args:
        path: The route's template, which may name a model and a version.
        models: What is in service.
        settings: Limits and the default deadline.
        metrics: Where the stages are timed.
    """

    def __init__(self, path: str, models: Models, settings: Settings, metrics: Metrics) -> None:
        self.path = path
        self._models = models
        self._settings = settings
        self._decode = metrics.stage.labels("decode")
        self._encode = metrics.stage.labels("encode")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every refusal is raised as a `ServiceError`."""
        headers = dict(scope["headers"])
        deadline = time.monotonic() + self._seconds_allowed(headers)
        _check_media_types(headers)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                body = await read_body(headers, receive, self._settings.max_body_bytes)
        except TimeoutError:
            raise errors.BodyTooSlow("the body did not arrive within the deadline", close=True) from None
        parameters = scope["path_params"]
        model = self._models.get(parameters.get("name"), parameters.get("version"))
        started = time.perf_counter()
        request = json.decode(body, model.manifest, self._settings.max_records)
        self._decode.observe(time.perf_counter() - started)
        verdicts, timing = await model.score(request.tensors, request.samples, deadline)
        started = time.perf_counter()
        answer = json.encode(model.name, model.version, request.samples, verdicts)
        self._encode.observe(time.perf_counter() - started)
        stages = f"queue;dur={timing.queue * 1e3:.3f}, infer;dur={timing.infer * 1e3:.3f}"
        await respond(send, 200, answer, b"application/json", [(b"server-timing", stages.encode())])

    def _seconds_allowed(self, headers: dict[bytes, bytes]) -> float:
        milliseconds = float(self._settings.deadline_ms)
        if (wanted := headers.get(b"x-deadline-ms")) is not None:
            if not wanted.isdigit() or len(wanted) > 9 or int(wanted) < 1:
                raise RequestInvalid([errors.Fault("", "X-Deadline-Ms: a whole number of milliseconds is expected")])
            milliseconds = min(milliseconds, float(wanted))
        return milliseconds / 1e3


def router(models: Models, metrics: Metrics) -> APIRouter:
    """Everything but scoring.

    Args:
        models: What is in service.
        metrics: What is exposed.
    """
    routes = APIRouter()

    @routes.get("/models", tags=["models"], summary="The models in service, and what could not be loaded")
    async def list_models() -> Response:
        served = [_summary(model) for model in models.served]
        return _json({"models": served, "refused": models.refused})

    @routes.get(
        "/models/{name}",
        tags=["models"],
        summary="A model's fields, scores, calibration and training facts",
        responses=_problems({404: "no such model in service", 503: "no model is loaded yet"}),
    )
    async def describe_model(name: str) -> Response:
        return _json(_details(models.get(name)))

    @routes.get("/healthz", tags=["operation"], summary="Whether the process lives")
    async def live() -> Response:
        return _json({"status": "alive"})

    @routes.get(
        "/readyz",
        tags=["operation"],
        summary="Whether requests should be sent here",
        responses={503: {"description": "not ready, with the reason"}},
    )
    async def ready() -> Response:
        reason = models.not_ready()
        if reason is None:
            return _json({"status": "ready"})
        return _json({"status": "not ready", "reason": reason}, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})

    @routes.get(
        "/metrics",
        tags=["operation"],
        summary="Metrics in Prometheus' text format",
        response_class=PlainTextResponse,
    )
    async def expose() -> Response:
        return PlainTextResponse(metrics.expose(), media_type=CONTENT_TYPE_LATEST)

    return routes


async def read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Read a request's body, deciding from `Content-Length` where there is one.

    Args:
        headers: The request's.
        receive: Its ASGI channel.
        limit: Most bytes.

    Raises:
        BodyTooLarge: Over the limit; a body a little over it has been read to its end, so that the client sees the
            answer, and one far over is left to the closing of the connection.
    """
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


async def respond(
    send: Send, status: int, body: bytes, media_type: bytes, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    """Send a whole response."""
    start = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


class ClientGone(Exception):
    """The client left before its request was read; there is nobody to answer."""


def _check_media_types(headers: dict[bytes, bytes]) -> None:
    given = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if given not in (b"", json.MEDIA_TYPE.encode()):
        raise MediaTypeUnsupported(f"Content-Type: {json.MEDIA_TYPE} is read here")
    accept = headers.get(b"accept")
    if accept is not None and not _accepts(accept.decode("latin-1"), json.MEDIA_TYPE):
        raise NotAcceptable(f"Accept: {json.MEDIA_TYPE} is written here")


def _accepts(accept: str, media_type: str) -> bool:
    kind = media_type.split("/")[0]
    for part in accept.lower().split(","):
        wanted, *parameters = (piece.strip() for piece in part.split(";"))
        refused = any(each.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for each in parameters)
        if wanted in ("*/*", f"{kind}/*", media_type, "") and not refused:
            return True
    return False


def _summary(model: ServedModel) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "name": model.name,
        "version": str(model.version),
        "digest": manifest.digest,
        "created": manifest.created,
        "anomaly_score": manifest.anomaly_score,
        "device": model.scorer.device,
        "provider": model.scorer.provider,
    }


def _details(model: ServedModel) -> dict[str, Any]:
    manifest = model.manifest
    fields = []
    for field in manifest.record.fields:
        described = field.model_dump(mode="json", exclude_none=True)
        if isinstance(field, NumericField):
            described.pop("fixed_scale" if field.likelihood == "gaussian" else "minimum_scale")
        fields.append(described)
    return _summary(model) | {
        "fields": fields,
        "likelihoods": manifest.likelihoods,
        "latent_size": manifest.latent_size,
        "scores": [score.model_dump(mode="json") for score in manifest.scores],
        "samples": manifest.samples,
        "sample_counts": list(manifest.sample_counts),
        "false_alarm_rate": manifest.false_alarm_rate,
        "calibration": manifest.calibration.model_dump(mode="json"),
        "training": manifest.training.model_dump(mode="json"),
    }


def _problems(reasons: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": reason, "content": content} for status, reason in reasons.items()}


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type=json.MEDIA_TYPE)
