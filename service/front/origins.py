"""Which host names the service answers to, and whose pages may change something: what browsers must not be used for."""

import socket
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from service.errors import ForeignOrigin, HostInvalid, UnknownHost
from service.front import access
from service.wire.asgi import Headers, Scope

_READS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_FOREIGN_SITES = frozenset({b"cross-site", b"same-site"})
_PORTS = {"http": 80, "https": 443}


class Origins:
    """Refuses what a page of another site has a browser send.

    Args:
        listening: The address that the service listens on, or its name.
        hosts: Further names of it, separated by commas.
        locked: Whether keys are asked for, which no browser sends by itself.
    """

    def __init__(self, listening: str, hosts: str | None, *, locked: bool) -> None:
        given = (name.strip().lower().rstrip(".") for name in (hosts or "").split(","))
        self._given = frozenset(filter(None, given))
        self._names = self._given | {"localhost", listening.lower(), socket.gethostname().lower()}
        self._locked = locked
        self._knows = lru_cache(256)(self._looked_up)
        self._owns = lru_cache(256)(self._compared)

    def check(self, scope: Scope, headers: Headers) -> None:
        """Look at a request's head, before anything else is done for it.

        Args:
            scope: The request's.
            headers: Its headers, by lower-case name.

        Raises:
            HostInvalid: It names no host, or two.
            UnknownHost: It is for a name that is none of the service's.
            ForeignOrigin: A page of another site wants to change something.
        """
        if len(headers) != len(scope["headers"]):
            _refuse_doubles(scope)
        host = headers.get(b"host")
        if not self._locked and (host is None or not self._knows(host)) and scope["path"] not in access.HEALTH:
            if not host:
                raise HostInvalid("a request names its host, in one Host header", close=True)
            raise UnknownHost(
                "the service does not answer to the name in Host; SURPRISAL_HOSTS lists its names", close=True
            )
        if scope["method"] not in _READS and (b"origin" in headers or b"sec-fetch-site" in headers):
            origin = headers.get(b"origin")
            if origin is None:
                own = headers[b"sec-fetch-site"].strip().lower() not in _FOREIGN_SITES
            else:
                own = self._owns(origin, scope.get("scheme", "http"), host or b"")
            if not own:
                raise ForeignOrigin(
                    "a page of another origin may not send this; SURPRISAL_HOSTS lists the service's names", close=True
                )

    def _looked_up(self, host: bytes) -> bool:
        name, _ = _split(host.decode("latin-1"), 0)
        # An address is what the browser has connected to: no name server comes between.
        return name in self._names or _is_address(name)

    def _compared(self, origin: bytes, scheme: str, host: bytes) -> bool:
        from_scheme, separator, place = origin.decode("latin-1").lower().partition("://")
        port = _PORTS.get(from_scheme)
        if not separator or port is None:
            return False
        name, from_port = _split(place, port)
        asked, asked_port = _split(host.decode("latin-1"), _PORTS.get(scheme, 0))
        if not name:
            return False
        if (from_scheme, name, from_port) == (scheme, asked, asked_port):
            return True
        # Behind a proxy that speaks HTTPS for it the service sees neither the scheme nor, perhaps, the port.
        return name in self._given and from_port in (port, asked_port)


def _refuse_doubles(scope: Scope) -> None:
    names = [name for name, _ in scope["headers"]]
    if names.count(b"host") > 1:
        raise HostInvalid("a request names its host, in one Host header", close=True)
    if scope["method"] not in _READS and max(names.count(b"origin"), names.count(b"sec-fetch-site")) > 1:
        raise ForeignOrigin("a request has one origin", close=True)


def _split(place: str, port: int) -> tuple[str, int]:
    """Name and port of what stands in `Host`; no name where it is malformed.

    Args:
        place: The text.
        port: Where it names none.
    """
    try:
        parts = urlsplit(f"//{place}")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            return "", port
        return (parts.hostname or "").rstrip("."), parts.port if parts.port is not None else port
    except ValueError:
        return "", port


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
