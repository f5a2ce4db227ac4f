"""Names and numbers as the report writes them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bundle.record.fields import MISSING, UNKNOWN, TableField

_SCORES = {
    "elbo": "\N{MINUS SIGN}ELBO",
    "iwae": "\N{MINUS SIGN}IWAE bound",
    "reconstruction": "\N{MINUS SIGN}log reconstruction probability",
    "expected_log_likelihood": "\N{MINUS SIGN}expected log-likelihood",
}
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


def score(name: str) -> str:
    """An anomaly score as pages call it: with a minus where it is a bound or a likelihood the other way round.

    >>> score("elbo"), score("combined")
    ('−ELBO', 'combined')
    """
    return _SCORES.get(name, name)


def rate(share: float) -> str:
    """A false-alarm rate, which somebody has chosen, as a percentage with all of its digits.

    >>> rate(0.01), rate(0.0025), rate(0.3)
    ('1%', '0.25%', '30%')
    """
    return f"{100 * share:g}%"


def count(number: int, noun: str) -> str:
    """So many of a thing.

    >>> count(1, "row"), count(2744, "row")
    ('1 row', '2,744 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """How long something took, in its two largest units.

    >>> duration(0.2), duration(133), duration(3725)
    ('under 1 s', '2 min 13 s', '1 h 2 min')
    """
    if seconds < 1:
        return "under 1 s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def value(field: TableField, cell: np.generic) -> str:
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


def expectation(said: Mapping[str, Any]) -> str:
    """What is expected of a field: a number with its interval, or the likeliest value with its probability.

    Args:
        said: What `bundle.contents.explanation.Explanations.field` says of it.

    >>> expectation({"expected": 2.0, "interval": [1.0, 3.0]})
    '2 (1 to 3)'
    >>> expectation({"expected": None, "likely": [{"value": None, "probability": 0.5}]})
    'unknown (50%)'
    """
    if "interval" in said:
        low, high = said["interval"]
        return f"{number(said['expected'])} ({number(low)} to {number(high)})"
    likeliest = said["likely"][0]
    named = {None: "unknown", True: "true", False: "false"}
    text = named[likeliest["value"]] if likeliest["value"] in named else shown(likeliest["value"])
    return f"{text} ({likeliest['probability']:.0%})"


def _with_true_minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")
