"""The routes under `/v2` as OpenAPI describes them, with the inputs of the models that are loaded."""

from typing import Any

from bundle.contents import typical
from bundle.record.fields import AnyField, ImageField
from service.models.registry import Models
from service.models.served_model import ServedModel
from service.openinference import metadata
from service.openinference.datatype import NAMES
from service.openinference.outputs import OUTPUTS
from service.settings import Settings

Schema = dict[str, Any]

_TAG = "open inference"
_PLAIN = str.maketrans("/", "-", "{}")
_NAMED = {
    "name": "of the model; `POST /v2/repository/index` lists them",
    "version": "of the model that is in service; `GET /v2/models/NAME` says which",
}
_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SIZES: Schema = {"type": "array", "items": {"type": "integer", "minimum": -1}}
_PARAMETERS: Schema = {"type": ["object", "null"]}


def _object(properties: Schema, *optional: str) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_TENSOR = _object({"name": _TEXT, "datatype": {"enum": list(NAMES)}, "shape": _SIZES})
_SERVER = _object({"name": _TEXT, "version": _TEXT, "extensions": _array(_TEXT)})
_MODEL = _object(
    {"name": _TEXT, "versions": _array(_TEXT), "platform": _TEXT, "inputs": _array(_TENSOR), "outputs": _array(_TENSOR)}
)
_CONFIGURED = _object({"name": _TEXT, "data_type": _TEXT, "dims": _SIZES, "optional": _FLAG}, "optional")
_CONFIG = _object(
    {
        "name": _TEXT,
        "platform": _TEXT,
        "backend": _TEXT,
        "max_batch_size": _COUNT,
        "input": _array(_CONFIGURED),
        "output": _array(_CONFIGURED),
    }
)
_DURATION = _object({"count": _COUNT, "ns": _COUNT})
_PHASES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
_STATISTICS = _object(
    {
        "model_stats": _array(
            _object(
                {
                    "name": _TEXT,
                    "version": _TEXT,
                    "last_inference": _COUNT | {"description": "milliseconds since 1970; 0 for never"},
                    "inference_count": _COUNT | {"description": "records scored, over every route"},
                    "execution_count": _COUNT | {"description": "batches that ran, over every route"},
                    "inference_stats": _object(dict.fromkeys(_PHASES, _DURATION)),
                    "batch_stats": {"type": "array"},
                }
            )
        )
    }
)
_INDEX = _array(
    _object({"name": _TEXT, "version": _TEXT, "state": {"enum": ["READY", "UNAVAILABLE"]}, "reason": _TEXT})
)
_ANSWER = _object(
    {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "id": _TEXT,
        "parameters": {"type": "object"},
        "outputs": _array(
            _object(
                {
                    "name": {"enum": list(OUTPUTS)},
                    "datatype": {"enum": sorted(set(OUTPUTS.values()))},
                    "shape": _SIZES,
                    "data": {"type": "array", "items": {"type": ["number", "boolean", "null"]}},
                    "parameters": _object({"binary_data_size": _COUNT}),
                },
                "data",
                "parameters",
            )
        ),
    },
    "id",
)
_PROBLEM: Schema = {
    "allOf": [
        {"$ref": "#/components/schemas/Problem"},
        _object({"error": {"type": "string", "description": "the sentence that clients of the protocol show"}}),
    ]
}
_NOT_FOUND = {"404": "no such model or version", "503": "no model is loaded yet; see Retry-After"}
_NOT_READY = {"503": "not ready, or shutting down; see Retry-After"}
_BODY_REFUSALS = {
    "400": "the body is not JSON, or not as long as its header says",
    "408": "the body did not arrive within the deadline",
    "413": "the body or the number of records is over the limit",
    "415": "the body's content encoding is not read here",
    "422": "a member, a tensor or a record does not fit",
}
_INFER_REFUSALS = {
    **_BODY_REFUSALS,
    "404": "no such model or version",
    "429": "the queue is full; see Retry-After",
    "500": "the runtime could not score the records",
    "503": "not ready, or shutting down; see Retry-After",
    "504": "the deadline passed",
}
_HOW_TO_INFER = """\
One tensor a field, by its name, of shape [B] or [B, 1]; or the matrices `numeric` [B, F], `boolean` [B, G] and
`categorical` [B, C] in place of their fields. Missing: a field left out, null, NaN, or -1 in an integer tensor of
booleans or codes. An image is UINT8 [B, H, W, C], or BYTES [B]: PNG or JPEG files, in JSON as base64; it is never
missing. Binary tensors follow the JSON, whose length `Inference-Header-Content-Length` then gives. gzip and
deflate are read, and written above 1 KiB where `Accept-Encoding` asks. The tensors of a request hold the same number of
records, at most {records}; a body at most {size} bytes."""


