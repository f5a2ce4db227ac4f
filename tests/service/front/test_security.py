"""Strangers: who may ask what, with which key, on which port, over what."""

import errno
import hashlib
import itertools
import logging
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import SecretStr

from bundle.folder import small_file
from service.errors import KeyMissing
from service.front import access
from service.front.app import Application
from service.front.key import Role
from service.front.keys import KeyRing, KeysInvalid, parse
from service.settings import Settings
from tests.conftest import NAME, free_port, in_process, running
from tests.service.process.test_server import serve

SCORE, ADMIN = "score-key-of-20-chars", "admin-key-of-20-chars"
HASHED = f"sha256:{hashlib.sha256(ADMIN.encode()).hexdigest()}"
KEYS = f"# who asks\nscore {SCORE}\n\nadmin {HASHED}  # on call\n"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file with a key of each role."""
    (tmp_path / "keys").write_text(KEYS)
    return tmp_path / "keys"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def every_route(app: Application, document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Method and path of the routes of FastAPI, of those beside it, and of the document."""
    for route in app.api.routes:
        yield "GET" if not isinstance(route, APIRoute) else next(iter(route.methods or ())), getattr(route, "path", "")
    for beside in app.routes.every:
        yield beside.method, beside.path
    for path, operations in document["paths"].items():
        for method in operations:
            yield method.upper(), path
    for method, path in (
        ("GET", "/nowhere"),
        ("POST", "/v2/nowhere"),
        ("DELETE", "/score"),
        ("GET", "/docs/"),
        ("GET", "/"),
    ):
        yield method, path


def concrete(path: str) -> str:
    return path.replace("{name}", NAME).replace("{version}", "1").replace("{path:path}", "x")


async def test_no_key_a_wrong_one_and_one_of_the_wrong_role_on_every_route(models: Path, keys: Path) -> None:
    async with in_process(Settings(models=models, keys_file=keys)) as (client, app):
        document = (await client.get("/openapi.json", headers=bearer(SCORE))).json()
        assert document["paths"]["/score"]["post"]["security"] == [{"key": []}]
        assert "401" in document["paths"]["/models"]["get"]["responses"]
        assert "security" not in document["paths"]["/healthz"]["get"]
        assert "403" in document["paths"]["/v2/repository/models/{name}/load"]["post"]["responses"]
        routes = set(every_route(app, document))
        assert len(routes) > 30
        for method, path in routes:
            where = concrete(path)
            statuses = []
            for headers in ({}, bearer("nobody-knows-this-key"), {"Authorization": f"Basic {SCORE}"}):
                answer = await client.request(method, where, headers=headers)
                statuses.append(answer.status_code)
                if answer.status_code == 401:
                    assert answer.headers["www-authenticate"].startswith("Bearer")
            if where in access.HEALTH:
                assert 401 not in statuses, where
            else:
                assert statuses == [401] * 3, where
            if where.endswith("/unload"):
                assert (await client.request(method, where, headers=bearer(SCORE))).status_code == 403
            elif where not in access.HEALTH and not where.endswith("/load"):
                for key in (SCORE, ADMIN):
                    answer = await client.request(method, where, headers=bearer(key))
                    assert answer.status_code not in (401, 403), where
        assert (await client.post(f"/v2/repository/models/{NAME}/load", headers=bearer(SCORE))).status_code == 403
        assert (await client.post(f"/v2/repository/models/{NAME}/load", headers=bearer(ADMIN))).status_code == 200
        refused = await client.get("/models")
        assert refused.json()["type"] == "unauthorized"
        assert refused.headers["connection"] == "close"


async def test_who_is_refused_counts_under_the_route_that_was_asked(models: Path, keys: Path) -> None:
    async with in_process(Settings(models=models, keys_file=keys)) as (client, app):

        def counted(route: str, status: str) -> float:
            return app.metrics.total("surprisal_http_requests_total", route=route, status=status)

        assert (await client.post(f"/models/{NAME}/score")).status_code == 401
        assert (await client.post(f"/v2/models/{NAME}/infer")).status_code == 401
        assert (await client.get("/score", headers=bearer(SCORE))).status_code == 405
        assert (await client.post("/v2/nowhere")).status_code == 401
        assert counted("/models/{name}/score", "401") == 1
        assert counted("/v2/models/{name}/infer", "401") == 1
        assert counted("/score", "405") == 1
        assert counted("unmatched", "401") == 1


