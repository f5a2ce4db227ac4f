"""The scoring routes as OpenAPI describes them, with the fields of the models that are loaded."""

import io
from collections.abc import Sequence
from csv import writer
from typing import Any

import orjson

from bundle.contents import typical
from bundle.contents.manifest import SAMPLE_COUNTS
from bundle.contents.reference import FieldReference
from bundle.record.fields import AnyField, BooleanField, CategoricalField, ImageField, NumericField
from bundle.record.records import MISSING_TEXTS
from bundle.record.schema import RecordSchema
from service.codecs import arrow, csv, json, ndjson
from service.models.served_model import ServedModel
from service.score import answers
from service.settings import Settings

Schema = dict[str, Any]


_FORMATS = """\
`Content-Type` names the format of the body (without it, JSON) and `Accept` that of the answer (without it, the same);
they mix freely. In CSV and Arrow a column is a field, or the timestamp that fields derive from; columns may be left
out, and an unknown one is a 422 that names it. Pointers into JSON are JSON pointers; in the other formats `/N` or
`/N/FIELD`, N being the line (NDJSON) or the row (CSV without its header, Arrow) counted from 1, or `/COLUMN`.
`Content-Encoding` may be gzip, deflate or identity; answers above 1 KiB are as well where `Accept-Encoding` asks.

**Streams.** NDJSON answered as NDJSON is scored line by line while it is still being sent, in order and in constant
memory; neither the number of lines nor the body's size is limited. A line that does not fit is answered in its place by
`{{"line": N, "error": "..."}}`, and the next one goes on. A fault of all that would follow is a last line
`{{"error": "..."}}`, after which the connection is closed without the end of the answer. A client must read while it
sends: one that reads nothing for {write_idle_seconds:g} s is cut off. Those that send all of a body before they read
any of the answer should send several smaller bodies, or ask for another format (`Accept: application/json`), which is
answered as a whole.

Limits: {max_records} records and {max_body_bytes} bytes a request, {max_expanded_bytes} bytes once inflated,
{max_line_bytes} bytes a line of a stream. A request is answered within {deadline_ms} ms, a stream's lines as many at a
time as are scored together; the header `X-Deadline-Ms` names fewer. `X-Request-ID` is taken and returned."""


_HEADERS: dict[str, Schema] = {
    "surprisal-model": {"description": "the model that answered", "required": True, "schema": {"type": "string"}},
    "surprisal-version": {"description": "its version", "required": True, "schema": {"type": "string"}},
    "surprisal-samples": {
        "description": "draws of z for each record",
        "required": True,
        "schema": {"type": "string", "enum": [str(count) for count in SAMPLE_COUNTS]},
    },
    "surprisal-score": {"description": "which score decided", "required": True, "schema": {"type": "string"}},
    "surprisal-false-alarm-rate": {
        "description": "p-values of at most this are anomalies",
        "required": True,
        "schema": {"type": "string"},
    },
    "surprisal-explains": {"description": "which score is explained, where one is", "schema": {"type": "string"}},
    "vary": {"description": "what decides how the answer looks", "required": True, "schema": {"type": "string"}},
    "x-request-id": {"description": "the request's, or a new one", "required": True, "schema": {"type": "string"}},
    "server-timing": {
        "description": "milliseconds in the queue, in inference and in explaining; not for streams",
        "schema": {"type": "string"},
    },
    "content-encoding": {"description": "where the answer is compressed", "schema": {"type": "string"}},
}


_RETRY_AFTER: dict[str, Schema] = {
    "retry-after": {"description": "seconds", "required": True, "schema": {"type": "string", "pattern": "^[0-9]+$"}}
}


_REFUSAL_HEADERS: dict[str, dict[str, Schema]] = {
    "415": {
        "accept-encoding": {
            "description": "what is inflated here, where that is what is wrong",
            "schema": {"type": "string"},
        }
    },
    "429": _RETRY_AFTER,
    "503": _RETRY_AFTER,
}