def paths(models: Models, settings: Settings) -> dict[str, Any]:
    """The paths of the protocol, by path and lower-case method.

    Refers to the component schema `Problem`; every operation has the tag `open inference`.

    Args:
        models: Whose fields are the inputs of `infer`.
        settings: Whose limits are stated.
    """
    described = {
        "/v2": _get("The server's metadata", "v2", _SERVER),
        "/v2/health/live": _get("Whether the process lives", "v2-live", _object({"live": _FLAG})),
        "/v2/health/ready": _get(
            "Whether requests should be sent here", "v2-ready", _object({"ready": _FLAG}), _NOT_READY
        ),
        "/v2/models/stats": _get("Statistics of all models, summed over workers", "v2-stats", _STATISTICS),
        "/v2/repository/index": _index(),
        "/v2/repository/models/{name}/load": _change("Take a model into service, in every worker and replica", "load"),
        "/v2/repository/models/{name}/unload": _change("Take a model out of service", "unload"),
    }
    ready = _object({"name": _TEXT, "ready": _FLAG})
    for action, summary, answer in (
        ("", "A model's inputs and outputs", _MODEL),
        ("/ready", "Whether a model can be asked", ready),
        ("/config", "A model's configuration in Triton's form", _CONFIG),
        ("/stats", "A model's statistics, summed over workers", _STATISTICS),
    ):
        for version in ("", "/versions/{version}"):
            identifier = f"v2-model{'-version' if version else ''}{action.replace('/', '-')}"
            path = f"/v2/models/{{name}}{version}{action}"
            operation = _get(summary, identifier, answer, _NOT_FOUND)
            operation["get"]["parameters"] = _parameters(path)
            described[path] = operation
    for model in models.served:
        for path in (f"/v2/models/{model.name}/infer", f"/v2/models/{model.name}/versions/{model.version}/infer"):
            described[path] = _infer(path, model, settings)
    if not models.served:
        for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
            described[path] = _infer(path, None, settings)
    return described


def _get(summary: str, identifier: str, answer: Schema, refusals: dict[str, str] | None = None) -> Schema:
    return {
        "get": {
            "tags": [_TAG],
            "summary": summary,
            "operationId": identifier,
            "responses": {"200": _json("as the protocol has it", answer), **problems(refusals or {})},
        }
    }


def _index() -> Schema:
    wanted: Schema = {"type": "object", "properties": {"ready": {"type": ["boolean", "null"]}}}
    return {
        "post": {
            "tags": [_TAG],
            "summary": "The models in the folder, ready or not",
            "operationId": "v2-repository-index",
            "requestBody": {"required": False, "content": {"application/json": {"schema": wanted}}},
            "responses": {"200": _json("an entry a model", _INDEX), **problems(_BODY_REFUSALS)},
        }
    }


