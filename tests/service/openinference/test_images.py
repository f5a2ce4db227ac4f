"""Images over the Open Inference Protocol, as its own unmodified client sends them to a running server."""

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import tritonclient.http as triton
from tritonclient.http import InferInput

from bundle.record.images import in_base64, png
from service.openinference.outputs import OUTPUTS
from tests.conftest import IMAGES, simulate_images
from tests.service.openinference.test_infer import assert_same, tensor

LEVELS = np.concatenate([simulate_images(4, seed=21), simulate_images(1, seed=21, strange=True)])
ROWS = len(LEVELS)


@pytest.fixture(scope="module")
def client(image_server: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(image_server.removeprefix("http://")) as client:
        yield client


def files(content: list[Any]) -> np.ndarray[Any, Any]:
    values = np.empty(len(content), object)
    values[:] = content
    return values


PNGS = files([png(image) for image in LEVELS])
INPUTS: dict[str, InferInput] = {
    "levels": tensor("image", LEVELS),
    "levels as JSON": tensor("image", LEVELS, binary=False),
    "levels without channels": tensor("image", LEVELS[..., 0]),
    "levels in a row": tensor("image", LEVELS.reshape(ROWS, -1)),
    "levels in 64 bits": tensor("image", LEVELS.astype(np.int64)),
    "files": tensor("image", PNGS),
    "files in a column": tensor("image", PNGS.reshape(-1, 1)),
    "files as JSON": tensor("image", files([in_base64(image) for image in LEVELS]), binary=False),
}


def scores(server: str, samples: int = 16) -> dict[str, list[Any]]:
    """What `POST /score` answers, by output."""
    records = [{"image": in_base64(image)} for image in LEVELS]
    results = httpx.post(f"{server}/score", json={"records": records, "samples": samples}).json()["results"]
    return {name: [result[name] for result in results] for name in results[0]}


@pytest.mark.parametrize("name", INPUTS)
def test_every_way_to_send_an_image_scores_as_score_does(
    client: triton.InferenceServerClient, image_server: str, name: str
) -> None:
    assert_same(client.infer(IMAGES, [INPUTS[name]]), scores(image_server))
    few = client.infer(IMAGES, [INPUTS[name]], parameters={"samples": 2}, response_compression_algorithm="gzip")
    assert_same(few, scores(image_server, samples=2))


def test_the_model_announces_what_it_takes(client: triton.InferenceServerClient) -> None:
    metadata = client.get_model_metadata(IMAGES)
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 1]}]
    assert {output["name"]: output["datatype"] for output in metadata["outputs"]} == OUTPUTS
    config = client.get_model_config(IMAGES)
    assert config["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [8, 8, 1], "optional": False}]


def test_a_client_that_goes_by_the_announcement_is_answered(client: triton.InferenceServerClient) -> None:
    (announced,) = client.get_model_metadata(IMAGES)["inputs"]
    described = InferInput(announced["name"], [1, *announced["shape"][1:]], announced["datatype"])
    result = client.infer(IMAGES, [described.set_data_from_numpy(LEVELS[:1])])
    assert result.as_numpy("latent_mean").shape == (1, 3)


def test_the_example_in_the_document_is_answered(image_server: str) -> None:
    paths = httpx.get(f"{image_server}/openapi.json").json()["paths"]
    body = paths[f"/v2/models/{IMAGES}/infer"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    (example,) = body["examples"]
    response = httpx.post(f"{image_server}/v2/models/{IMAGES}/infer", json=example)
    assert response.status_code == 200, response.text


def described(**change: Any) -> dict[str, Any]:
    data = LEVELS[:2].reshape(-1).tolist()
    return {"name": "image", "shape": [2, 8, 8, 1], "datatype": "UINT8", "data": data} | change


def replaced(value: Any) -> list[Any]:
    """The levels of two images with another one among them."""
    return [*LEVELS[:2].reshape(-1).tolist()[:-1], value]


WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "channels first": ([described(shape=[2, 1, 8, 8])], "/inputs/0/shape"),
    "another size": ([described(shape=[2, 4, 16])], "/inputs/0/shape"),
    "one image less its batch": ([described(shape=[8, 8, 2])], "/inputs/0/shape"),
    "five sizes": ([described(shape=[2, 8, 8, 1, 1])], "/inputs/0/shape"),
    "floats": ([described(datatype="FP32")], "/inputs/0/datatype"),
    "flags": ([described(datatype="BOOL", data=[True] * 128)], "/inputs/0/datatype"),
    "a hole": ([described(data=replaced(None))], "/inputs/0/data"),
    "too light": ([described(datatype="INT32", data=replaced(256))], "/inputs/0/data"),
    "negative": ([described(datatype="INT8", data=[-1] * 128)], "/inputs/0/data"),
    "beyond eight bits": ([described(data=replaced(918273645))], "/inputs/0/data"),
    "a level less": ([described(data=replaced(1)[1:])], "/inputs/0/data"),
    "text": ([described(data=replaced("S3CRET"))], "/inputs/0/data/127"),
    "no file": ([described(datatype="BYTES", shape=[2], data=["S3CRET", "S3CRET"])], "/inputs/0/data"),
    "null for a file": ([described(datatype="BYTES", shape=[2], data=[in_base64(LEVELS[0]), None])], "/inputs/0/data"),
    "two files a record": ([described(datatype="BYTES", shape=[1, 2], data=["", ""])], "/inputs/0/shape"),
    "twice": ([described(), described()], "/inputs/1/name"),
    "twice by its kind": ([described(), described(name="image")], "/inputs/1/name"),
    "another name": ([described(name="picture")], "/inputs/0/name"),
    "no image": ([described(name="numeric")], "/inputs/0/name"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_image_is_refused_by_its_place(image_server: str, name: str) -> None:
    inputs, pointer = WRONG[name]
    response = httpx.post(f"{image_server}/v2/models/{IMAGES}/infer", json={"inputs": inputs})
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["pointer"] == pointer
    assert response.json()["error"]
    assert "S3CRET" not in response.text
    assert "918273645" not in response.text


def binary(datatype: str, shape: list[int], blob: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request whose tensor lies behind its JSON."""
    parameters = {"binary_data_size": len(blob)}
    head = orjson.dumps({"inputs": [described(datatype=datatype, shape=shape, data=None, parameters=parameters)]})
    return {"Inference-Header-Content-Length": str(len(head))}, head + blob


def counted(*content: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "little") + each for each in content)


@pytest.mark.parametrize(
    ("datatype", "shape", "blob", "pointer"),
    [
        ("UINT8", [2, 8, 8, 1], bytes(127), "/inputs/0/parameters/binary_data_size"),
        ("BYTES", [2], counted(png(LEVELS[0])), "/inputs/0/parameters/binary_data_size"),
        ("BYTES", [2], counted(png(LEVELS[0]), png(LEVELS[1])[:50]), "/inputs/0/data"),
        ("BYTES", [2], counted(png(LEVELS[0]), b"S3CRET"), "/inputs/0/data"),
        ("BYTES", [1], counted(png(LEVELS[0][:7])), "/inputs/0/data"),
        ("FP64", [1, 8, 8, 1], bytes(512), "/inputs/0/datatype"),
    ],
)
def test_binary_data_that_is_no_image(
    image_server: str, datatype: str, shape: list[int], blob: bytes, pointer: str
) -> None:
    headers, body = binary(datatype, shape, blob)
    response = httpx.post(f"{image_server}/v2/models/{IMAGES}/infer", headers=headers, content=body)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["pointer"] == pointer
    assert "S3CRET" not in response.text


def test_a_request_without_an_image(image_server: str) -> None:
    response = httpx.post(f"{image_server}/v2/models/{IMAGES}/infer", json={"inputs": []})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/inputs")
