"""Bodies in the formats that schemathesis does not know, for `SCHEMATHESIS_HOOKS`."""

import io
from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import schemathesis
from hypothesis import strategies as st

from service.codecs import arrow, csv, ndjson

RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "amount": st.floats(-1e6, 1e6),
            "hour": st.none() | st.integers(0, 23),
            "country": st.none() | st.sampled_from(["SE", "NO", "elsewhere"]) | st.text("ab, \"'\n", max_size=5),
            "card_present": st.none() | st.booleans(),
        }
    ),
    min_size=1,
    max_size=4,
)
TYPES = pa.schema(
    [("amount", pa.float64()), ("hour", pa.int64()), ("country", pa.string()), ("card_present", pa.bool_())]
)


def lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)


def table(write: Callable[[pa.Table, Any], None]) -> Callable[[list[dict[str, Any]]], bytes]:
    def written(records: list[dict[str, Any]]) -> bytes:
        target = io.BytesIO()
        write(pa.Table.from_pylist(records, TYPES), target)
        return target.getvalue()

    return written


def write_stream(content: pa.Table, target: Any) -> None:
    with pa.ipc.new_stream(target, content.schema) as writer:
        writer.write_table(content)


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Take the examples of these formats out: schemathesis has them as bytes only. `test_formats` sends them."""
    for operations in raw_schema["paths"].values():
        for operation in operations.values():
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                if media_type in (ndjson.MEDIA_TYPE, csv.MEDIA_TYPE):
                    content.pop("example", None)


schemathesis.openapi.media_type(ndjson.MEDIA_TYPE, RECORDS.map(lines))
schemathesis.openapi.media_type(csv.MEDIA_TYPE, RECORDS.map(table(pyarrow.csv.write_csv)))
schemathesis.openapi.media_type(arrow.MEDIA_TYPE, RECORDS.map(table(write_stream)))
