"""Categories: each has one spelling, however a format or a program writes it."""

import math
import re

import numpy as np

_EXACT = 2**53
"""Beyond it float64 tells whole numbers apart no longer."""
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d*)?(?:\.\d*)?(?:[eE][-+]?\d+)?")
"""Without zeros before it, which only codes have."""


def category_text(value: object) -> str | None:
    """The text by which a category is known: numbers and booleans have one spelling each.

    Args:
        value: Text, an integer, a float, a boolean, or None.

    Returns:
        The text; None where the value is missing (None or NaN).

    Raises:
        TypeError: Another type.

    >>> [category_text(v) for v in ("a", 7, 7.0, True, None)]
    ['a', '7', '7', 'true', None]
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer) and not isinstance(value, np.timedelta64):
        return str(int(value))
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return None
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    raise TypeError(type(value).__name__)


def number_spelling(text: str) -> str | None:
    """The spelling of a category that is a number.

    Args:
        text: As a program wrote it.

    Returns:
        The same for 1, 1.0 and 1e0; None where the text is no number, or a code as 007.

    >>> [number_spelling(text) for text in ("1", "1.0", "-0.50", "007", "a")]
    ['1', '1', '-0.5', None, None]
    """
    text = text.strip()
    if not _NUMBER.fullmatch(text) or not any(map(str.isdigit, text)):
        return None
    if text.lstrip("+-").isdigit():
        return str(int(text)) if len(text) <= 300 else None
    value = float(text)
    if not math.isfinite(value):
        return None
    return category_text(value if abs(value) <= _EXACT or not value.is_integer() else int(value))
