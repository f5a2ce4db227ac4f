"""The OpenAPI document: FastAPI's own routes, and the scoring routes as the loaded manifests describe them."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from bundle.fields import AnyField, BooleanField, CategoricalField, NumericField, RecordSchema
from bundle.manifest import SAMPLE_COUNTS
from service.models import Models, ServedModel
from service.settings import Settings

Schema = dict[str, Any]

DESCRIPTION = """\
Anomaly scores from variational autoencoders. A record is an object by field name, or an array in field order; a field
left out or null is missing. Scores are in nats; `anomaly_score` is higher for stranger records, and `p_value` is the
share of held-out normal records at least as strange."""

_NULLABLE: Schema = {"type": ["number", "null"]}
_RESULT: Schema = {
    "type": "object",
    "properties": {
        "reconstruction_probability": _NULLABLE
        | {"description": "1/L sum_l p(x|z_l), a density; null where a double cannot hold it (An & Cho 2015)"},
        "log_reconstruction_probability": {"type": "number", "description": "its logarithm, nats"},
        "elbo": {"type": "number", "description": "1/L sum_l log p(x|z_l) - KL(q(z|x) || p(z)), nats"},
        "iwae": {"type": "number", "description": "log(1/L sum_l p(x, z_l) / q(z_l|x)), nats (Burda et al. 2016)"},
        "expected_log_likelihood": {"type": "number", "description": "1/L sum_l log p(x|z_l), nats"},
        "latent_mean": {"type": "array", "items": {"type": "number"}, "description": "mean of q(z|x)"},
        "anomaly_score": {"type": "number", "description": "higher = stranger; the manifest says which score it is"},
        "p_value": {"type": "number", "description": "share of held-out normal records at least as strange"},
        "is_anomaly": {"type": "boolean", "description": "p_value is at most the model's false_alarm_rate"},
    },
}
_RESULT["required"] = list(_RESULT["properties"])
_ANSWER: Schema = {
    "type": "object",
    "properties": {
        "model": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
            "required": ["name", "version"],
        },
        "samples": {"type": "integer"},
        "results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}},
    },
    "required": ["model", "samples", "results"],
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
    },
    "required": ["type", "title", "status", "detail", "request_id"],
}
_REFUSALS = {
    "400": "the body is not JSON",
    "404": "no such model or version",
    "406": "the client accepts no media type that is written here",
    "408": "the body did not arrive within the deadline",
    "413": "the body or the number of records is over the limit",
    "415": "the body is not application/json",
    "422": "a member or a record does not fit",
    "429": "the queue is full; see Retry-After",
    "500": "the runtime could not score the records",
    "503": "not ready, or shutting down; see Retry-After",
    "504": "the deadline passed",
}


def document(app: FastAPI, models: Models, settings: Settings) -> Schema:
    """Build the document from what is loaded now.

    Args:
        app: Its own routes are included.
        models: Whose fields describe the records.
        settings: Whose limits are stated.
    """
    content = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    content["tags"] = [{"name": name} for name in ("score", "models", "operation")]
    components = content.setdefault("components", {}).setdefault("schemas", {})
    components |= {"Result": _RESULT, "Answer": _ANSWER, "Problem": PROBLEM}
    by_name: dict[str, str] = {}
    for model in models.served:
        by_name[model.name] = f"Request_{model.name}"
        components[by_name[model.name]] = _request(model, settings)
    default = settings.default_model or (next(iter(by_name)) if len(by_name) == 1 else None)
    paths = content["paths"]
    for operations in paths.values():
        # FastAPI promises its own 422 for every path with a parameter; ours are all text, which always fits.
        operations["get"]["responses"].pop("422", None)
    if default in by_name:
        paths["/score"] = _operation("Score records with the default model", "score", by_name[default], settings)
    else:
        paths["/score"] = _operation("Score records with the default model (none is set)", "score", None, settings)
    for name, component in by_name.items():
        version = models.get(name).version
        for path, what in (
            (f"/models/{name}/score", name),
            (f"/models/{name}/versions/{version}/score", f"{name} {version}"),
        ):
            paths[path] = _operation(
                f"Score records with {what}", path.strip("/").replace("/", "-"), component, settings
            )
    return content


def record_schema(schema: RecordSchema) -> Schema:
    """JSON Schema of one record: an object by field name, or an array in field order, not all of it missing."""
    properties: dict[str, Schema] = {field.name: _field(field) for field in schema.fields}
    for source in schema.timestamps:
        properties[source] = {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "the fields derived from it may be left out",
        }
    by_name: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
        "not": {"additionalProperties": {"type": "null"}},
    }
    if schema.timestamps:
        taken = [field.name for fields in schema.timestamps.values() for field in fields]
        by_name["not"] = {
            "anyOf": [by_name["not"], *({"required": [name, s]} for s in schema.timestamps for name in taken)]
        }
    in_order: Schema = {
        "type": "array",
        "prefixItems": [_field(field) for field in schema.fields],
        "items": False,
        "minItems": len(schema.fields),
        "maxItems": len(schema.fields),
        "contains": {"not": {"type": "null"}},
    }
    return {"anyOf": [by_name, in_order]}


def _request(model: ServedModel, settings: Settings) -> Schema:
    return {
        "type": "object",
        "properties": {
            "records": {
                "type": "array",
                "items": record_schema(model.schema),
                "minItems": 1,
                "description": f"at most {settings.max_records}; more are answered 413",
            },
            "samples": {
                "type": "integer",
                "enum": list(SAMPLE_COUNTS),
                "default": model.manifest.samples,
                "description": "draws of z for each record",
            },
            "explain": {"type": "boolean", "const": False, "default": False, "description": "no explainer yet"},
        },
        "required": ["records"],
        "additionalProperties": False,
        "examples": [{"records": [{field.name: _example(field) for field in model.schema.fields}]}],
    }


def _field(field: AnyField) -> Schema:
    match field:
        case NumericField():
            return {"type": ["number", "null"], "description": f"usually {field.mean:.6g} ± {field.scale:.3g}"}
        case BooleanField():
            return {"anyOf": [{"type": ["boolean", "null"]}, {"enum": [0, 1]}]}
        case CategoricalField():
            return {
                "type": ["string", "number", "boolean", "null"],
                "examples": list(field.vocabulary[:10]),
                "description": "any text; what is not in the vocabulary counts as unknown",
            }


def _example(field: AnyField) -> object:
    match field:
        case NumericField():
            return float(f"{field.mean:.4g}")
        case BooleanField():
            return True
        case CategoricalField():
            return field.vocabulary[0]


def _operation(summary: str, identifier: str, component: str | None, settings: Settings) -> Schema:
    body: Schema = {"$ref": f"#/components/schemas/{component}"} if component else {"type": "object"}
    limits = (
        f"At most {settings.max_records} records and {settings.max_body_bytes} bytes a request, "
        f"{settings.deadline_ms} ms unless the header X-Deadline-Ms names fewer. X-Request-ID is taken and returned."
    )
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answer = {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}}
    return {
        "post": {
            "tags": ["score"],
            "summary": summary,
            "description": limits,
            "operationId": identifier,
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {
                "200": {"description": "a result for each record, in order", "content": answer},
                **{status: {"description": why, "content": problem} for status, why in _REFUSALS.items()},
            },
        }
    }
