"""The content coding of an answer (RFC 9110, section 8.4): gzip or deflate, where the client asks for it."""

import zlib
from typing import Literal

from service.wire.asgi import Headers

Coding = Literal["gzip", "deflate"]

_LEVEL = 1  # floats hardly shrink any further
_WINDOW: dict[Coding, int] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def asked(headers: Headers) -> Coding | None:
    """The coding that `Accept-Encoding` asks for by name, by weight; None for the answer as it is."""
    given = headers.get(b"accept-encoding")
    if given is None:
        return None
    weights: dict[str, float] = {}
    for part in given.decode("latin-1").lower().split(","):
        name, _, parameter = part.partition(";")
        weights[name.strip()] = _weight(parameter)
    best: Coding | None = None
    weight = weights.get("identity", 0.0)
    for coding in _WINDOW:
        if weights.get(coding, 0.0) > weight:
            best, weight = coding, weights[coding]
    return best


def compress(body: bytes, coding: Coding) -> bytes:
    """Compress an answer."""
    return zlib.compress(body, _LEVEL, _WINDOW[coding])


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
