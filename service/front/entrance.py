"""Who may enter: by which name, from whose page, on which port, with which key."""

from service.errors import RouteNotFound
from service.front import access
from service.front.keys import KeyRing
from service.front.origins import Origins
from service.wire.asgi import Headers, Scope
from service.wire.client import Clients

OPERATORS = "surprisal.operators"
"""In the scope of what is asked on the port for operators."""


class Entrance:
    """Lets requests in, and tells whose they are.

    Args:
        keys: Who may ask.
        clients: Who asks.
        origins: By which names, and from whose pages.
        two_ports: Whether operators have a port of their own.
    """

    def __init__(self, keys: KeyRing, clients: Clients, origins: Origins, *, two_ports: bool) -> None:
        self._keys = keys
        self._clients = clients
        self._origins = origins
        self._two_ports = two_ports

    def admit(self, scope: Scope, headers: Headers) -> str | None:
        """Who asks; None on the port for operators.

        Args:
            scope: The request's.
            headers: Its headers, by lower-case name.

        Raises:
            ServiceError: The request may not come in here.
        """
        path, operators = scope["path"], OPERATORS in scope
        client = None
        if not operators:
            self._origins.check(scope, headers)
            client = self._client(scope)
        if self._two_ports and not access.is_here(path, operators=operators):
            if operators:
                raise RouteNotFound("health and metrics alone are answered on this port")
            raise RouteNotFound(f"{access.METRICS} is answered on the port of SURPRISAL_OPS_PORT alone")
        return client

    def _client(self, scope: Scope) -> str:
        """Where keys are asked for, whoever has none that is good for this is refused."""
        role = access.needed(scope["path"]) if self._keys.locked else None
        if role is None:
            return self._clients.named(scope.get("client"), scope["headers"])
        return f"key:{self._keys.require(scope['headers'], role).hex()}"