_REFUSALS = {
    "400": "the body is not what its media type or its content encoding says",
    "404": "no such model or version",
    "406": "the client accepts no media type that is written here",
    "408": "the body did not arrive within the deadline",
    "413": "the body, what it expands to or the number of records is over the limit",
    "415": "the body's media type, charset or content encoding is not read here",
    "422": "a parameter, a member, a column or a record does not fit",
    "429": "the queue is full; see Retry-After",
    "500": "the runtime could not score the records",
    "503": "not ready, or shutting down; see Retry-After",
    "504": "the deadline passed",
}


def record_schema(schema: RecordSchema, references: Sequence[FieldReference]) -> Schema:
    """JSON Schema of one record: an object by field name, or an array in field order, not all of it missing.

    Args:
        schema: The fields.
        references: What is usual in each, in order.
    """
    fields = [_field(*each) for each in zip(schema.fields, references, strict=True)]
    properties: dict[str, Schema] = dict(zip(schema.names, fields, strict=True))
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
        "prefixItems": fields,
        "items": False,
        "minItems": len(schema.fields),
        "maxItems": len(schema.fields),
        "contains": {"not": {"type": "null"}},
    }
    return {"anyOf": [by_name, in_order]}


_DRAWS = "draws of z for each record"
_DECIDES = "what anomaly_score is, and p_value is calibrated for"
_MAY_FLAG = "share of normal records that is_anomaly may flag"

_ASKED_OF_ANY: dict[str, Schema] = {
    "samples": {"type": "integer", "enum": list(SAMPLE_COUNTS), "description": _DRAWS},
    "score": {"type": "string", "description": _DECIDES},
    "false_alarm_rate": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "description": _MAY_FLAG},
    "explain": {"type": "boolean", "description": "why each record is strange, field by field"},
}


def asked(model: ServedModel) -> dict[str, Schema]:
    """The members with which a request asks for other than the usual."""
    manifest = model.manifest
    return {
        "samples": {
            "type": "integer",
            "enum": list(manifest.sample_counts),
            "default": manifest.samples,
            "description": _DRAWS,
        },
        "score": {
            "type": "string",
            "enum": [score.name for score in manifest.scores],
            "default": manifest.anomaly_score,
            "description": _DECIDES,
        },
        "false_alarm_rate": {
            "type": "number",
            "minimum": 1 / (manifest.calibration.records + 1),
            "exclusiveMaximum": 1,
            "default": manifest.false_alarm_rate,
            "description": _MAY_FLAG,
        },
        "explain": _explain(model),
    }


def _explain(model: ServedModel) -> Schema:
    explainer = model.explainer
    if explainer is None:
        return {"type": "boolean", "const": False, "default": False, "description": "this bundle holds no explainer"}
    counts = model.manifest.sample_counts
    most = ", ".join(f"{explainer.limit(samples)} with {samples}" for samples in (counts[0], counts[-1]))
    return {
        "type": "boolean",
        "default": False,
        "description": "why each record is strange, field by field; at most "
        f"{explainer.limit(model.manifest.samples)} records a request with {model.manifest.samples} draws ({most})",
    }


def score_request(model: ServedModel, settings: Settings) -> Schema:
    """The body of a request in JSON.

    Args:
        model: Which is asked.
        settings: Limits.
    """
    return {
        "type": "object",
        "properties": {
            "records": {
                "type": "array",
                "items": record_schema(model.schema, model.manifest.reference),
                "minItems": 1,
                "description": f"at most {settings.max_records}; more are answered 413",
            },
            **asked(model),
        },
        "required": ["records"],
        "additionalProperties": False,
        "examples": [{"records": [typical.record(model.schema, model.manifest.reference)]}],
    }


def _field(field: AnyField, reference: FieldReference) -> Schema:
    match field:
        case NumericField():
            return {"type": ["number", "null"], "description": typical.usual(field, reference)}
        case BooleanField():
            return {"anyOf": [{"type": ["boolean", "null"]}, {"enum": [0, 1]}]}
        case CategoricalField():
            return {
                "type": ["string", "number", "boolean", "null"],
                "examples": list(field.vocabulary[:10]),
                "description": "any text; what is not in the vocabulary counts as unknown",
            }
        case ImageField():
            return _image(field)


