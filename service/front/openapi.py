"""The OpenAPI document: FastAPI's own routes, and the scoring routes as the loaded manifests describe them."""

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.front import access
from service.front.key import Role
from service.models.registry import Models
from service.openinference import paths as openinference
from service.score import answers
from service.score.paths import Schema, score_operation, score_request
from service.settings import Settings

DESCRIPTION = """\
Anomaly scores from variational autoencoders. A record is an object by field name, or an array in field order; a field
left out or null is missing. An image is a record of one field, never missing: nested numbers from 0 to 255, or a PNG
or JPEG file in base64. Scores are in nats; `anomaly_score` is higher for stranger records, and `p_value` is the
share of held-out normal records at least as strange."""

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
    default = settings.default_model or (next(iter(by_name)) if len(by_name) == 1 else None)
    paths = content["paths"]
    for operations in paths.values():
        # FastAPI promises its own 422 for every path with a parameter; ours are all text, which always fits.
        operations["get"]["responses"].pop("422", None)
    if default in by_name:
        paths["/score"] = score_operation("Score records with the default model", "score", by_name[default], settings)
    else:
        paths["/score"] = score_operation("Score records with the default model (none is set)", "score", None, settings)
    for name, model in by_name.items():
        for path, what in (
            (f"/models/{name}/score", name),
            (f"/models/{name}/versions/{model.version}/score", f"{name} {model.version}"),
        ):
            paths[path] = score_operation(
                f"Score records with {what}", path.strip("/").replace("/", "-"), model, settings
            )
    paths |= openinference.paths(models, settings)
    if settings.keys_file is not None or settings.keys is not None:
        _lock(content)
    return content


def _lock(content: Schema) -> None:
    """Say which operations take a key."""
    content["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    refusal = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, operations in content["paths"].items():
        role = access.needed(path)
        for operation in operations.values():
            if role is not None:
                operation["security"] = [{"key": []}]
                operation["responses"]["401"] = {"description": "no key, or one that is not known", "content": refusal}
            if role is Role.ADMIN:
                operation["responses"]["403"] = {"description": f"the key lacks the role {role}", "content": refusal}
