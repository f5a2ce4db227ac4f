"""What `/v2` refuses: always JSON with `error`, never a 5xx for what was sent."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.openinference.outputs import OUTPUTS
from service.openinference.paths import paths
from service.settings import Settings
from tests.conftest import NAME, in_process, running, until

INFER = f"/v2/models/{NAME}/infer"
AMOUNT: dict[str, Any] = {"name": "amount", "datatype": "FP64", "shape": [2], "data": [20.5, 31.0]}
LENGTH = "Inference-Header-Content-Length"


def error_of(response: httpx.Response) -> str:
    """The sentence, once it is what clients of the protocol and of the other routes expect."""
    content = response.json()
    assert response.headers["content-type"] == "application/json"
    assert content["error"] == content["detail"]
    assert content["status"] == response.status_code
    assert content["request_id"] == response.headers["x-request-id"]
    sentence: str = content["error"]
    return sentence


async def test_no_content_type_is_needed(client: httpx.AsyncClient) -> None:
    response = await client.post(INFER, content=orjson.dumps({"inputs": [AMOUNT]}))
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert "id" not in content
    outputs = {output["name"]: output for output in content["outputs"]}
    assert list(outputs) == list(OUTPUTS)
    assert outputs["elbo"]["shape"] == [2]
    size = outputs["latent_mean"]["shape"][1]
    assert outputs["latent_mean"] == {
        "name": "latent_mean",
        "datatype": "FP32",
        "shape": [2, size],
        "data": outputs["latent_mean"]["data"],
    }
    assert len(outputs["latent_mean"]["data"]) == 2 * size


@pytest.mark.parametrize("parameters", [{"binary_data_output": True}, {"binary_data_output": False}])
async def test_outputs_say_for_themselves_whether_they_are_binary(
    client: httpx.AsyncClient, parameters: dict[str, bool]
) -> None:
    wanted: list[dict[str, Any]] = [
        {"name": "elbo"},
        {"name": "p_value", "parameters": {"binary_data": True}},
        {"name": "is_anomaly"},
    ]
    wanted[2]["parameters"] = {"binary_data": False}
    body = {"id": "é", "inputs": [AMOUNT], "outputs": wanted, "parameters": {**parameters, "unknown": "x"}}
    response = await client.post(INFER, content=orjson.dumps(body))
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[LENGTH])
    content = json.loads(response.content[:length])
    assert content["id"] == "é"
    elbo, p_value, is_anomaly = content["outputs"]
    assert ("data" in elbo) is not parameters["binary_data_output"]
    assert p_value["parameters"] == {"binary_data_size": 16}
    assert len(is_anomaly["data"]) == 2
    blobs = response.content[length:]
    assert len(blobs) == (8 if parameters["binary_data_output"] else 0) + 16
    assert ((np.frombuffer(blobs[-16:]) > 0) & (np.frombuffer(blobs[-16:]) <= 1)).all()


def asking(**members: Any) -> bytes:
    return orjson.dumps({"inputs": [AMOUNT], **members})


REFUSED: list[tuple[str, bytes, int, str]] = [
    ("no body", b"", 400, "not JSON"),
    ("no JSON", b"{", 400, "not JSON"),
    ("Infinity", asking().replace(b"20.5", b"Infinity"), 400, "not JSON"),
    ("a number beyond a double", asking().replace(b"20.5", b"1e400"), 400, "not JSON"),
    ("an array", b"[]", 422, "an object"),
    ("no inputs", b"{}", 422, "/inputs: "),
    ("zero inputs", asking(inputs=[]), 422, "/inputs: "),
    ("an id that is no text", asking(id=7), 422, "/id: "),
    ("parameters that are none", asking(parameters=[]), 422, "/parameters: "),
    ("3 samples", asking(parameters={"samples": 3}), 422, "/parameters/samples: "),
    ("samples as text", asking(parameters={"samples": "16"}), 422, "/parameters/samples: "),
    ("true samples", asking(parameters={"samples": True}), 422, "/parameters/samples: "),
    ("a timeout below 0", asking(parameters={"timeout": -1}), 422, "/parameters/timeout: "),
    ("a timeout that is text", asking(parameters={"timeout": "1"}), 422, "/parameters/timeout: "),
    ("an output that is none", asking(outputs=[{"name": "S3CRET"}]), 422, "/outputs/0/name: "),
    ("an output twice", asking(outputs=[{"name": "elbo"}] * 2), 422, "/outputs/1/name: "),
    ("an output that is text", asking(outputs=["elbo"]), 422, "/outputs/0: "),
    ("outputs that are text", asking(outputs="elbo"), 422, "/outputs: "),
    (
        "classes",
        asking(outputs=[{"name": "elbo", "parameters": {"classification": 3}}]),
        422,
        "/outputs/0/parameters/classification: ",
    ),
    (
        "shared memory",
        asking(outputs=[{"name": "elbo", "parameters": {"shared_memory_region": "r"}}]),
        422,
        "/outputs/0/parameters/shared_memory_region: ",
    ),
    ("a flag that is none", asking(parameters={"binary_data_output": 1}), 422, "/parameters/binary_data_output: "),
    ("too many records", asking(inputs=[{**AMOUNT, "shape": [10_001], "data": [1] * 10_001}]), 413, "too many records"),
]


@pytest.mark.parametrize(("body", "status", "why"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_bad_input_is_refused_in_a_sentence(
    client: httpx.AsyncClient, body: bytes, status: int, why: str
) -> None:
    response = await client.post(INFER, content=body)
    assert response.status_code == status, response.text
    assert error_of(response).startswith(why) or why in error_of(response)
    assert "S3CRET" not in response.text


@pytest.mark.parametrize("length", ["0", "-1", "x", "9" * 30, "999999", "²"])
async def test_header_lengths_that_are_wrong(client: httpx.AsyncClient, length: str) -> None:
    headers = {LENGTH.encode(): length.encode()}
    response = await client.post(INFER, content=asking(), headers=headers)
    assert response.status_code == 400
    assert "Inference-Header-Content-Length" in error_of(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", f"/v2/models/{NAME}/versions/9", 404),
        ("POST", "/v2/models/nobody/infer", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
        ("POST", "/v2/repository/models/nobody/load", 404),
        ("POST", "/v2/repository/models/nobody/unload", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("DELETE", "/v2/health/live", 405),
    ],
)
async def test_paths_and_methods(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert error_of(response)
    if status == 405:
        assert response.headers["allow"] == ("POST" if path == INFER else "GET, HEAD")


async def test_head_is_get_without_a_body(server: str) -> None:
    response = httpx.head(f"{server}/v2/health/ready")
    assert (response.status_code, response.content) == (200, b"")


async def test_nothing_served_is_not_ready(tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{}")
    async with in_process(Settings(models=tmp_path)) as (client, _):
        assert (await client.get("/v2/health/live")).json() == {"live": True}
        for path in ("/v2/health/ready", "/v2/models/broken/ready", "/v2/models/broken"):
            response = await client.get(path)
            assert response.status_code == 503
            assert "manifest.json" in error_of(response)
            assert response.headers["retry-after"] == "1"
        (entry,) = (await client.post("/v2/repository/index")).json()
        assert (entry["name"], entry["state"]) == ("broken", "UNAVAILABLE")
        assert "manifest.json" in entry["reason"]
        assert (await client.post("/v2/repository/index", json={"ready": True})).json() == []
        for wrong, status in ((b"{", 400), (b"[]", 422), (b'{"ready": 1}', 422)):
            refused = await client.post("/v2/repository/index", content=wrong)
            assert refused.status_code == status
            assert error_of(refused)


async def test_requests_are_counted_by_route(client: httpx.AsyncClient) -> None:
    await client.post(INFER, content=asking())
    await client.get("/v2/nowhere")
    text = (await client.get("/metrics")).text
    assert 'surprisal_http_requests_total{method="POST",route="/v2/models/{name}/infer",status="200"} 1.0' in text
    assert 'surprisal_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text


def test_statistics_are_those_of_all_workers(models: Path) -> None:
    with running(models, workers=2, environment={"SURPRISAL_DRAIN_SECONDS": "0"}) as (process, url):
        for _ in range(20):  # each over a connection of its own
            assert httpx.post(f"{url}{INFER}", content=asking()).status_code == 200
        counts: dict[str, Any] = {}

        def all_counted() -> bool:
            (found,) = httpx.get(f"{url}/v2/models/stats", timeout=30).json()["model_stats"]
            counts.update(found)
            return bool(counts["inference_stats"]["success"]["count"] == 20)

        until(all_counted)
        assert counts["inference_count"] == 40
        assert counts["execution_count"] == 20
        process.terminate()
        assert process.wait(30) == 0


async def test_what_openapi_says_is_true(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "models")  # its model is taken out of service in the end
    chosen = Settings(models=tmp_path / "models")
    async with in_process(chosen) as (client, app):
        described = paths(app.models, chosen)
        for path, operations in sorted(described.items(), key=lambda each: each[0].endswith("/unload")):
            where = path.replace("{name}", NAME).replace("{version}", "1")
            for method, operation in operations.items():
                body = None
                if path.endswith("/infer"):
                    schema = operation["requestBody"]["content"]["application/json"]["schema"]
                    body = orjson.dumps(schema["examples"][0])
                response = await client.request(method, where, content=body)
                assert response.status_code == 200, (path, response.text)
                assert "schema" in operation["responses"]["200"]["content"]["application/json"]
        identifiers = [operation["operationId"] for each in described.values() for operation in each.values()]
        assert len(set(identifiers)) == len(identifiers)


def binary_request() -> tuple[bytes, int]:
    """A request with blobs of numbers and of text."""
    texts = b"\2\0\0\0SE\2\0\0\0DE"
    inputs = [
        {"name": "numeric", "datatype": "FP64", "shape": [2, 6], "parameters": {"binary_data_size": 96}},
        {"name": "country", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(texts)}},
        {"name": "card_present", "datatype": "BOOL", "shape": [2, 1], "data": [[True], [None]]},
    ]
    header = orjson.dumps({"id": "1", "inputs": inputs, "outputs": [{"name": "elbo"}], "parameters": {"samples": 1}})
    return header + np.arange(12.0).tobytes() + texts, len(header)


VALID, VALID_LENGTH = binary_request()
mutations = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "add"]), st.integers(0, len(VALID) - 1), st.binary(min_size=1, max_size=8)
    ),
    min_size=1,
    max_size=4,
)
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["FP64", "BYTES", "numeric", "country"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["name", "datatype", "shape", "data", "parameters", "binary_data_size", "inputs", "outputs"]
            ),
            inner,
            max_size=5,
        )
    ),
)
inputs = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["amount", "numeric", "country", "card_present", "categorical", "boolean"]) | anything,
        "datatype": st.sampled_from(["FP64", "FP32", "INT64", "INT8", "UINT64", "BOOL", "BYTES"]) | anything,
        "shape": st.lists(st.integers(0, 3), max_size=3) | anything,
        "data": st.lists(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3), max_size=6)
        | anything,
    }
)


@pytest.fixture(scope="module")
def http(server: str) -> Iterator[httpx.Client]:
    """A client that keeps its connection: making one takes longer than a request."""
    with httpx.Client(base_url=server) as http:
        yield http


def check(http: httpx.Client, body: bytes, headers: dict[str, str]) -> None:
    response = http.post(INFER, content=body, headers=headers)
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, response.text
        assert error_of(response)


def test_the_request_that_is_mutated_is_valid(http: httpx.Client) -> None:
    assert http.post(INFER, content=VALID, headers={LENGTH: str(VALID_LENGTH)}).status_code == 200


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), length=st.none() | st.integers(0, 220))
def test_random_bytes_are_refused(http: httpx.Client, body: bytes, length: int | None) -> None:
    check(http, body, {} if length is None else {LENGTH: str(length)})


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=mutations, shift=st.sampled_from([0, 0, 0, -1, 1, 5]))
def test_mutated_requests_are_answered_or_refused(
    http: httpx.Client, changes: list[tuple[str, int, bytes]], shift: int
) -> None:
    body = bytearray(VALID)
    length = VALID_LENGTH + shift
    for how, where, what in changes:
        if how == "set":
            body[where : where + len(what)] = what
        elif how == "cut":
            del body[where : where + len(what)]
        else:
            body[where:where] = what
    check(http, bytes(body), {LENGTH: str(length)})


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=anything | st.fixed_dictionaries({"inputs": st.lists(inputs | anything, min_size=1, max_size=3)}))
def test_mutated_json_is_answered_or_refused(http: httpx.Client, content: Any) -> None:
    check(http, json.dumps(content).encode(), {})
