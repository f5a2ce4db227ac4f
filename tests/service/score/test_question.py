"""Another score, or another false-alarm rate, than the bundle's own: in every format, each with its calibration."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pytest

from bundle.contents.scores import TABLE_SCORES
from bundle.folder import contents, store
from tests.conftest import NAME

RECORDS = [{"amount": 12.5, "country": "SE"}, {"amount": 950.0, "hour": 3, "country": "??"}, {"amount": 31.0}]


async def ask(client: httpx.AsyncClient, query: str = "", **members: Any) -> dict[str, Any]:
    response = await client.post(f"/score{query}", json={"records": RECORDS, **members})
    assert response.status_code == 200, response.text
    assert response.headers["surprisal-score"] == response.json()["score"]
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize("score", [score.name for score in TABLE_SCORES])
@pytest.mark.parametrize("samples", [1, 16])
async def test_a_score_has_its_own_calibration(
    client: httpx.AsyncClient, models: Path, score: str, samples: int
) -> None:
    answer = await ask(client, score=score, samples=samples)
    held_out = contents.calibration(store.load(models, NAME, 1))
    found = np.array([result["anomaly_score"] for result in answer["results"]], np.float32)
    expected = held_out.p_values(score, samples, found)
    assert [result["p_value"] for result in answer["results"]] == expected.tolist()
    if score in ("elbo", "expected_log_likelihood"):
        assert found.tolist() == [-result[score] for result in answer["results"]]
    in_query = await ask(client, f"?score={score}&samples={samples}")
    assert in_query == answer


async def test_only_what_was_asked_differs(client: httpx.AsyncClient) -> None:
    usual, other = await ask(client), await ask(client, score="elbo", false_alarm_rate=0.5)
    assert (usual["score"], usual["false_alarm_rate"]) == ("combined", 0.01)
    for one, two in zip(usual["results"], other["results"], strict=True):
        apart = {name for name in one if one[name] != two[name]}
        assert apart <= {"anomaly_score", "p_value", "is_anomaly"}
        assert two["is_anomaly"] == (two["p_value"] <= 0.5)


@pytest.mark.parametrize(
    ("members", "pointer", "said"),
    [
        ({"score": "entropy"}, "/score", "one of combined, neighbours, typicality, elbo"),
        ({"score": ["elbo"]}, "/score", "one of combined"),
        ({"score": None}, "/score", "one of combined"),
        ({"false_alarm_rate": 0}, "/false_alarm_rate", "from 0.000001 up and below 1"),
        ({"false_alarm_rate": 1e-310}, "/false_alarm_rate", "from 0.000001 up and below 1"),
        ({"false_alarm_rate": 1.5}, "/false_alarm_rate", "from 0.000001 up and below 1"),
        ({"false_alarm_rate": True}, "/false_alarm_rate", "from 0.000001 up and below 1"),
        ({"false_alarm_rate": "0.1"}, "/false_alarm_rate", "from 0.000001 up and below 1"),
        ({"false_alarm_rate": 1e-6}, "/false_alarm_rate", "takes 999999 calibration records; this bundle has"),
    ],
)
async def test_what_the_bundle_cannot_answer_is_said(
    client: httpx.AsyncClient, members: dict[str, Any], pointer: str, said: str
) -> None:
    response = await client.post("/score", json={"records": RECORDS, **members})
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert fault["pointer"] == pointer
    assert said in fault["detail"]


async def test_the_least_rate_that_is_named_is_answered(client: httpx.AsyncClient) -> None:
    refused = await client.post("/score", json={"records": RECORDS, "false_alarm_rate": 1e-5})
    (fault,) = refused.json()["errors"]
    least = fault["detail"].removesuffix(" is the least").split()[-1]
    assert (await ask(client, false_alarm_rate=float(least)))["false_alarm_rate"] == float(least)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?score=entropy", "score: one of combined"),
        ("?false_alarm_rate=none", "false_alarm_rate: a share"),
        ("?false_alarm_rate=nan", "false_alarm_rate: a share"),
        ("?false_alarm_rate=0_0.1", "false_alarm_rate: a share"),
        ("?rate=0.1", "the query string takes samples, score, false_alarm_rate, explain alone"),
    ],
)
async def test_so_is_what_a_query_asks_in_vain(client: httpx.AsyncClient, query: str, said: str) -> None:
    response = await client.post(f"/score{query}", json={"records": RECORDS})
    assert response.status_code == 422
    assert said in response.json()["errors"][0]["detail"]


@pytest.mark.parametrize("media_type", ["text/csv", "application/x-ndjson", "application/vnd.apache.arrow.stream"])
async def test_other_formats_take_the_query(client: httpx.AsyncClient, media_type: str) -> None:
    expected = await ask(client, "?score=neighbours&false_alarm_rate=0.9")
    response = await client.post(
        "/score?score=neighbours&false_alarm_rate=0.9", json={"records": RECORDS}, headers={"Accept": media_type}
    )
    assert response.status_code == 200
    assert response.headers["surprisal-score"] == "neighbours"
    assert response.headers["surprisal-false-alarm-rate"] == "0.9"
    if media_type == "text/csv":
        answers = pyarrow.csv.read_csv(io.BytesIO(response.content)).to_pylist()
    elif media_type == "application/x-ndjson":
        answers = [orjson.loads(line) for line in response.content.splitlines()]
    else:
        answers = pa.ipc.open_stream(response.content).read_all().to_pylist()
    for answer, result in zip(answers, expected["results"], strict=True):
        assert answer["p_value"] == pytest.approx(result["p_value"], rel=1e-6)
        assert answer["anomaly_score"] == pytest.approx(result["anomaly_score"], rel=1e-6)
        assert answer["is_anomaly"] == result["is_anomaly"]


async def test_the_open_inference_protocol_takes_parameters(client: httpx.AsyncClient) -> None:
    tensor = {"name": "amount", "shape": [2], "datatype": "FP64", "data": [3.5, 40.0]}
    path = f"/v2/models/{NAME}/infer"
    for score in ("elbo", "neighbours"):
        body = {"inputs": [tensor], "parameters": {"score": score, "samples": 4}}
        answer = (await client.post(path, json=body)).json()
        assert answer["parameters"] == {"samples": 4, "score": score, "false_alarm_rate": 0.01}
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        assert (outputs["anomaly_score"] == [-value for value in outputs["elbo"]]) == (score == "elbo")
    refused = await client.post(path, json={"inputs": [tensor], "parameters": {"score": "entropy"}})
    assert refused.json()["errors"][0]["pointer"] == "/parameters/score"
