"""The same records as requests in every format that the product reads."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv

from benchmarks.serving.model import FIELDS, NAME, SAMPLES, Rows, table

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"


@dataclass(frozen=True)
class Request:
    """One request, ready to be sent any number of times.

    Args:
        path: With its query.
        headers: Beside `Host` and `Content-Length`.
        body: Its bytes.
        records: How many records it holds.
    """

    path: str
    headers: dict[str, str]
    body: bytes
    records: int


def json_arrays(rows: Rows) -> Request:
    """Each record an array in field order."""
    return Request("/score", {"Content-Type": JSON}, _json(rows.tolist()), len(rows))


def json_objects(rows: Rows) -> Request:
    """Each record an object by field name."""
    return Request("/score", {"Content-Type": JSON}, _json(_objects(rows)), len(rows))


def ndjson(rows: Rows) -> Request:
    """Each record an object on a line of its own."""
    return _columns(NDJSON, b"".join(orjson.dumps(record) + b"\n" for record in _objects(rows)), rows)


def csv(rows: Rows) -> Request:
    """A header row and a row for each record."""
    file = io.BytesIO()
    pyarrow.csv.write_csv(table(rows), file)
    return _columns(CSV, file.getvalue(), rows)


def arrow(rows: Rows) -> Request:
    """An Arrow IPC stream of one batch."""
    file = io.BytesIO()
    content = table(rows)
    with pa.ipc.new_stream(file, content.schema) as stream:
        stream.write_table(content)
    return _columns(ARROW, file.getvalue(), rows)


def oip_binary(rows: Rows) -> Request:
    """Open Inference Protocol with its binary tensors, the answer's binary too."""
    content = np.ascontiguousarray(rows).tobytes()
    head = orjson.dumps(
        {
            "inputs": [
                {
                    "name": "numeric",
                    "shape": list(rows.shape),
                    "datatype": "FP64",
                    "parameters": {"binary_data_size": len(content)},
                }
            ],
            "parameters": {"binary_data_output": True, "samples": SAMPLES},
        }
    )
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Request(f"/v2/models/{NAME}/infer", headers, head + content, len(rows))


def oip_json(rows: Rows) -> Request:
    """Open Inference Protocol in JSON, as MLServer reads it."""
    tensor = {"name": "numeric", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return Request(f"/v2/models/{NAME}/infer", {"Content-Type": JSON}, orjson.dumps({"inputs": [tensor]}), len(rows))


def records_alone(rows: Rows) -> Request:
    """JSON arrays for a server that knows no `samples`."""
    return Request("/score", {"Content-Type": JSON}, orjson.dumps({"records": rows.tolist()}), len(rows))


Make = Callable[[Rows], Request]

FORMATS: dict[str, Make] = {
    "JSON arrays": json_arrays,
    "JSON objects": json_objects,
    "NDJSON": ndjson,
    "CSV": csv,
    "Arrow IPC stream": arrow,
    "OIP binary": oip_binary,
}


def _json(records: list[object]) -> bytes:
    return orjson.dumps({"records": records, "samples": SAMPLES})


def _objects(rows: Rows) -> list[object]:
    return [dict(zip(FIELDS, row, strict=True)) for row in rows.tolist()]


def _columns(media_type: str, body: bytes, rows: Rows) -> Request:
    headers = {"Content-Type": media_type, "Accept": media_type}
    return Request(f"/score?samples={SAMPLES}", headers, body, len(rows))
