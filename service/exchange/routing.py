"""Which path leads where."""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from service.errors import MethodNotAllowed
from service.exchange.exchange import Exchange


class Route(NamedTuple):
    """A path and what answers it.

    Args:
        path: With `{name}` and `{version}` where those stand, as metrics name it.
        method: The one that it takes; GET means HEAD too.
        handler: What answers; every refusal is raised as a `ServiceError`.
    """

    path: str
    method: str
    handler: Callable[[Exchange], Awaitable[None]]

    def refuse(self, method: str) -> None:
        """Refuse a method that the path does not take.

        Raises:
            MethodNotAllowed: It is another one.
        """
        # A server leaves the body of the answer to a HEAD away by itself.
        if method != self.method and (method, self.method) != ("HEAD", "GET"):
            allow = "GET, HEAD" if self.method == "GET" else self.method
            raise MethodNotAllowed(f"this path takes {self.method}", allow=allow)


class Found(NamedTuple):
    """What a path leads to.

    Args:
        route: What answers.
        name: The model that the path names, or None.
        version: The version that it names, or None.
    """

    route: Route
    name: str | None
    version: str | None


class Routes:
    """All routes that are answered without the framework.

    Args:
        routes: A path without a name comes before those with one.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self.every = tuple(routes)
        self._plain: dict[str, Found] = {}
        self._named: list[tuple[re.Pattern[str], Route]] = []
        for route in self.every:
            if "{" in route.path:
                self._named.append((re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route.path)), route))
            else:
                self._plain[route.path] = Found(route, None, None)

    def find(self, path: str) -> Found | None:
        """What a path leads to; None where it leads nowhere."""
        if (plain := self._plain.get(path)) is not None:
            return plain
        for pattern, route in self._named:
            matched = pattern.fullmatch(path)
            if matched is not None:
                named = matched.groupdict()
                return Found(route, named.get("name"), named.get("version"))
        return None


def with_version(path: str) -> tuple[str, str]:
    """A path of a model, and the same of one of its versions.

    Args:
        path: With `{name}` in it.
    """
    return path, path.replace("{name}", "{name}/versions/{version}")