def _image(field: ImageField) -> Schema:
    def rows(items: Schema, count: int) -> Schema:
        return {"type": "array", "items": items, "minItems": count, "maxItems": count}

    level: Schema = {"type": "integer", "minimum": 0, "maximum": 255}
    nested = rows(rows(rows(level, field.channels), field.width), field.height)
    grey = [rows(rows(level, field.width), field.height)] if field.channels == 1 else []
    file = {
        "type": "string",
        "contentEncoding": "base64",
        "description": "a PNG or JPEG file, `data:image/png;base64,` before it or not",
    }
    kind = "grey" if field.channels == 1 else "RGB"
    return {
        "anyOf": [file, nested, *grey],
        "description": f"{kind}, {field.width} wide and {field.height} high, 8 bits",
    }


def score_operation(summary: str, identifier: str, model: ServedModel | None, settings: Settings) -> Schema:
    """A route that scores.

    Args:
        summary: In a few words.
        identifier: Of the operation, unique in the document.
        model: Which is asked; None where the path leads to none.
        settings: Limits.
    """
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refusals = {
        status: {"description": why, "content": problem, "headers": _REFUSAL_HEADERS.get(status, {})}
        for status, why in _REFUSALS.items()
    }
    return {
        "post": {
            "tags": ["score"],
            "summary": summary,
            "description": _FORMATS.format(**settings.model_dump()),
            "operationId": identifier,
            "parameters": [
                {
                    "name": name,
                    "in": "query",
                    "description": f"{schema['description']}. A member of a JSON body comes first.",
                    "schema": schema,
                }
                for name, schema in (_ASKED_OF_ANY if model is None else asked(model)).items()
            ],
            "requestBody": {"required": True, "content": _request_content(model)},
            "responses": {
                "200": {
                    "description": "a result for each record, in order",
                    "content": answers.CONTENT if model is None else _answer_content(model),
                    "headers": _HEADERS,
                },
                **refusals,
            },
        }
    }


def _answer_content(model: ServedModel) -> Schema:
    """The answer in every format, and in JSON what the example of a request is answered with."""
    if model.example is None:
        return answers.CONTENT
    answer = json.encode(model.name, model.version, model.question, model.example)
    lines = [orjson.dumps(each).decode() + "\n" for each in model.example.objects()]
    return answers.CONTENT | {
        json.MEDIA_TYPE: answers.CONTENT[json.MEDIA_TYPE] | {"example": orjson.loads(answer)},
        ndjson.MEDIA_TYPE: answers.CONTENT[ndjson.MEDIA_TYPE] | {"example": "".join(lines)},
    }


def _request_content(model: ServedModel | None) -> Schema:
    missing = ", ".join(f"`{text}`" if text else "an empty cell" for text in MISSING_TEXTS)
    content: Schema = {
        json.MEDIA_TYPE: {"schema": {"type": "object"}},
        ndjson.MEDIA_TYPE: {
            "schema": {"type": "string", "description": "UTF-8; each line a record as in `records` of JSON"}
        },
        csv.MEDIA_TYPE: {
            "schema": {
                "type": "string",
                "description": "RFC 4180 in UTF-8; the first row names the columns. Missing is "
                f"{missing}; flags are true, false, 1 or 0; images are files in base64",
            }
        },
        arrow.MEDIA_TYPE: {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "one IPC stream, its buffers not compressed; null and NaN are missing; images are files "
                "or levels as binary, files in base64 as text, or tensors or fixed-size lists of uint8",
            }
        },
    }
    if model is not None:
        content[json.MEDIA_TYPE]["schema"] = {"$ref": f"#/components/schemas/Request_{model.name}"}
        record = typical.record(model.schema, model.manifest.reference)
        content[ndjson.MEDIA_TYPE]["example"] = orjson.dumps(record).decode() + "\n"
        row = [str(value).lower() if isinstance(value, bool) else value for value in record.values()]
        text = io.StringIO(newline="")
        writer(text).writerows([record, row])
        content[csv.MEDIA_TYPE]["example"] = text.getvalue()
    return content
