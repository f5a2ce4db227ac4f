"""The OpenAPI document: FastAPI's own routes, and the scoring routes as the loaded manifests describe them."""

from collections.abc import Mapping

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.front import access
from service.front.key import Role
from service.models.registry import Models
from service.models.served_model import ServedModel
from service.openinference import paths as openinference
from service.openinference.endpoint import is_under
from service.score import answers
from service.score.paths import Schema, score_operation, score_request
from service.settings import Settings

DESCRIPTION = """\
Anomaly scores from variational autoencoders. A record is an object by field name, or an array in field order; a field
left out or null is missing. An image is a record of one field, never missing: nested numbers from 0 to 255, or a PNG
or JPEG file in base64. Scores are in nats; `anomaly_score` is higher for stranger records, and `p_value` is the
share of held-out normal records at least as strange."""

_NAMED = {
    "name": "of the model; `GET /models` lists them",
    "version": "of the model that is in service; `GET /models/NAME` says which",
}
PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457",
    "properties": {
        "type": {"type": "string", "description": "a stable slug"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
                "required": ["pointer", "detail"],
            },
        },
        "request_id": {"type": "string"},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "required": ["type", "title", "status", "detail", "request_id"],
    "examples": [
        {
            "type": "invalid-request",
            "title": "The request does not fit the model's fields",
            "status": 422,
            "detail": "/records/0/amount: a number is expected",
            "errors": [{"pointer": "/records/0/amount", "detail": "a number is expected"}],
            "request_id": "8d3c3f0e6f0a4d0fb8f5a0a4a3c1f7de",
        }
    ],
}


def document(app: FastAPI, models: Models, settings: Settings) -> Schema:
    """Build the document from what is loaded now.

    Args:
        app: Its own routes are included.
        models: Whose fields describe the records.
        settings: Whose limits are stated.
    """
    content = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    content["tags"] = [{"name": name} for name in ("score", "models", "open inference", "operation")]
    components = content.setdefault("components", {}).setdefault("schemas", {})
    components |= {**answers.SCHEMAS, "Problem": PROBLEM}
    by_name = {model.name: model for model in models.served}
    for name, model in by_name.items():
        components[f"Request_{name}"] = score_request(model, settings)
    paths = content["paths"]
    for operations in paths.values():
        # FastAPI promises its own 422 for every path with a parameter; ours are all text, which always fits.
        operations["get"]["responses"].pop("422", None)
    paths["/score"] = _default(by_name, settings)
    if not by_name:
        paths["/models/{name}/score"] = _any("Score records with a model", ("name",), settings)
        paths["/models/{name}/versions/{version}/score"] = _any(
            "Score records with a version of a model", ("name", "version"), settings
        )
    for name, model in by_name.items():
        for path, what in (
            (f"/models/{name}/score", name),
            (f"/models/{name}/versions/{model.version}/score", f"{name} {model.version}"),
        ):
            paths[path] = score_operation(
                f"Score records with {what}", path.strip("/").replace("/", "-"), model, settings
            )
    paths |= openinference.paths(models, settings)
    _refuse_strangers(content, locked=settings.keys_file is not None or settings.keys is not None)
    return content


def _default(by_name: Mapping[str, ServedModel], settings: Settings) -> Schema:
    """`POST /score`, with the model that it means now."""
    summary = "Score records with the default model"
    default = settings.default_model or (next(iter(by_name)) if len(by_name) == 1 else None)
    if default is not None and default in by_name:
        return score_operation(summary, "score", by_name[default], settings)
    if not by_name:
        summary += ": the only one, or the one that SURPRISAL_DEFAULT_MODEL names"
    elif default is None:
        summary += ": SURPRISAL_DEFAULT_MODEL names none of the several"
    else:
        summary += f": {default}, which is not in service"
    return score_operation(summary, "score", None, settings)


def _any(summary: str, named: tuple[str, ...], settings: Settings) -> Schema:
    """A path in which the model stands."""
    operation = score_operation(summary, f"score-{'-'.join(named)}", None, settings)
    in_path = [
        {"name": name, "in": "path", "required": True, "description": _NAMED[name], "schema": {"type": "string"}}
        for name in named
    ]
    operation["post"]["parameters"] = in_path + operation["post"]["parameters"]
    return operation


def _refuse_strangers(content: Schema, *, locked: bool) -> None:
    """Say which operations take a key, and which are refused by the name or the page that they are asked from."""
    if locked:
        content["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in content["paths"].items():
        role = access.needed(path)
        if role is None:
            continue
        for method, operation in operations.items():
            refusals = {}
            forbidden = [] if locked else ["the host is none of the service's names"]
            if method != "get":
                forbidden.append("a page of another origin asks")
            if locked:
                operation["security"] = [{"key": []}]
                refusals["401"] = "no key, or one that is not known"
                if role is Role.ADMIN:
                    forbidden.append(f"the key lacks the role {role}")
            if forbidden:
                refusals["403"] = ", or ".join(forbidden)
            operation["responses"] |= _problems(path, refusals)


def _problems(path: str, refusals: dict[str, str]) -> Schema:
    if is_under(path):
        return openinference.problems(refusals)
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": why, "content": content} for status, why in refusals.items()}
