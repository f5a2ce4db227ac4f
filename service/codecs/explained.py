"""Explanations as Arrow columns: nested for Arrow itself, flat for CSV and for files."""

import base64
from typing import Any

import pyarrow as pa

from bundle.contents.explanation import TOP, Explanations
from bundle.record.schema import ImageSchema

_NUMBER, _TEXT, _FILE = pa.float64(), pa.string(), pa.binary()
_LIKELY = pa.struct([("value", _TEXT), ("probability", _NUMBER)])
_FIELD = pa.struct(
    [
        ("field", _TEXT),
        ("surprisal", _NUMBER),
        ("excess", _NUMBER),
        ("share", _NUMBER),
        ("conditional_excess", _NUMBER),
        ("expected_number", _NUMBER),
        ("interval", pa.list_(_NUMBER)),
        ("expected_category", _TEXT),
        ("likely", pa.list_(_LIKELY)),
        ("direction", _TEXT),
        ("expected_image", _FILE),
        ("surprisal_map", _FILE),
        ("surprisal_map_range", pa.list_(_NUMBER)),
    ]
)
_KL = pa.struct([("surprisal", _NUMBER), ("excess", _NUMBER), ("share", _NUMBER)])
NESTED = pa.struct([("explains", _TEXT), ("kl", _KL), ("fields", pa.list_(_FIELD))])
"""An explanation: as JSON has it, but that what is expected, which JSON holds in one member, has one for numbers, one
for categories and one for images, whose files are binary."""

_FLAT = ("field", "excess", "share", "expected", "direction")


def nested(explanations: Explanations) -> Any:
    """One struct a record, of the type `NESTED`."""
    objects = explanations.objects()
    for explanation in objects:
        for field in explanation["fields"]:
            expected = field.pop("expected")
            if "surprisal_map" in field:
                field["expected_image"] = base64.b64decode(expected)
                field["surprisal_map"] = base64.b64decode(field["surprisal_map"])
            elif "interval" in field:
                field["expected_number"] = expected
            else:
                field["expected_category"] = _text(expected)
                field["likely"] = [each | {"value": _text(each["value"])} for each in field["likely"]]
            field["share"] = _number(field["share"])
        explanation["kl"]["share"] = _number(explanation["kl"]["share"])
    return pa.array(objects, NESTED)


def flat(explanations: Explanations) -> dict[str, Any]:
    """Columns of the most surprising fields, `explanation_1_field` and so on; what is expected is text.

    Args:
        explanations: Of B records.
    """
    columns: dict[str, Any] = {}
    names = (*_FLAT, "surprisal_map") if isinstance(explanations.schema, ImageSchema) else _FLAT
    for rank in range(min(TOP, len(explanations.schema.fields))):
        rows = [explanations.field(row, int(place)) for row, place in enumerate(explanations.order[:, rank])]
        for row in rows:
            row["share"] = _number(row["share"])
            row["expected"] = _text(row["expected"])
        for name in names:
            kind = _NUMBER if name in ("excess", "share") else _TEXT
            columns[f"explanation_{rank + 1}_{name}"] = pa.array([row[name] for row in rows], kind)
    return columns


def _number(value: float) -> float | None:
    return None if value != value else value  # NaN is no number


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else value
