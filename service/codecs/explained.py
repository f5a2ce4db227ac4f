"""Explanations as Arrow columns: nested for Arrow itself, flat for CSV and for files."""

import base64
from typing import Any

import pyarrow as pa

from bundle.contents import answer_names
from bundle.contents.explanation import Explanations
from bundle.record.categories import category_text

_NUMBER, _TEXT, _FILE = pa.float64(), pa.string(), pa.binary()
_LIKELY = pa.struct([("value", _TEXT), ("probability", _NUMBER)])
_FIELD = pa.struct(
    [
        ("field", _TEXT),
        ("surprisal", _NUMBER),
        ("excess", _NUMBER),
        ("share", _NUMBER),
        ("conditional_excess", _NUMBER),
        ("value_number", _NUMBER),
        ("expected_number", _NUMBER),
        ("interval", pa.list_(_NUMBER)),
        ("value_category", _TEXT),
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
"""An explanation: as JSON has it, but that a value and what is expected, of which JSON holds each in one member, have
one for numbers, one for categories and one for images, whose files are binary."""

_FLAT_NUMBERS = frozenset({"surprisal", "excess", "share", "conditional_excess", "interval_low", "interval_high"})


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
                field["value_number"] = _number(field.pop("value"))
                field["expected_number"] = expected
            else:
                field["value_category"] = _text(field.pop("value"))
                field["expected_category"] = _text(expected)
                field["likely"] = [each | {"value": _text(each["value"])} for each in field["likely"]]
            field["share"] = _number(field["share"])
        explanation["kl"]["share"] = _number(explanation["kl"]["share"])
    return pa.array(objects, NESTED)


def flat(explanations: Explanations, records: pa.Table | None = None) -> dict[str, Any]:
    """Columns of the most surprising fields, `explanation_1_field` and so on; a value and what is expected are text.

    Args:
        explanations: Of B records.
        records: The same records as they stand in a file. Where it is given, a category that the model does not know is
            named as it stands there, else it is null.
    """
    columns: dict[str, Any] = {}
    for rank, names in enumerate(answer_names.explained(explanations.schema)):
        said = [_flat(explanations, records, row, int(place)) for row, place in enumerate(explanations.order[:, rank])]
        for part, name in names.items():
            columns[name] = pa.array([each[part] for each in said], _NUMBER if part in _FLAT_NUMBERS else _TEXT)
    return columns


def _flat(explanations: Explanations, records: pa.Table | None, row: int, place: int) -> dict[str, Any]:
    said = explanations.field(row, place)
    said["share"] = _number(said["share"])
    said["expected"] = _text(said["expected"])
    if "value" in said:
        said["value"] = _as_given(said["value"])
        if said["value"] is None and said["direction"] != "missing" and records is not None:
            said["value"] = _as_it_stands(records, said["field"], row)
        said["interval_low"], said["interval_high"] = said.pop("interval", (None, None))
    return said


def _as_given(value: Any) -> str | None:
    if isinstance(value, float):
        return None if value != value else f"{value:.15g}"
    return _text(value)


def _as_it_stands(records: pa.Table, field: str, row: int) -> str | None:
    """A category of a record; one that was derived from a timestamp stands nowhere."""
    value = records[field][row].as_py() if field in records.column_names else None
    return category_text(value) if value is None or isinstance(value, str | int | float) else str(value)


def _number(value: float) -> float | None:
    return None if value != value else value  # NaN is no number


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    # As many digits as a float32 has, which is what the network computes with.
    return f"{value:.9g}" if isinstance(value, float) else value