def _change(summary: str, action: str) -> Schema:
    dependents: Schema = {"description": "taken, and without effect: there are none"}
    parameters: Schema = {
        "type": "object",
        "properties": {"unload_dependents": dependents},
        "additionalProperties": False,
    }
    wanted: Schema = {"type": "object", "properties": {"parameters": parameters}}
    refusals = {**_BODY_REFUSALS, "404": "no such model", "409": "its version is refused, or the folder is read-only"}
    return {
        "post": {
            "tags": [_TAG],
            "summary": summary,
            "operationId": f"v2-repository-{action}",
            "parameters": _parameters("{name}"),
            "requestBody": {"required": False, "content": {"application/json": {"schema": wanted}}},
            "responses": {"200": _json("it is done here; others follow within a second", {}), **problems(refusals)},
        }
    }


def _parameters(path: str) -> list[Schema]:
    """What stands in a path."""
    return [
        {"name": name, "in": "path", "required": True, "description": said, "schema": _TEXT}
        for name, said in _NAMED.items()
        if f"{{{name}}}" in path
    ]


def _infer(path: str, model: ServedModel | None, settings: Settings) -> Schema:
    body: Schema = {"type": "object"} if model is None else _infer_body(model)
    answer = _json("the outputs asked for; behind the JSON those that are binary", _ANSWER)
    answer["content"]["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "post": {
            "tags": [_TAG],
            "summary": f"Score tensors with {path.removeprefix('/v2/models/').removesuffix('/infer')}",
            "description": _HOW_TO_INFER.format(records=settings.max_records, size=settings.max_body_bytes),
            "operationId": path.strip("/").translate(_PLAIN),
            "parameters": _parameters(path),
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {"200": answer, **problems(_INFER_REFUSALS)},
        }
    }


def _infer_body(model: ServedModel) -> Schema:
    names = [*model.schema.names, *model.schema.timestamps, *model.schema.dtypes]
    inputs = _object(
        {
            "name": {"enum": list(dict.fromkeys(names))},
            "datatype": {"enum": list(NAMES)},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 4},
            "data": {"type": ["array", "null"], "description": "flat, or nested as the shape says", "minItems": 1},
            "parameters": _PARAMETERS,
        },
        "data",
        "parameters",
    )
    parameters: Schema = {
        "type": ["object", "null"],
        # Not a property: what is made from this document would ask for a microsecond, and call the 504 a fault.
        "description": "`timeout`, besides: whole microseconds until the deadline; 0 for the service's own",
        "properties": {
            "samples": {"enum": [*model.manifest.sample_counts, None], "default": model.manifest.samples},
            "score": {"enum": [*(score.name for score in model.manifest.scores), None]},
            "false_alarm_rate": {
                "type": ["number", "null"],
                "minimum": 1 / (model.manifest.calibration.records + 1),
                "exclusiveMaximum": 1,
            },
            "explain": {"enum": [False, None], "description": "an explanation is no tensor: `POST /score` gives it"},
            "binary_data_output": {"type": ["boolean", "null"], "default": False},
        },
    }
    wanted = _object({"name": {"enum": list(OUTPUTS)}, "parameters": _PARAMETERS}, "parameters")
    body = _object(
        {
            "id": {"type": ["string", "null"]},
            "parameters": parameters,
            "inputs": _array(inputs) | {"minItems": 1},
            "outputs": {"type": ["array", "null"], "items": wanted, "description": "all, where there are none"},
        },
        "id",
        "parameters",
        "outputs",
    )
    body["examples"] = [{"inputs": _examples(model)}]
    return body


def _examples(model: ServedModel) -> list[Schema]:
    """A tensor for each field."""
    usual = typical.record(model.schema, model.manifest.reference)
    return [_example(field, usual[field.name]) for field in model.schema.fields]


def _example(field: AnyField, value: object) -> Schema:
    # An image is announced as UINT8, which takes a page of numbers.
    datatype = "BYTES" if isinstance(field, ImageField) else metadata.datatype_of(field)
    return {"name": field.name, "datatype": datatype, "shape": [1], "data": [value]}


def _json(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def problems(refusals: dict[str, str]) -> Schema:
    """Refusals as the protocol words them.

    Args:
        refusals: What each status means.
    """
    content = {"application/json": {"schema": _PROBLEM}}
    return {status: {"description": why, "content": content} for status, why in refusals.items()}
