"""What `infer` answers: the outputs that were asked for, as JSON or as blobs behind it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from bundle.record.fields import Tensors
from service.engine.question import Question

OUTPUTS = {
    "reconstruction_probability": "FP64",
    "log_reconstruction_probability": "FP32",
    "elbo": "FP32",
    "iwae": "FP32",
    "expected_log_likelihood": "FP32",
    "latent_mean": "FP32",
    "anomaly_score": "FP32",
    "p_value": "FP64",
    "is_anomaly": "BOOL",
}
"""Every output and its datatype: [B] each, but `latent_mean` [B, K]."""

JSON = b"application/json"
BINARY = b"application/octet-stream"

_DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"), "BOOL": np.dtype("?")}


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """The body of an answer.

    Args:
        body: JSON, and the blobs of the outputs that are binary.
        header_length: Bytes of the JSON, where blobs follow it; else None.
    """

    body: bytes
    header_length: int | None

    @property
    def media_type(self) -> bytes:
        """What the body is."""
        return JSON if self.header_length is None else BINARY


def encode(
    name: str, version: int, identifier: str | None, question: Question, columns: Tensors, wanted: dict[str, bool]
) -> InferAnswer:
    """Write an answer.

    Args:
        name: The model that answered.
        version: Its version.
        identifier: Of the request, if it has one.
        question: What was asked.
        columns: Everything that is said of B records, by output; see `service.engine.verdicts`.
        wanted: The outputs to answer with, in order, each with whether as binary data.
    """
    outputs: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for output, binary in wanted.items():
        datatype = OUTPUTS[output]
        values = np.ascontiguousarray(columns[output], _DTYPES[datatype])
        tensor: dict[str, Any] = {"name": output, "datatype": datatype, "shape": list(values.shape)}
        if binary:
            blobs.append(values.tobytes())
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            tensor["data"] = _digits(values)
        outputs.append(tensor)
    content: dict[str, Any] = {"model_name": name, "model_version": str(version)}
    if identifier is not None:
        content["id"] = identifier
    asked = {"samples": question.samples, "score": question.score, "false_alarm_rate": question.false_alarm_rate}
    content |= {"parameters": asked, "outputs": outputs}
    header = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    if not blobs:
        return InferAnswer(header, None)
    return InferAnswer(b"".join([header, *blobs]), len(header))


def _digits(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Flat, and as float64, so that JSON holds the very number that was computed, as in `POST /score`; NaN is null."""
    flat = values.reshape(-1)
    return flat.astype(np.float64) if flat.dtype == np.float32 else flat
