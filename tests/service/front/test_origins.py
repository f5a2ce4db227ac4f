"""Browsers: no page of another site changes anything, under whatever name it reaches the service."""

import socket
from pathlib import Path
from typing import TypedDict, Unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ForeignOrigin, HostInvalid, UnknownHost
from service.front import access
from service.front.origins import Origins
from service.settings import Settings
from service.wire.asgi import Scope
from tests.conftest import NAME, in_process

WRITES = ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"]
OPEN, LOCKED = (Origins("0.0.0.0", "scores.example.com, Service", locked=locked) for locked in (False, True))


class Source(TypedDict, total=False):
    """Headers that say which page asks."""

    origin: str | list[str]
    sec_fetch_site: str | list[str]


class Headers(Source, total=False):
    """And whom it asks."""

    host: str | list[str]


class Own(Headers, total=False):
    """And over what."""

    scheme: str


def asked(method: str = "POST", path: str = "/score", scheme: str = "http", **headers: Unpack[Headers]) -> Scope:
    """A request whose headers are given by name, several of one name as a list."""
    sent = []
    for name, values in headers.items():
        assert isinstance(values, str | list)
        for value in [values] if isinstance(values, str) else values:
            sent.append((name.replace("_", "-").encode(), value.encode("latin-1")))
    return {"type": "http", "method": method, "path": path, "scheme": scheme, "headers": sent}


def check(scope: Scope, origins: Origins = OPEN) -> None:
    origins.check(scope, dict(scope["headers"]))


OWN_HOSTS = ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "10.1.2.3", "[fd00::1]", "service:8000"]


@pytest.mark.parametrize("host", [*OWN_HOSTS, "scores.example.com", "scores.example.com.:443", socket.gethostname()])
def test_the_service_answers_to_its_names_and_to_every_address(host: str) -> None:
    check(asked(host=host))
    check(asked("GET", "/models", host=host))


FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example#localhost",
    "evil.example/localhost",
    "localhost@evil.example",
    "evil.example@localhost",
    "localhost:99999",
    "localhost:x",
    "[::1",
    "127.1",
    "2130706433",
    "a.service",
    "",
]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_keys_no_other_name_is_answered_but_for_health(host: str, method: str) -> None:
    with pytest.raises((UnknownHost, HostInvalid)):
        check(asked(method, host=host))
    for path in access.HEALTH:
        check(asked("GET", path, host=host))
    check(asked(method, host=host), LOCKED)  # a key is what no page of another site has


@given(st.from_regex(r"[a-z0-9-]+(\.[a-z0-9-]+)+\.[a-z]+(:[0-9]{1,4})?", fullmatch=True))
def test_no_name_that_a_name_server_knows_is_answered_unless_it_is_given(host: str) -> None:
    if host.partition(":")[0] != socket.gethostname().lower():
        with pytest.raises(UnknownHost):
            check(asked(host=host))


def test_one_host_is_named() -> None:
    with pytest.raises(HostInvalid):
        check(asked())
    check(asked("GET", "/healthz"))
    for origins in (OPEN, LOCKED):
        with pytest.raises(HostInvalid):
            check(asked(host=["localhost", "localhost"]), origins)


OWN_ORIGINS: list[Own] = [
    {"origin": "http://localhost:8000", "host": "localhost:8000"},
    {"origin": "HTTP://LocalHost", "host": "localhost:80"},
    {"origin": "https://127.0.0.1", "host": "127.0.0.1:443", "scheme": "https"},
    {"origin": "http://[::1]:8000", "host": "[::1]:8000"},
    {"origin": "https://scores.example.com", "host": "scores.example.com"},  # a proxy speaks HTTPS for it
    {"origin": "https://scores.example.com", "host": "10.0.0.1:8000"},
    {"host": "localhost"},
    {"host": "localhost", "sec_fetch_site": "same-origin"},
    {"host": "localhost", "sec_fetch_site": "none"},
]
FOREIGN_ORIGINS: list[Source] = [
    {"origin": "null"},
    {"origin": ""},
    {"origin": "https://evil.example"},
    {"origin": "http://localhost"},
    {"origin": "http://localhost:3000"},
    {"origin": "https://localhost:8000"},
    {"origin": "http://127.0.0.1:8000"},
    {"origin": "http://localhost:8000.evil.example"},
    {"origin": "http://localhost:8000@evil.example"},
    {"origin": "http://scores.example.com:3000"},
    {"origin": "http://a.scores.example.com"},
    {"origin": "file://localhost:8000"},
    {"origin": "localhost:8000"},
    {"origin": ["http://localhost:8000", "https://evil.example"]},
    {"origin": ["https://evil.example", "http://localhost:8000"]},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "Same-Site"},
    {"sec_fetch_site": ["cross-site", "none"]},
]


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("origins", [OPEN, LOCKED], ids=["open", "locked"])
def test_only_the_services_own_pages_change_anything(method: str, origins: Origins) -> None:
    for own in OWN_ORIGINS:
        check(asked(method, **own), origins)
    for foreign in FOREIGN_ORIGINS:
        with pytest.raises(ForeignOrigin):
            check(asked(method, host="localhost:8000", **foreign), origins)
        check(asked("GET", "/models", host="localhost:8000", **foreign), origins)


@given(st.text(alphabet=st.characters(max_codepoint=255)), st.text(alphabet=st.characters(max_codepoint=255)))
def test_whatever_is_sent_is_refused_by_name(host: str, origin: str) -> None:
    with pytest.raises((UnknownHost, HostInvalid, ForeignOrigin)):
        check(asked(host=host + "!", origin=origin))


async def test_every_route_is_behind_it_and_the_refusal_names_the_setting(models: Path) -> None:
    async with in_process(Settings(models=models, ops_port=1)) as (client, app):
        unload = f"/v2/repository/models/{NAME}/unload"
        for path in ("/score", f"/models/{NAME}/score", "/v2/repository/index", unload):
            answer = await client.post(path, headers={"Origin": "https://evil.example"}, json={})
            assert (answer.status_code, answer.json().get("type", "foreign-origin")) == (403, "foreign-origin"), path
            answer = await client.post(path, headers={"Host": "evil.example"}, json={})
            assert answer.status_code == 403, path
        for path in ("/models", "/docs", "/openapi.json", "/v2", "/nowhere"):
            answer = await client.get(path, headers={"Host": "evil.example"})
            assert answer.status_code == 403, path
            assert "SURPRISAL_HOSTS" in answer.text
            assert "evil" not in answer.text
        assert (await client.get("/readyz", headers={"Host": "10.0.0.1"})).status_code == 200
        assert app.models.not_ready() is None
