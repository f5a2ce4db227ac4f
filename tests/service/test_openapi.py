"""The OpenAPI document is complete and true."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from service.problems import STATUS
from service.settings import Settings
from tests.conftest import NAME, in_process


@pytest.fixture(scope="module")
def document(server: str) -> dict[str, Any]:
    content: dict[str, Any] = httpx.get(f"{server}/openapi.json").json()
    return content


def record_schema(document: dict[str, Any]) -> Any:
    return document["components"]["schemas"][f"Request_{NAME}"]["properties"]["records"]["items"]


def test_it_lists_every_route(document: dict[str, Any]) -> None:
    assert {path for path in document["paths"] if not path.startswith("/v2")} == {
        "/score",
        f"/models/{NAME}/score",
        f"/models/{NAME}/versions/1/score",
        "/models",
        "/models/{name}",
        "/healthz",
        "/readyz",
        "/metrics",
    }


def test_it_lists_the_open_inference_protocol(document: dict[str, Any]) -> None:
    listed = [path for path in document["paths"] if path.startswith("/v2")]
    assert len(listed) == 17
    assert f"/v2/models/{NAME}/versions/1/infer" in listed


def test_it_lists_every_status_of_scoring(document: dict[str, Any]) -> None:
    listed = {int(status) for status in document["paths"]["/score"]["post"]["responses"]}
    assert listed == ({*STATUS.values()} | {200}) - {401, 403, 405, 409}  # of keys, of other methods, of the repository


@pytest.mark.parametrize(
    ("record", "fits"),
    [
        ({"amount": 3.5}, True),
        ({"amount": None, "country": "XX", "card_present": 1}, True),
        ([1, 2, "a", "b", "c", True, None, None, 3, 4, 5.5], True),
        ({}, False),
        ({"amount": None}, False),
        ([None] * 11, False),
        ([1], False),
        ({"amount": "3"}, False),
        ({"card_present": 2}, False),
        ({"nothing": 1}, False),
        (7, False),
    ],
)
async def test_the_record_schema_says_what_the_service_does(
    server: str, document: dict[str, Any], record: Any, fits: bool
) -> None:
    assert jsonschema_rs.is_valid(record_schema(document), record) is fits
    assert (httpx.post(f"{server}/score", json={"records": [record]}).status_code == 200) is fits


async def test_it_changes_with_what_is_loaded(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "models")
    async with in_process(Settings(models=tmp_path / "models")) as (client, app):
        shutil.copytree(tmp_path / "models" / NAME, tmp_path / "models" / "other")
        await app.models.refresh()
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert "/models/other/score" in paths


def test_the_documentation_page_needs_no_network(server: str) -> None:
    page = httpx.get(f"{server}/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert asset in page.text
        assert httpx.get(f"{server}/static-offline-docs/{asset}").status_code == 200


@pytest.mark.parametrize(
    ("operations", "tested"),
    [
        # What takes the model out of service would fail all the others.
        (("--exclude-path-regex", "/(infer|unload)$"), 22),
        # That the data of a tensor match its shape is nothing that JSON Schema can say.
        (("--include-path-regex", "/infer$", "--exclude-checks", "positive_data_acceptance"), 2),
    ],
)
def test_requests_made_from_the_document_are_answered_as_it_says(
    server: str, operations: tuple[str, ...], tested: int
) -> None:
    """A schemathesis run over every operation and format, with data that fits and data that does not."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server}/openapi.json", "--checks", "all"]
    limits = ["--max-examples", "25", "--seed", "1", "--suppress-health-check", "filter_too_much"]
    formats = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.service.schemathesis_formats"}
    result = subprocess.run(
        [*command, *operations, *limits], env=formats, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stdout
    assert f"Tested: {tested}" in result.stdout, result.stdout
