"""Parts of a timestamp that a field may be derived from, always in UTC."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from bundle.record.fields import Derived

HOURS = tuple(str(hour) for hour in range(24))
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def vocabulary(derived: Derived) -> tuple[str, ...]:
    """The categories of a derived field, in order."""
    return HOURS if derived.part == "hour" else WEEKDAYS


def part(derived: Derived, value: object) -> str | None:
    """The category that a timestamp falls into.

    Args:
        derived: Which part.
        value: ISO 8601 text or a datetime, taken as UTC where it names no offset; None, NaN and NaT are missing.

    Returns:
        A member of `vocabulary(derived)`, or None.

    Raises:
        ValueError: Not a timestamp.
    """
    if value is None or value != value:  # NaN and NaT differ from themselves
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise ValueError("not a timestamp")
    if value.tzinfo is not None:
        try:
            value = value.astimezone(UTC)
        except OverflowError as error:
            raise ValueError("not a timestamp in UTC") from error
    return HOURS[value.hour] if derived.part == "hour" else WEEKDAYS[value.weekday()]


def parts(derived: Derived, column: npt.NDArray[np.datetime64]) -> Sequence[str | None]:
    """The categories that a column of timestamps falls into.

    Args:
        derived: Which part.
        column: (n,) datetime64 in UTC; NaT is missing.

    Returns:
        n categories, None where missing.
    """
    missing = np.isnat(column)
    days = column.astype("datetime64[D]")
    if derived.part == "hour":
        index = (column.astype("datetime64[h]") - days.astype("datetime64[h]")).astype(np.int64)
    else:
        # 1970-01-01 was a Thursday.
        index = (days.astype(np.int64) + 3) % 7
    names = vocabulary(derived)
    return [None if gone else names[i] for gone, i in zip(missing, np.where(missing, 0, index), strict=True)]
