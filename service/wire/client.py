"""Who asks: what is shared out fairly is shared out between clients, not between requests or connections."""

from collections.abc import Iterable
from contextvars import ContextVar
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from service.settings import networks

CURRENT: ContextVar[str] = ContextVar("client", default="")
"""The client that this code works for: its key's digest where it has one, else the address of its peer."""

RawHeaders = Iterable[tuple[bytes, bytes]]
_Address = IPv4Address | IPv6Address
_SITE_BITS = 64
"""Of an IPv6 address: whoever has one has the 2^64 that begin alike, and must not count as so many clients."""


class Peer(NamedTuple):
    """Whom a connection is with.

    Args:
        client: The name that its requests are counted under.
        trusted: Whether it is a proxy that says for whom it asks.
    """

    client: str
    trusted: bool


class Clients:
    """Tells clients apart.

    Args:
        proxies: Addresses and networks of those that are believed, separated by commas; see `settings.networks`.
    """

    def __init__(self, proxies: str | None) -> None:
        self._proxies = networks(proxies or "")
        self._peer = lru_cache(4096)(self._looked_up)

    def named(self, peer: tuple[str, int] | None, headers: RawHeaders) -> str:
        """The client of a request without a key.

        Args:
            peer: Address and port of the other end of its connection; None where that has none.
            headers: Its headers, by lower-case name, each as often as it was sent.
        """
        if peer is None:
            return ""
        client, trusted = self._peer(peer[0])
        return self._forwarded(client, headers) if trusted else client

    def _looked_up(self, host: str) -> Peer:
        address = _parsed(host)
        return Peer("", trusted=False) if address is None else Peer(_client(address), self._trusts(address))

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._proxies)

    def _forwarded(self, proxy: str, headers: RawHeaders) -> str:
        """The nearest address that is no trusted proxy: what stands left of it is the client's own invention."""
        sent = b",".join(value for name, value in headers if name == b"x-forwarded-for")
        client = proxy
        for part in reversed(sent.decode("latin-1").split(",")):
            address = _parsed(_without_port(part.strip()))
            if address is None:  # the nearest one that was still understood answers for it
                return client
            client = _client(address)
            if not self._trusts(address):
                return client
        return client


def _parsed(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _client(address: _Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((int(address), _SITE_BITS), strict=False))


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
