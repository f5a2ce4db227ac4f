"""The sockets that a service listens on."""

import errno
import logging
import socket

from service.process.acceptor import BACKLOG
from service.settings import Settings

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Of a name that means several addresses, some may be of a network that this machine lacks."""

log = logging.getLogger("surprisal.server")


def public(settings: Settings) -> list[socket.socket]:
    """Sockets on all addresses that the host's name means.

    Raises:
        OSError: None can be listened on, or one is taken.
    """
    flags = socket.AI_PASSIVE
    found = socket.getaddrinfo(settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=flags)
    opened: list[socket.socket] = []
    port = settings.port
    missing: OSError | None = None
    try:
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            try:
                listening = socket.create_server((address[0], port, *address[2:]), family=family, backlog=BACKLOG)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
                continue
            opened.append(listening)
            port = listening.getsockname()[1]  # of a free one, the same for all
        if missing is not None and not opened:
            raise missing
    except BaseException:
        for listening in opened:
            listening.close()
        raise
    return opened


def operators(settings: Settings) -> socket.socket | None:
    """A socket that listens on the port for operators; None where there is no such port.

    Raises:
        OSError: It cannot be listened on; `filename` is the address.
    """
    if settings.ops_port is None:
        return None
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.ops_port), family=family)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{settings.host}:{settings.ops_port}") from error
    log.info("health and metrics are answered on %s, without a key", url(listening, "http"))
    return listening


def url(listening: socket.socket, scheme: str) -> str:
    """Where a socket is asked."""
    host, port = listening.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def here(address: str) -> str:
    """An address as this machine can ask it: one that means all networks is no host to ask.

    Args:
        address: As `url` gives it.
    """
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
