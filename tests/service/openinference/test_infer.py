"""The Open Inference Protocol, as its own unmodified client speaks it with a running server."""

import gzip
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
from tritonclient.http import InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from bundle.folder import store
from bundle.record.schema import TableSchema
from service.openinference.outputs import OUTPUTS
from tests.conftest import NAME

Array = npt.NDArray[Any]
Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.removeprefix("http://"), concurrency=4) as client:
        yield client


@pytest.fixture(scope="module")
def records(payments: Records) -> Records:
    """Payments whose numbers float32 holds."""
    return [
        {name: float(np.float32(value)) if type(value) in (int, float) else value for name, value in payment.items()}
        for payment in payments[:7]
    ]


def column(records: Records, name: str, dtype: str = "f4") -> Array:
    """A field of records, (B, 1), as a client holds it."""
    values = [record[name] for record in records]
    kind = type(values[0])
    return np.array(values, object if kind is str else bool if kind is bool else dtype).reshape(-1, 1)


def tensor(name: str, values: Array, binary: bool = True) -> InferInput:
    """What the client sends."""
    described = InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return described.set_data_from_numpy(values, binary_data=binary)


def named(records: Records, binary: bool = True, dtype: str = "f4") -> list[InferInput]:
    """Records as one tensor a field."""
    return [tensor(name, column(records, name, dtype), binary) for name in records[0]]


def scores(server: str, records: Records, samples: int = 16) -> dict[str, list[Any]]:
    """What `POST /score` answers, by output."""
    response = httpx.post(f"{server}/score", json={"records": records, "samples": samples})
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    return {name: [result[name] for result in results] for name in results[0]}


def assert_same(result: InferResult, expected: dict[str, list[Any]]) -> None:
    """Every output equal to the last bit, and of its datatype."""
    for name, values in expected.items():
        got = result.as_numpy(name)
        assert got is not None, name
        assert np_to_triton_dtype(got.dtype) == OUTPUTS[name]
        np.testing.assert_array_equal(got, np.array(values, got.dtype), err_msg=name, strict=True)


