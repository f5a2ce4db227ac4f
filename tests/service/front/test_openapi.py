"""The OpenAPI document is complete and true."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pyarrow.parquet
import pytest
from pydantic import SecretStr

from bundle.record.images import in_base64
from service.front import access
from service.settings import Settings
from service.wire.problems import STATUS
from tests.conftest import AUTOENCODER, IMAGES, NAME, TRAINED_ON, in_process, simulate_images
from training.pipeline import Trained


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
    assert listed == ({*STATUS.values()} | {200}) - {401, 405, 409}  # of keys, of other methods, of the repository


async def test_without_a_model_it_lists_what_scores_with_a_model_in_its_path(tmp_path: Path) -> None:
    async with in_process(Settings(models=tmp_path)) as (client, _):
        paths = (await client.get("/openapi.json")).json()["paths"]
        for start, end in (("", "score"), ("/v2", "infer")):
            for path in (f"{start}/models/{{name}}/{end}", f"{start}/models/{{name}}/versions/{{version}}/{end}"):
                operation = paths[path]["post"]
                assert [each["name"] for each in operation["parameters"] if each["in"] == "path"] == [
                    name for name in ("name", "version") if name in path
                ]
                answer = await client.post(path.format(name=NAME, version=1), json={"records": [{"amount": 3.0}]})
                assert str(answer.status_code) in operation["responses"]


@pytest.mark.parametrize("locked", [False, True])
async def test_whoever_is_not_let_in_is_answered_as_it_says(models: Path, locked: bool) -> None:
    keys = SecretStr("score a-key-of-this-test-alone") if locked else None
    async with in_process(Settings(models=models, keys=keys)) as (client, _):
        key = {"Authorization": "Bearer a-key-of-this-test-alone"} if locked else {}
        described = (await client.get("/openapi.json", headers=key)).json()
        for path, method, responses in (
            (path.replace("{name}", NAME).replace("{version}", "1"), method, operation["responses"])
            for path, operations in described["paths"].items()
            for method, operation in operations.items()
            if path not in access.HEALTH
        ):
            stranger = await client.request(method, path, headers={"Host": "elsewhere.example"})
            assert stranger.status_code == (401 if locked else 403)
            foreign = await client.request(method, path, headers={"Origin": "null", **key})
            assert (foreign.status_code == 403) is (method == "post")
            for answer in (stranger, foreign):
                said = responses[str(answer.status_code)]["content"]
                assert answer.headers["content-type"] in said or answer.status_code == 200
            assert ("401" in responses) is locked
            assert ("403" in responses) is (method == "post" or not locked)


def test_numbers_are_described_by_the_rows_that_were_trained_on(document: dict[str, Any], trained: Trained) -> None:
    amount = record_schema(document)["anyOf"][0]["properties"]["amount"]["description"]
    (bins,) = (each.bins for each in trained.manifest.reference if each.field == "amount")
    assert amount.startswith("median ")
    assert f"from {float(bins[0]):.6g} to {float(bins[-3]):.6g} in 80 % of the training rows" in amount


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


def test_the_example_is_a_record_as_they_usually_are_and_its_answer_what_it_gets(
    server: str, document: dict[str, Any], trained: Trained
) -> None:
    (example,) = document["components"]["schemas"][f"Request_{NAME}"]["examples"]
    (record,) = example["records"]
    rows = pyarrow.parquet.read_table(trained.folder.parents[2] / TRAINED_ON).to_pydict()
    for name, value in record.items():
        assert value in rows[name], "a value that occurs"
    assert record["country"] == statistics.mode(rows["country"])
    assert record["new_merchant"] == statistics.mode(rows["new_merchant"])
    deciles = statistics.quantiles(filter(None, rows["amount"]), n=10)
    assert deciles[3] < record["amount"] < deciles[5]
    content = document["paths"]["/score"]["post"]["responses"]["200"]["content"]
    shown = content["application/json"]["example"]
    answer = httpx.post(f"{server}/score", json=example).json()
    assert_described(document, shown)
    assert shown.keys() == answer.keys()
    assert (shown["model"], shown["samples"]) == (answer["model"], answer["samples"])
    for (name, told), given in zip(shown["results"][0].items(), answer["results"][0].values(), strict=True):
        assert told == pytest.approx(given, rel=1e-4, abs=1e-5), name
    assert not shown["results"][0]["is_anomaly"]
    assert json.loads(content["application/x-ndjson"]["example"]) == shown["results"][0]


def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    seen = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), parameter
                seen.add(parameter["name"])
    assert seen == {"samples", "score", "false_alarm_rate", "explain", "name", "version"}


@pytest.fixture(scope="module")
def image_document(image_server: str) -> dict[str, Any]:
    content: dict[str, Any] = httpx.get(f"{image_server}/openapi.json").json()
    return content


LEVELS = simulate_images(1, seed=1)[0]


@pytest.mark.parametrize(
    ("image", "fits"),
    [
        (LEVELS.tolist(), True),
        (LEVELS[..., 0].tolist(), True),
        (in_base64(LEVELS), True),
        (None, False),
        (7, False),
        ({}, False),
        ([], False),
        (LEVELS[:7].tolist(), False),
        (np.full((8, 8), 256).tolist(), False),
        (np.full((8, 8), -1).tolist(), False),
        (np.full((8, 8), 0.5).tolist(), False),
        (np.full((8, 8), fill_value=True).tolist(), False),
        (np.full((8, 8, 3), 7).tolist(), False),
    ],
)
def test_the_schema_of_an_image_says_what_the_service_does(
    image_server: str, image_document: dict[str, Any], image: Any, fits: bool
) -> None:
    schema = image_document["components"]["schemas"][f"Request_{IMAGES}"]["properties"]["records"]["items"]
    for record in ({"image": image}, [image]):
        assert jsonschema_rs.is_valid(schema, record) is fits
        assert (httpx.post(f"{image_server}/score", json={"records": [record]}).status_code == 200) is fits
    assert not jsonschema_rs.is_valid(schema, {})


def test_the_examples_of_images_are_answered(image_server: str, image_document: dict[str, Any]) -> None:
    (example,) = image_document["components"]["schemas"][f"Request_{IMAGES}"]["examples"]
    assert httpx.post(f"{image_server}/score", json=example).status_code == 200
    content = image_document["paths"]["/score"]["post"]["requestBody"]["content"]
    for media_type in ("application/x-ndjson", "text/csv"):
        headers = {"Content-Type": media_type, "Accept": "application/json"}
        response = httpx.post(f"{image_server}/score", content=content[media_type]["example"], headers=headers)
        assert response.status_code == 200, response.text


def assert_described(document: dict[str, Any], answer: dict[str, Any]) -> None:
    """An answer is as the document says, and has no member that it does not mention."""
    schemas = document["components"]["schemas"]
    jsonschema_rs.validate({"$ref": "#/components/schemas/Answer", "components": document["components"]}, answer)
    for result in answer["results"]:
        assert result.keys() <= schemas["Result"]["properties"].keys()
        for field in result.get("explanation", {"fields": []})["fields"]:
            assert field.keys() <= schemas["ExplainedField"]["properties"].keys()


@pytest.mark.parametrize("explain", [False, True])
def test_answers_are_as_the_document_says(
    server: str,
    document: dict[str, Any],
    image_server: str,
    image_document: dict[str, Any],
    payments: list[dict[str, Any]],
    explain: bool,
) -> None:
    missing = [{"amount": 3.0}, {"country": "nowhere", "card_present": None}]
    payment = httpx.post(f"{server}/score", json={"records": [*payments[:20], *missing], "explain": explain})
    assert_described(document, payment.json())
    images = [{"image": in_base64(image)} for image in simulate_images(5, seed=2)]
    scan = httpx.post(f"{image_server}/score", json={"records": images, "explain": explain})
    assert_described(image_document, scan.json())
    if explain:
        wrong = scan.json()
        wrong["results"][0]["explanation"]["fields"][0]["surprisal_map_range"] = [1.0]
        with pytest.raises(jsonschema_rs.ValidationError):
            assert_described(image_document, wrong)


async def test_answers_of_an_autoencoder_are_as_the_document_says(trained_autoencoder: Trained) -> None:
    async with in_process(Settings(models=trained_autoencoder.folder.parents[1])) as (client, _):
        described = (await client.get("/openapi.json")).json()
        asked = described["components"]["schemas"][f"Request_{AUTOENCODER}"]["properties"]
        assert asked["score"]["enum"] == ["expected_log_likelihood"]
        for explain in (False, True):
            records = [{"image": image.tolist()} for image in simulate_images(3, seed=2)]
            answer = (await client.post("/score", json={"records": records, "explain": explain})).json()
            assert_described(described, answer)
            assert answer["results"][0]["elbo"] is None


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
    assert_conforms(server, operations, tested)


def test_requests_for_images_are_answered_as_the_document_says(image_server: str) -> None:
    # JSON Schema cannot say that a text is a file of an image, nor that 5.0 is none of its whole numbers.
    assert_conforms(
        image_server, ("--include-path-regex", "(score|infer)$", "--exclude-checks", "positive_data_acceptance"), 5
    )


def assert_conforms(server: str, operations: tuple[str, ...], tested: int) -> None:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server}/openapi.json", "--checks", "all"]
    limits = ["--max-examples", "25", "--seed", "1", "--suppress-health-check", "filter_too_much"]
    formats = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.service.front.schemathesis_formats"}
    result = subprocess.run(
        [*command, *operations, *limits], env=formats, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stdout
    assert f"Tested: {tested}" in result.stdout, result.stdout
