"""What the server and a model say of themselves: metadata, and configuration in Triton's JSON form."""

from typing import Any

import orjson

from bundle.record.fields import AnyField, BooleanField, CategoricalField, ImageField, NumericField
from service.models.served_model import ServedModel
from service.openinference.outputs import OUTPUTS

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics")

_PLATFORM = "onnxruntime_onnx"


def server(version: str) -> dict[str, Any]:
    """The answer of `GET /v2`.

    Args:
        version: Of this package.
    """
    return {"name": "surprisal", "version": version, "extensions": EXTENSIONS}


def model(served: ServedModel) -> dict[str, Any]:
    """The answer of `GET /v2/models/NAME`: the fields as inputs, each with the datatype that fits it best."""
    return {
        "name": served.name,
        "versions": [str(served.version)],
        "platform": _PLATFORM,
        "inputs": [
            {"name": field.name, "datatype": datatype_of(field), "shape": [-1, *_dimensions(field)]}
            for field in served.schema.fields
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, *_inner(name, served)]}
            for name, datatype in OUTPUTS.items()
        ],
    }


def config(served: ServedModel) -> dict[str, Any]:
    """The answer of `GET /v2/models/NAME/config`; sizes leave the batch out.

    Args:
        served: The model.
    """
    schema = served.schema
    about = {
        # Lists are JSON inside the text: parameters of a configuration are text only.
        **{kind: _listed([field.name for field in fields]) for kind, fields in schema.by_input.items()},
        **({"timestamps": _listed(list(schema.timestamps))} if schema.timestamps else {}),
        "samples": str(served.manifest.samples),
        "sample_counts": _listed(list(served.manifest.sample_counts)),
        "anomaly_score": served.manifest.anomaly_score,
    }
    return {
        "name": served.name,
        "platform": _PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [served.version]}},
        "max_batch_size": served.largest_request,
        "input": [
            {
                "name": field.name,
                "data_type": _config_type(datatype_of(field)),
                "dims": _dimensions(field),
                "optional": not isinstance(field, ImageField),
            }
            for field in schema.fields
        ],
        "output": [
            {"name": name, "data_type": _config_type(datatype), "dims": _inner(name, served)}
            for name, datatype in OUTPUTS.items()
        ],
        "dynamic_batching": {},
        "parameters": {name: {"string_value": text} for name, text in about.items()},
    }


def datatype_of(field: AnyField) -> str:
    """The datatype that a field is announced with; `service.openinference` says what else it takes."""
    match field:
        case NumericField():
            return "FP64"
        case BooleanField():
            return "BOOL"
        case CategoricalField():
            return "BYTES"
        case ImageField():
            return "UINT8"


def _dimensions(field: AnyField) -> list[int]:
    return list(field.shape) if isinstance(field, ImageField) else [1]


def _inner(output: str, served: ServedModel) -> list[int]:
    return [served.manifest.latent_size] if output == "latent_mean" else []


def _config_type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def _listed(values: list[Any]) -> str:
    return orjson.dumps(values).decode()
