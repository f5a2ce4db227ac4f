"""The routes around scoring, through FastAPI: models, health, metrics."""

from typing import Annotated, Any, assert_never

import orjson
from fastapi import APIRouter, Path, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from bundle.record.fields import NumericField, NumericLikelihood
from service.codecs import json
from service.models.registry import Models
from service.models.served_model import ServedModel
from service.telemetry.metrics import Metrics
from service.wire.problems import RETRY_AFTER_SECONDS

Name = Annotated[str, Path(description="of the model; `GET /models` lists them")]


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
    async def describe_model(
        name: Name,
    ) -> Response:
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


def _settings_not_of(likelihood: NumericLikelihood) -> tuple[str, ...]:
    """What a field of this likelihood has no use for."""
    match likelihood:
        case "gaussian":
            return ("fixed_scale", "degrees_of_freedom")
        case "student-t":
            return ("fixed_scale",)
        case "fixed-gaussian":
            return ("minimum_scale", "degrees_of_freedom")
        case _:
            assert_never(likelihood)


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
        "shadow": None if model.shadow is None else str(model.shadow.model.version),
    }


def _details(model: ServedModel) -> dict[str, Any]:
    manifest = model.manifest
    fields = []
    for field in manifest.record.fields:
        described = field.model_dump(mode="json", exclude_none=True)
        if isinstance(field, NumericField):
            for setting in _settings_not_of(field.likelihood):
                described.pop(setting)
        fields.append(described)
    return _summary(model) | {
        "fields": fields,
        "likelihoods": manifest.likelihoods,
        "density_of": manifest.density_of,
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