async def test_without_keys_nobody_is_asked_for_one(client: httpx.AsyncClient) -> None:
    assert (await client.get("/models")).status_code == 200
    assert (await client.get("/models", headers=bearer("anything"))).status_code == 200


def test_keys_are_changed_without_a_restart_and_a_fault_changes_nothing(
    keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(Settings(keys_file=keys))

    def good(key: str) -> bool:
        try:
            ring.require([(b"authorization", b"Bearer " + key.encode())], Role.SCORE)
        except Exception:  # noqa: BLE001 - whichever it is
            return False
        return True

    times = itertools.count(1)

    def write(text: str) -> None:
        keys.write_text(text)
        os.utime(keys, ns=(0, next(times)))
        ring.refresh()

    assert good(SCORE)
    write(f"{KEYS}score another-key-of-20-chars\n")
    assert good(SCORE)
    assert good("another-key-of-20-chars")
    write("score another-key-of-20-chars\n")
    assert not good(SCORE)
    with caplog.at_level(logging.ERROR):
        for broken in ("score short\n", "root another-key-of-20-chars\n", "", "# none\n"):
            write(broken)
            ring.refresh()
        keys.unlink()
        os.mkfifo(keys)
        ring.refresh()
    assert good("another-key-of-20-chars")
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == [
        "a key has 16 characters of ASCII or more",
        "a role (score or admin) and a key are expected, as `score sha256:…`",
        f"{keys} holds none",
        "it is no plain file but a pipe",
    ]
    assert "short" not in caplog.text


def test_a_file_that_could_not_be_read_for_a_while_is_read_as_it_is(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time and size are those that were seen when it could not be read."""
    ring = KeyRing(Settings(keys_file=keys))
    keys.write_text("score another-key-of-20-chars\n")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        ring.refresh()
    ring.refresh()
    ring.require([(b"authorization", b"Bearer another-key-of-20-chars")], Role.SCORE)


@pytest.mark.parametrize(
    "headers",
    [
        [b"Bearer nobody-knows-this-key", b"Bearer " + SCORE.encode()],
        [b"Bearer " + SCORE.encode(), b"Bearer nobody-knows-this-key"],
        [b"Bearer " + SCORE.encode()] * 2,
    ],
)
def test_of_two_keys_none_counts(keys: Path, headers: list[bytes]) -> None:
    with pytest.raises(KeyMissing):
        KeyRing(Settings(keys_file=keys)).require([(b"authorization", each) for each in headers], Role.SCORE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("score", "line 1: a role (score or admin) and a key are expected"),
        ("\nowner 0123456789abcdef", "line 2: a role"),
        ("score a key with spaces", "line 1: a role"),
        ("score sha256:0123", "64 digits"),
        ("score 0123456789abcde", "16 characters"),
        ("score 0123456789abcdefé", "ASCII"),
        (f"score SHA256:{'0' * 64}", "in small letters"),
        (f"score {'0' * 64}", "in small letters"),
    ],
)
def test_what_is_no_key_is_said_and_not_quoted(text: str, said: str) -> None:
    with pytest.raises(KeysInvalid, match=re.escape(said)) as caught:
        parse(text, "keys")
    assert "0123456789abcde" not in str(caught.value)


def test_only_digests_are_kept(keys: Path) -> None:
    ring = KeyRing(Settings(keys_file=keys, keys=f"score {SCORE}, admin {HASHED}"))
    assert SCORE not in repr(vars(ring))
    assert SCORE not in repr(Settings(keys=f"score {SCORE}"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_that_cannot_read_its_keys_does_not_start_open(models: Path, tmp_path: Path, workers: int) -> None:
    os.environ["SURPRISAL_KEYS_FILE"] = str(tmp_path / "none")
    try:
        result = serve("--models", str(models), "--port", "0", "--workers", str(workers))
    finally:
        del os.environ["SURPRISAL_KEYS_FILE"]
    assert result.returncode == 1
    assert "the keys cannot be used" in result.stderr
    assert "Traceback" not in result.stderr


def test_keys_that_nobody_has_are_named_by_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    for settings, said in (
        (Settings(keys_file=tmp_path / "keys"), f"{tmp_path}/keys holds none, so that nobody could ask"),
        (Settings(keys=SecretStr("#")), "SURPRISAL_KEYS holds none, so that nobody could ask"),
    ):
        with pytest.raises(KeysInvalid, match=said):
            KeyRing(settings)

    def refused(path: Path) -> bytes:  # No right is missing to who runs tests as root.
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(small_file, "read", refused)
    with pytest.raises(KeysInvalid, match=f"keys: the user {os.geteuid()}, who runs this, may not read it"):
        KeyRing(Settings(keys_file=tmp_path / "keys"))


@pytest.mark.parametrize("workers", [1, 2])
def test_operators_have_a_port_of_their_own(models: Path, keys: Path, workers: int) -> None:
    port = free_port()
    options = {"SURPRISAL_OPS_PORT": str(port), "SURPRISAL_KEYS_FILE": str(keys), "SURPRISAL_DRAIN_SECONDS": "0"}
    with running(models, workers, environment=options) as (process, url):
        operators = f"http://127.0.0.1:{port}"
        for path in access.HEALTH:
            assert httpx.get(f"{operators}{path}").status_code == 200
            assert httpx.get(f"{url}{path}").status_code == 200
        assert "surprisal_workers" in httpx.get(f"{operators}/metrics").text
        assert httpx.get(f"{url}/metrics").status_code == 401
        missed = httpx.get(f"{url}/metrics", headers=bearer(ADMIN))
        assert (missed.status_code, "SURPRISAL_OPS_PORT" in missed.json()["detail"]) == (404, True)
        for path in ("/models", "/score", "/docs", "/openapi.json", "/v2", f"/v2/models/{NAME}", "/nowhere"):
            assert httpx.get(f"{operators}{path}", headers=bearer(ADMIN)).status_code == 404, path
        assert httpx.post(f"{operators}/score", json={"records": [{"amount": 3.0}]}).status_code == 404
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not installed")
@pytest.mark.parametrize("workers", [1, 2])
def test_https_is_spoken_where_there_is_a_certificate(models: Path, tmp_path: Path, workers: int) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    port = free_port()
    options = {"SURPRISAL_TLS_CERTIFICATE": str(certificate), "SURPRISAL_TLS_KEY": str(key)}
    options |= {"SURPRISAL_OPS_PORT": str(port), "SURPRISAL_DRAIN_SECONDS": "0"}
    context = ssl.create_default_context(cafile=str(certificate))
    with running(models, workers, ready=f"http://127.0.0.1:{port}", environment=options) as (_, url):
        answer = httpx.post(
            f"{url.replace('http', 'https')}/score", json={"records": [{"amount": 3.0}]}, verify=context
        )
        assert answer.status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url}/healthz")


def test_a_certificate_without_its_key_is_a_wrong_call(models: Path, tmp_path: Path) -> None:
    (tmp_path / "certificate.pem").write_text("x")
    os.environ["SURPRISAL_TLS_CERTIFICATE"] = str(tmp_path / "certificate.pem")
    try:
        result = serve("--models", str(models))
    finally:
        del os.environ["SURPRISAL_TLS_CERTIFICATE"]
    assert result.returncode == 2
    assert "SURPRISAL_TLS_CERTIFICATE and SURPRISAL_TLS_KEY go together" in result.stderr


async def test_browsers_are_told_to_be_careful(client: httpx.AsyncClient) -> None:
    for path in ("/models", "/v2", "/nowhere", "/docs"):
        assert (await client.get(path)).headers["x-content-type-options"] == "nosniff"
    assert (await client.post("/score", json={"records": [{"amount": 3.0}]})).headers[
        "x-content-type-options"
    ] == "nosniff"
    page = await client.get("/docs")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"


async def test_other_origins_are_told_nothing(client: httpx.AsyncClient) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for answer in (await client.options("/score", headers=headers), await client.get("/models", headers=headers)):
        assert not [name for name in answer.headers if name.startswith("access-control")]
