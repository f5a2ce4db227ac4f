"""What the answers of scoring look like, as OpenAPI has it: results, explanations, and both in every format."""

from typing import Any

from bundle.contents.explanation import COVERAGE, MOST_LIKELY, TOP
from service.codecs import arrow, csv, json, ndjson

Schema = dict[str, Any]

_NULLABLE: Schema = {"type": ["number", "null"]}
_NONE = "null by an autoencoder, which has no draws and no KL"
_RESULT: Schema = {
    "type": "object",
    "properties": {
        "reconstruction_probability": _NULLABLE
        | {"description": "1/L sum_l p(x|z_l), a density; null where a double cannot hold it (An & Cho 2015)"},
        "log_reconstruction_probability": _NULLABLE | {"description": f"its logarithm, nats; {_NONE}"},
        "elbo": _NULLABLE | {"description": f"1/L sum_l log p(x|z_l) - KL(q(z|x) || p(z)), nats; {_NONE}"},
        "iwae": _NULLABLE | {"description": f"log(1/L sum_l p(x, z_l) / q(z_l|x)), nats (Burda et al. 2016); {_NONE}"},
        "expected_log_likelihood": {"type": "number", "description": "1/L sum_l log p(x|z_l), nats"},
        "latent_mean": {"type": "array", "items": {"type": "number"}, "description": "mean of q(z|x)"},
        "anomaly_score": {"type": "number", "description": "higher = stranger; the manifest says which score it is"},
        "p_value": {"type": "number", "description": "share of held-out normal records at least as strange"},
        "is_anomaly": {"type": "boolean", "description": "p_value is at most the false_alarm_rate"},
    },
}
_RESULT["required"] = list(_RESULT["properties"])
_RESULT["properties"]["explanation"] = {"$ref": "#/components/schemas/Explanation"}
_ANSWER: Schema = {
    "type": "object",
    "properties": {
        "model": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
            "required": ["name", "version"],
        },
        "samples": {"type": "integer"},
        "score": {"type": "string", "description": "which score anomaly_score is"},
        "false_alarm_rate": {"type": "number"},
        "results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}},
    },
    "required": ["model", "samples", "score", "false_alarm_rate", "results"],
}
_NUMBER: Schema = {"type": "number"}
_SHARE: Schema = {"type": ["number", "null"], "description": "of what exceeds the usual; null where nothing does"}
_VALUE: Schema = {"type": ["number", "string", "boolean", "null"]}
_FIELD: Schema = {
    "type": "object",
    "properties": {
        "field": {"type": "string"},
        "surprisal": _NUMBER | {"description": "-1/L sum_l log p(x_j|z_l), nats; all of them and the KL give -ELBO"},
        "excess": _NUMBER | {"description": "surprisal less the field's usual one, nats"},
        "share": _SHARE,
        "conditional_excess": _NUMBER
        | {"description": "the same of ELBO(x without x_j) - ELBO(x), the surprisal given all other fields; the order"},
        "value": _VALUE
        | {"description": "what the record holds; null where it is missing or a category that the model does not know"},
        "expected": _VALUE
        | {
            "description": "by the other fields; null for a category that the model does not know; of an image what "
            "the model sees in it, a PNG file in base64"
        },
        "interval": {
            "type": "array",
            "items": _NUMBER,
            "minItems": 2,
            "maxItems": 2,
            "description": f"of a number: where it is expected with a probability of {COVERAGE}",
        },
        "likely": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"value": _VALUE, "probability": _NUMBER},
                "required": ["value", "probability"],
            },
            "maxItems": MOST_LIKELY,
            "description": "of a boolean or a category: what is most likely",
        },
        "surprisal_map": {
            "type": "string",
            "contentEncoding": "base64",
            "contentMediaType": "image/png",
            "description": "of an image: the surprisal of each pixel, summed over channels, in grey, a PNG file",
        },
        "surprisal_map_range": {
            "type": "array",
            "items": _NUMBER,
            "minItems": 2,
            "maxItems": 2,
            "description": "nats that are black and white in the map, the same for every image: the median pixel of "
            "held-out normal images, and what one pixel in a thousand exceeds",
        },
        "direction": {
            "enum": ["high", "low", "unusual category", "missing", None],
            "description": "how the value differs from what is expected; null of an image, and where a boolean or "
            "category does not",
        },
    },
    "required": ["field", "surprisal", "excess", "share", "conditional_excess", "expected", "direction"],
}
_EXPLANATION: Schema = {
    "type": "object",
    "description": "why the ELBO is what it is, where `explain` was asked for",
    "properties": {
        "explains": {
            "enum": ["elbo", "expected_log_likelihood"],
            "description": "the score that is explained, whichever anomaly_score is; by an autoencoder the latter",
        },
        "kl": {
            "type": "object",
            "description": "KL(q(z|x) || p(z)), one entry more beside the fields; 0 by an autoencoder",
            "properties": {"surprisal": _NUMBER, "excess": _NUMBER, "share": _SHARE},
            "required": ["surprisal", "excess", "share"],
        },
        "fields": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/ExplainedField"},
            "description": "the most surprising first",
        },
    },
    "required": ["explains", "kl", "fields"],
}
_LINE: Schema = {
    "oneOf": [
        {"$ref": "#/components/schemas/Result"},
        {
            "type": "object",
            "properties": {"line": {"type": "integer", "minimum": 1}, "error": {"type": "string"}},
            "required": ["error"],
            "additionalProperties": False,
        },
    ],
    "description": "a line of an NDJSON answer",
}
SCHEMAS: dict[str, Schema] = {
    "Result": _RESULT,
    "Answer": _ANSWER,
    "Line": _LINE,
    "Explanation": _EXPLANATION,
    "ExplainedField": _FIELD,
}
"""By their names among the document's components."""

CONTENT: Schema = {
    json.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Answer"}},
    ndjson.MEDIA_TYPE: {
        "schema": {"type": "string", "description": "a `Line` for each record: a stream where the body is NDJSON too"}
    },
    csv.MEDIA_TYPE: {
        "schema": {
            "type": "string",
            "description": "a header row and a row a record; latent means as latent_mean_0 and so on, no number as an "
            f"empty cell; an explanation as the {TOP} most surprising fields, by conditional_excess: "
            "explanation_1_field, _surprisal, _excess, _share, _conditional_excess, _value, _expected, _interval_low, "
            "_interval_high and _direction, and so on; of an image _surprisal_map in place of value and interval",
        }
    },
    arrow.MEDIA_TYPE: {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": "one IPC stream with a column for each member of `Result`, latent_mean as fixed-size "
            "lists of float32 and explanation as a struct, where `value` is `value_number` or `value_category`, and "
            "`expected` is `expected_number`, `expected_category` or, binary as `surprisal_map` is, `expected_image`; "
            "no number is null",
        }
    },
}
"""By media type."""
