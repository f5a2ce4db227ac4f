"""Who asks: what is shared out fairly is shared out between clients, not between requests or connections."""

from contextvars import ContextVar

CURRENT: ContextVar[str] = ContextVar("client", default="")
"""The client that this code works for: its key's digest where it has one, else the address of its peer."""
