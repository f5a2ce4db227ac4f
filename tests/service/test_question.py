"""Another score, or another false-alarm rate, than the bundle's own: in every format, each with its calibration."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from bundle import store
from bundle.calibration import Calibration
from bundle.manifest import SCORES
from tests.conftest import NAME

RECORDS = [{"amount": 12.5, "country": "SE"}, {"amount": 950.0, "hour": 3, "country": "??"}, {"amount": 31.0}]


async def ask(client: httpx.AsyncClient, query: str = "", **members: Any) -> dict[str, Any]:
    response = await client.post(f"/score{query}", json={"records": RECORDS, **members})
    assert response.status_code == 200, response.text
    assert response.headers["surprisal-score"] == response.json()["score"]
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize("score", [score.name for score in SCORES])
@pytest.mark.parametrize("samples", [1, 16])
async def test_a_score_has_its_own_calibration(
    client: httpx.AsyncClient, models: Path, score: str, samples: int
) -> None:
    answer = await ask(client, score=score, samples=samples)
    held_out = Calibration.from_bytes(store.load(models, NAME, 1).files["calibration.npz"])
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
        ({"false_alarm_rate": 0}, "/false_alarm_rate", "between 0 and 1"),
        ({"false_alarm_rate": 1.5}, "/false_alarm_rate", "between 0 and 1"),
        ({"false_alarm_rate": True}, "/false_alarm_rate", "between 0 and 1"),
        ({"false_alarm_rate": "0.1"}, "/false_alarm_rate", "between 0 and 1"),
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


@pytest.mark.parametrize("query", ["?score=entropy", "?false_alarm_rate=none", "?false_alarm_rate=nan", "?rate=0.1"])
async def test_so_is_what_a_query_asks_in_vain(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.post(f"/score{query}", json={"records": RECORDS})).status_code == 422


@pytest.mark.parametrize("media_type", ["text/csv", "application/x-ndjson"])
async def test_other_formats_take_the_query(client: httpx.AsyncClient, media_type: str) -> None:
    body = "amount\n31.0\n" if media_type == "text/csv" else '{"amount": 31.0}\n'
    headers = {"Content-Type": media_type, "Accept": media_type}
    usual = await client.post("/score", content=body, headers=headers)
    other = await client.post("/score?score=neighbours&false_alarm_rate=0.9", content=body, headers=headers)
    assert other.status_code == 200
    assert other.headers["surprisal-score"] == "neighbours"
    assert other.text != usual.text


async def test_the_open_inference_protocol_takes_parameters(client: httpx.AsyncClient) -> None:
    tensor = {"name": "amount", "shape": [2], "datatype": "FP64", "data": [3.5, 40.0]}
    path = f"/v2/models/{NAME}/infer"
    for score in ("elbo", "neighbours"):
        body = {"inputs": [tensor], "parameters": {"score": score, "samples": 4}}
        answer = (await client.post(path, json=body)).json()
        assert answer["parameters"] == {"samples": 4, "score": score}
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        assert (outputs["anomaly_score"] == [-value for value in outputs["elbo"]]) == (score == "elbo")
    refused = await client.post(path, json={"inputs": [tensor], "parameters": {"score": "entropy"}})
    assert refused.json()["errors"][0]["pointer"] == "/parameters/score"
