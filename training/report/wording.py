"""Names and numbers as the report writes them."""

import math

import numpy as np
import numpy.typing as npt

from bundle.fields import MISSING, UNKNOWN, AnyField
from training.report.expectation import Expected

LONGEST = 48
"""Characters of a name or a category that are shown."""
_LEAST_SHARE = 10.0
"""A field that is further off than this is off, by whatever number."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def shown(text: str, longest: int = LONGEST) -> str:
    """A text of the data's, without what cannot be printed, and cut if need be.

    >>> shown("two" + chr(10) + "lines", 5)
    'two�…'
    """
    plain = "".join(letter if letter.isprintable() else _REPLACEMENT for letter in text[: longest + 1])
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def number(value: float) -> str:
    """A number with as many digits as are worth reading.

    >>> number(1234.5678), number(0.000012345), number(3.0), number(-0.0)
    ('1,235', '1.234e−05', '3', '0')
    """
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value + 0.0:.4g}"
    return _with_true_minus(text)


def nats(amount: float) -> str:
    """An amount of surprisal, to a hundredth of a nat.

    >>> nats(70.178), nats(-0.001)
    ('70.18', '0.00')
    """
    return _with_true_minus(f"{round(amount, 2) + 0.0:,.2f}")


def percent(share: float | None) -> str:
    """A share as a percentage; a dash where there is none.

    >>> percent(0.5), percent(0.0123), percent(1e-5), percent(0.0), percent(-1e6), percent(None)
    ('50%', '1.2%', 'under 0.1%', '0%', 'under −1,000%', '–')
    """
    if share is None or not math.isfinite(share):
        return "–"
    if share < -_LEAST_SHARE:
        return _with_true_minus(f"under {-_LEAST_SHARE:,.0%}")
    if 0 < share < 0.0005:
        return "under 0.1%"
    return _with_true_minus(f"{share:.1%}" if 0 < abs(share) < 0.1 else f"{share:.0%}")


def value(field: AnyField, cell: np.generic) -> str:
    """A field's value as it stands in the graph's input.

    Args:
        field: The field.
        cell: A number, NaN where it is missing, or a code.
    """
    match field.kind:
        case "numeric":
            return "missing" if np.isnan(float(cell)) else number(float(cell))
        case "boolean":
            return {MISSING: "missing", 0: "false", 1: "true"}[int(cell)]
        case "categorical":
            code = int(cell)
            return {MISSING: "missing", UNKNOWN: "unknown"}.get(code) or shown(field.vocabulary[code - 1])


def expectation(field: AnyField, expected: Expected, row: int) -> str:
    """What is expected of a field of one record: a number with its deviation, or the likeliest value.

    Args:
        field: The field.
        expected: Of B records.
        row: Which of them.
    """
    found: npt.NDArray[np.float64] = expected.values[row]
    match field.kind:
        case "numeric":
            mean, deviation = found[0] * field.scale + field.mean, expected.deviation[row] * field.scale
            return f"{number(mean)} ± {number(deviation)}"
        case "boolean":
            true = float(found[0])
            return f"true ({true:.0%})" if true >= 0.5 else f"false ({1 - true:.0%})"
        case "categorical":
            code = int(found.argmax())
            return f"{value(field, np.int64(code))} ({found[code]:.0%})"


def _with_true_minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
