"""An API key, as far as it is kept."""

from enum import StrEnum
from typing import NamedTuple


class Role(StrEnum):
    """What a key is good for; `admin` for all."""

    SCORE = "score"
    ADMIN = "admin"


class Key(NamedTuple):
    """One key.

    Args:
        digest: Its SHA-256.
        role: What it is good for.
    """

    digest: bytes
    role: Role
