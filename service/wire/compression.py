"""The content coding of an answer (RFC 9110, section 8.4): gzip or deflate, where the client asks for it."""

import zlib
from typing import Literal

from service.wire.asgi import Headers

Coding = Literal["gzip", "deflate"]

LEAST_BYTES = 2**10
"""Answers of at most so many bytes are sent as they are."""
_LEVEL = 1  # floats hardly shrink any further
_WINDOW: dict[Coding, int] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def asked(headers: Headers) -> Coding | None:
    """The coding that `Accept-Encoding` gives the most weight (RFC 9110, section 12.5.3); None for no coding.

    `*` and `x-gzip` mean gzip, and gzip comes first where the weights leave a choice.
    """
    given = headers.get(b"accept-encoding")
    if given is None:
        return None
    weights = weighed(given.decode("latin-1"))
    of_gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    best, weight = _heavier(("gzip", of_gzip), ("deflate", weights.get("deflate", 0.0)))
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else None


def worthwhile(body: bytes) -> bool:
    """Whether an answer is compressed where the client asks for it."""
    return len(body) > LEAST_BYTES


def compress(body: bytes, coding: Coding) -> bytes:
    """Compress an answer."""
    return zlib.compress(body, _LEVEL, _WINDOW[coding])


def weighed(accepted: str) -> dict[str, float]:
    """What a header of preferences names, each with its weight (RFC 9110, section 12.4.2).

    Args:
        accepted: Names with parameters, separated by commas. A weight that is no number is 0; no name means `*/*`.
    """
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        weights[name or "*/*"] = weight
    return weights


def _heavier(first: tuple[Coding, float], second: tuple[Coding, float]) -> tuple[Coding, float]:
    return second if second[1] > first[1] else first
