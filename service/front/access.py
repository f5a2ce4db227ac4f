"""Which path takes a key of which role, and which is answered on the port for operators."""

import re

from service.front.key import Role

HEALTH = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
"""Balancers and probes ask these, without a key."""
METRICS = "/metrics"
_CHANGES = re.compile(r"/v2/repository/models/[^/]+/(load|unload)")


def needed(path: str) -> Role | None:
    """The role that a path takes, whether or not there is anything there; None where anybody may ask."""
    if path in HEALTH:
        return None
    return Role.ADMIN if _CHANGES.fullmatch(path) else Role.SCORE


def is_here(path: str, *, operators: bool) -> bool:
    """Where operators have a port of their own: whether a path may be answered on it, or on the other one.

    Args:
        path: Of the request, whether or not there is anything there.
        operators: Whether it was asked on the port for operators, which takes no key.
    """
    if operators:
        return path == METRICS or path in HEALTH
    return path != METRICS