def test_health(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert not client.is_model_ready(NAME, "7")
    assert not client.is_model_ready("nobody")


def test_metadata(client: triton.InferenceServerClient, records: Records) -> None:
    server = client.get_server_metadata()
    assert server["name"] == "surprisal"
    assert {"binary_tensor_data", "model_configuration", "statistics"} <= set(server["extensions"])
    model = client.get_model_metadata(NAME)
    assert model == client.get_model_metadata(NAME, "1")
    assert (model["name"], model["versions"]) == (NAME, ["1"])
    inputs = {each["name"]: each for each in model["inputs"]}
    assert list(inputs) == list(records[0])
    assert inputs["amount"] == {"name": "amount", "datatype": "FP64", "shape": [-1, 1]}
    assert inputs["country"]["datatype"] == "BYTES"
    assert inputs["card_present"]["datatype"] == "BOOL"
    outputs = {each["name"]: each for each in model["outputs"]}
    assert {name: each["datatype"] for name, each in outputs.items()} == OUTPUTS
    assert outputs["elbo"]["shape"] == [-1]


def test_config(client: triton.InferenceServerClient, records: Records) -> None:
    config = client.get_model_config(NAME)
    assert config == client.get_model_config(NAME, "1")
    assert config["name"] == NAME
    assert config["backend"] == "onnxruntime"
    assert config["platform"] == "onnxruntime_onnx"
    assert config["max_batch_size"] == 10_000
    assert [each["name"] for each in config["input"]] == list(records[0])
    assert config["input"][0] == {"name": "amount", "data_type": "TYPE_FP64", "dims": [1], "optional": True}
    assert {each["name"] for each in config["output"]} == set(OUTPUTS)
    assert config["parameters"]["boolean"] == {"string_value": '["card_present","new_merchant"]'}


def test_repository_index(client: triton.InferenceServerClient) -> None:
    assert client.get_model_repository_index() == [{"name": NAME, "version": "1", "state": "READY", "reason": ""}]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_fields_one_by_one(
    client: triton.InferenceServerClient, server: str, records: Records, binary: bool, dtype: str
) -> None:
    result = client.infer(NAME, named(records, binary, dtype), request_id="seven")
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == (NAME, "1", "seven")
    assert [output["name"] for output in response["outputs"]] == list(OUTPUTS)
    assert_same(result, scores(server, records))


def test_binary_and_json_mixed(client: triton.InferenceServerClient, server: str, records: Records) -> None:
    inputs = [tensor(name, column(records, name), binary=i % 3 != 0) for i, name in enumerate(records[0])]
    outputs = [InferRequestedOutput(name, binary_data=i % 2 == 0) for i, name in enumerate(reversed(OUTPUTS))]
    result = client.infer(NAME, inputs, outputs=outputs, model_version="1")
    response = result.get_response()
    assert [output["name"] for output in response["outputs"]] == list(reversed(OUTPUTS))
    assert ["data" in output for output in response["outputs"]] == [i % 2 == 1 for i in range(len(OUTPUTS))]
    assert_same(result, scores(server, records))


def test_the_outputs_asked_for_alone(client: triton.InferenceServerClient, server: str, records: Records) -> None:
    outputs = [InferRequestedOutput("p_value", binary_data=False), InferRequestedOutput("latent_mean")]
    result = client.infer(NAME, named(records), outputs=outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["p_value", "latent_mean"]
    assert result.as_numpy("elbo") is None
    expected = scores(server, records)
    assert_same(result, {name: expected[name] for name in ("p_value", "latent_mean")})


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("coded", [True, False])
def test_whole_kinds_as_matrices(
    client: triton.InferenceServerClient, server: str, models: Any, records: Records, binary: bool, coded: bool
) -> None:
    schema = store.load(models, NAME, 1).manifest.record
    assert isinstance(schema, TableSchema)
    numeric = np.hstack([column(records, field.name) for field in schema.numeric])
    boolean = np.hstack([column(records, field.name) for field in schema.boolean])
    texts = np.hstack([column(records, field.name) for field in schema.categorical])
    codes = np.array(
        [[field.codes[record[field.name]] for field in schema.categorical] for record in records], np.int64
    )
    inputs = [
        tensor("numeric", numeric.astype(np.float64) if coded else numeric, binary),
        tensor("boolean", boolean.astype(np.int8) if coded else boolean, binary),
        tensor("categorical", codes if coded else texts, binary),
    ]
    assert_same(client.infer(NAME, inputs), scores(server, records))


def test_missing_values(client: triton.InferenceServerClient, server: str, records: Records) -> None:
    numbers = column(records, "amount")
    numbers[1] = np.nan
    present = column(records, "card_present").astype(np.int8)
    present[2] = -1
    countries = column(records, "country")
    countries[3] = ""
    gaps = [dict(record) for record in records]
    gaps[1]["amount"] = gaps[2]["card_present"] = gaps[3]["country"] = None
    fields = ("amount", "card_present", "country")
    expected = scores(server, [{name: record[name] for name in fields} for record in gaps])
    for binary in (True, False):  # in JSON, the client writes the NaN as NaN
        inputs = [tensor("amount", numbers, binary), tensor("card_present", present, binary)]
        assert_same(client.infer(NAME, [*inputs, tensor("country", countries, binary)]), expected)


def test_the_number_of_draws(client: triton.InferenceServerClient, server: str, records: Records) -> None:
    result = client.infer(NAME, named(records), parameters={"samples": 4})
    assert result.get_response()["parameters"] == {"samples": 4, "score": "combined", "false_alarm_rate": 0.01}
    assert_same(result, scores(server, records, samples=4))


def test_a_density_that_a_double_cannot_hold(client: triton.InferenceServerClient) -> None:
    amount = tensor("amount", np.array([1e300, 20.0]))
    for binary in (True, False):
        output = InferRequestedOutput("reconstruction_probability", binary_data=binary)
        density = client.infer(NAME, [amount], outputs=[output]).as_numpy("reconstruction_probability")
        assert density is not None
        assert np.isnan(density).tolist() == [True, False]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compression(
    client: triton.InferenceServerClient, server: str, records: Records, coding: str, binary: bool
) -> None:
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS]
    result = client.infer(
        NAME,
        named(records, binary),
        outputs=outputs,
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    assert_same(result, scores(server, records))


def test_a_large_answer_is_compressed_too(server: str) -> None:
    body = {"inputs": [{"name": "amount", "datatype": "FP64", "shape": [5000], "data": [20.0] * 5000}]}
    url = f"{server}/v2/models/{NAME}/infer"
    with httpx.stream("POST", url, json=body, headers={"Accept-Encoding": "deflate;q=0.5, gzip"}) as response:
        assert response.headers["content-encoding"] == "gzip"
        raw = b"".join(response.iter_raw())
    plain = httpx.post(url, json=body, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(raw) == plain.content


def test_timeout_is_the_deadline(client: triton.InferenceServerClient, records: Records) -> None:
    with pytest.raises(InferenceServerException, match="the deadline") as caught:
        client.infer(NAME, named(records * 500), timeout=1)
    assert caught.value.status() == "504"
    for timeout in (0, 5_000_000):
        assert client.infer(NAME, named(records), timeout=timeout).as_numpy("elbo") is not None
    with pytest.raises(InferenceServerException, match="deadline"):
        client.infer(NAME, named(records * 500), headers={"X-Deadline-Ms": "1"}, parameters={"samples": 256})


def test_async_infer(client: triton.InferenceServerClient, server: str, records: Records) -> None:
    pending = [
        client.async_infer(NAME, named(records[i:]), request_id=str(i), response_compression_algorithm="gzip")
        for i in range(4)
    ]
    for i, request in enumerate(pending):
        result = request.get_result()
        assert result.get_response()["id"] == str(i)
        elbo = result.as_numpy("elbo")
        assert elbo is not None
        np.testing.assert_allclose(elbo, scores(server, records[i:])["elbo"], rtol=1e-5)
    with pytest.raises(InferenceServerException, match="no such model"):
        client.async_infer("nobody", named(records)).get_result()


def test_statistics(client: triton.InferenceServerClient, server: str, records: Records) -> None:
    def read() -> dict[str, Any]:
        (model,) = client.get_inference_statistics(NAME)["model_stats"]
        assert (model["name"], model["version"]) == (NAME, "1")
        return dict(model)

    before = read()
    for _ in range(3):
        client.infer(NAME, named(records))
    with pytest.raises(InferenceServerException):
        client.infer(NAME, [tensor("nothing", np.zeros(3))])
    after = read()
    assert after["inference_count"] - before["inference_count"] == 3 * len(records)
    assert after["execution_count"] - before["execution_count"] == 3
    assert abs(after["last_inference"] / 1e3 - time.time()) < 60
    gained = {
        phase: (
            stat["count"] - before["inference_stats"][phase]["count"],
            stat["ns"] - before["inference_stats"][phase]["ns"],
        )
        for phase, stat in after["inference_stats"].items()
    }
    for phase, (count, nanoseconds) in gained.items():
        assert count == {"fail": 1, "cache_hit": 0, "cache_miss": 0}.get(phase, 3), phase
        assert (nanoseconds > 0) is (count > 0), phase
    parts = sum(gained[part][1] for part in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert parts <= gained["success"][1]
    assert client.get_inference_statistics()["model_stats"] == [after]
    assert client.get_inference_statistics(NAME, "1")["model_stats"] == [after]


def test_what_is_not_there_is_said(client: triton.InferenceServerClient) -> None:
    for call in (
        client.get_log_settings,
        client.get_trace_settings,
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
        lambda: client.get_trace_settings(NAME),
        lambda: client.load_model("nobody"),
        lambda: client.unload_model("nobody"),
        lambda: client.get_model_config("nobody"),
        lambda: client.get_inference_statistics(NAME, "7"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert caught.value.status() == "404"
        assert "decoding the response" not in str(caught.value.message())


async def test_the_asynchronous_client(server: str, records: Records) -> None:
    from tritonclient.http import aio

    async with aio.InferenceServerClient(server.removeprefix("http://")) as client:
        assert await client.is_model_ready(NAME)
        assert (await client.get_model_metadata(NAME))["name"] == NAME
        result = await client.infer(NAME, named(records))
        assert_same(result, scores(server, records))
        with pytest.raises(InferenceServerException, match="no such input"):
            await client.infer(NAME, [tensor("nothing", np.zeros(3))])
