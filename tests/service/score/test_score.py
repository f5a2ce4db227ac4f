"""`POST /score`: what is answered, and what is refused with which status and pointer."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.folder import contents, store
from reading.options import USUAL_MISSING
from service.engine.batcher import Batcher
from service.errors import ServiceError
from service.settings import Settings
from service.wire.problems import STATUS
from tests.conftest import NAME, in_process

PAYMENT: dict[str, Any] = {
    "amount": 31.4,
    "hour": 17,
    "merchant_category": "groceries",
    "country": "SE",
    "channel": "contactless",
    "card_present": True,
    "new_merchant": False,
    "distance_km": 3.2,
    "minutes_since_last": 410,
    "transactions_24h": 2,
    "average_amount_30d": 29.8,
}
FIELDS = list(PAYMENT)
MARK = "S3CRET"


async def post(client: httpx.AsyncClient, content: Any, path: str = "/score", **headers: str) -> httpx.Response:
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return await client.post(path, content=body, headers={"Content-Type": "application/json", **headers})


async def test_a_record_gets_every_score(client: httpx.AsyncClient, models: Path) -> None:
    response = await post(client, {"records": [PAYMENT], "samples": 16, "explain": False})
    assert response.status_code == 200
    answer = response.json()
    assert answer["model"] == {"name": NAME, "version": "1"}
    assert {name: answer[name] for name in ("samples", "score", "false_alarm_rate")} == {
        "samples": 16,
        "score": "combined",
        "false_alarm_rate": 0.01,
    }
    (result,) = answer["results"]
    assert set(result) == {
        "reconstruction_probability",
        "log_reconstruction_probability",
        "elbo",
        "iwae",
        "expected_log_likelihood",
        "latent_mean",
        "anomaly_score",
        "p_value",
        "is_anomaly",
    }
    bundle = store.load(models, NAME, 1)
    assert len(result["latent_mean"]) == bundle.manifest.latent_size
    assert result["reconstruction_probability"] == pytest.approx(np.exp(result["log_reconstruction_probability"]))
    held_out = contents.calibration(bundle).scores("combined", 16)
    strange = int((held_out >= np.float32(result["anomaly_score"])).sum())
    assert result["p_value"] == pytest.approx((1 + strange) / (held_out.size + 1), abs=0)
    assert result["is_anomaly"] is False


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal but for the last digits: the rows of a batch go through different lanes of the processor."""
    return all(one[name] == pytest.approx(other[name], rel=1e-5, abs=1e-5) for name in one)


async def test_objects_arrays_and_gaps_mean_the_same_record(client: httpx.AsyncClient) -> None:
    partial = {name: value for name, value in PAYMENT.items() if name != "distance_km"}
    records = [
        PAYMENT,
        list(PAYMENT.values()),
        dict(reversed(PAYMENT.items())),
        partial,
        {**partial, "distance_km": None},
        [None if name == "distance_km" else value for name, value in PAYMENT.items()],
    ]
    results = (await post(client, {"records": records})).json()["results"]
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    assert same(results[3], results[4])
    assert same(results[3], results[5])
    assert not same(results[0], results[3])


async def test_a_density_that_a_double_cannot_hold_is_null(client: httpx.AsyncClient) -> None:
    (result,) = (await post(client, {"records": [PAYMENT | {"amount": 1e300}]})).json()["results"]
    assert result["reconstruction_probability"] is None
    assert result["log_reconstruction_probability"] < -1000
    assert result["is_anomaly"] is True


async def test_samples_default_to_the_bundles(client: httpx.AsyncClient) -> None:
    default = (await post(client, {"records": [PAYMENT]})).json()
    assert default == (await post(client, {"records": [PAYMENT], "samples": 16})).json()
    assert default != (await post(client, {"records": [PAYMENT], "samples": 1})).json()


@pytest.mark.parametrize("path", ["/score", f"/models/{NAME}/score", f"/models/{NAME}/versions/1/score"])
async def test_every_scoring_path_answers(client: httpx.AsyncClient, path: str) -> None:
    assert (await post(client, {"records": [PAYMENT]}, path)).status_code == 200


@pytest.mark.parametrize("path", ["/models/nobody/score", f"/models/{NAME}/versions/7/score", "/models/nobody"])
async def test_a_model_that_does_not_exist_is_404(client: httpx.AsyncClient, path: str) -> None:
    method = "GET" if path.endswith("nobody") else "POST"
    response = await client.request(method, path, content=orjson.dumps({"records": [PAYMENT]}))
    assert response.status_code == 404
    assert response.json()["type"] == "model-not-found"


def with_value(field: str, value: Any) -> Any:
    return {"records": [PAYMENT, {**PAYMENT, field: value}]}


REFUSED: list[tuple[str, Any, int, str | None]] = [
    ("not JSON", b"{", 400, None),
    ("no body", b"", 400, None),
    ("invalid UTF-8", b'{"records": [{"country": "\xff"}]}', 400, None),
    ("NaN", b'{"records": [{"amount": NaN}]}', 400, None),
    ("Infinity", b'{"records": [{"amount": -Infinity}]}', 400, None),
    ("a number beyond a double", b'{"records": [{"amount": 1e400}]}', 400, None),
    ("nested 10 000 deep", b"[" * 10_000 + b"]" * 10_000, 400, None),
    ("a deep value", b'{"records": [{"amount": ' + b"[" * 500 + b"]" * 500 + b"}]}", 422, "/records/0/amount"),
    ("an array on top", [PAYMENT], 422, ""),
    ("text on top", "records", 422, ""),
    ("null on top", None, 422, ""),
    ("no records", {}, 422, "/records"),
    ("records that are no array", {"records": PAYMENT}, 422, "/records"),
    ("an empty list", {"records": []}, 422, "/records"),
    ("an unknown member", {"records": [PAYMENT], "sample": 4}, 422, "/sample"),
    ("a record that is a number", {"records": [PAYMENT, 5]}, 422, "/records/1"),
    ("a record that is null", {"records": [None]}, 422, "/records/0"),
    ("an empty record", {"records": [{}]}, 422, "/records/0"),
    ("a record of nulls", {"records": [[None] * len(FIELDS)]}, 422, "/records/0"),
    ("an array too short", {"records": [PAYMENT, [1.0, 2.0]]}, 422, "/records/1"),
    ("an unknown field", with_value("a/b~c", 1), 422, "/records/1/a~1b~0c"),
    ("text for a number", with_value("amount", MARK), 422, "/records/1/amount"),
    ("numeric text for a number", with_value("amount", "12"), 422, "/records/1/amount"),
    ("a boolean for a number", with_value("amount", True), 422, "/records/1/amount"),
    ("a number for a boolean", with_value("card_present", 2), 422, "/records/1/card_present"),
    ("text for a boolean", with_value("card_present", MARK), 422, "/records/1/card_present"),
    ("an array for a category", with_value("country", [MARK]), 422, "/records/1/country"),
    ("an object for a category", with_value("country", {MARK: 1}), 422, "/records/1/country"),
    ("a wrong value in an array record", {"records": [[MARK, *list(PAYMENT.values())[1:]]]}, 422, "/records/0/0"),
    ("0 samples", {"records": [PAYMENT], "samples": 0}, 422, "/samples"),
    ("10 000 samples", {"records": [PAYMENT], "samples": 10_000}, 422, "/samples"),
    ("3 samples", {"records": [PAYMENT], "samples": 3}, 422, "/samples"),
    ("samples that are text", {"records": [PAYMENT], "samples": "16"}, 422, "/samples"),
    ("samples that are true", {"records": [PAYMENT], "samples": True}, 422, "/samples"),
    ("an explanation that is no flag", {"records": [PAYMENT], "explain": "true"}, 422, "/explain"),
]


@pytest.mark.parametrize(("content", "status", "pointer"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
async def test_bad_input_is_refused_by_pointer_and_without_its_value(
    client: httpx.AsyncClient, content: Any, status: int, pointer: str | None
) -> None:
    response = await post(client, content)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert MARK not in response.text
    if pointer is not None:
        assert pointer in [each["pointer"] for each in problem["errors"]]
    assert (await post(client, {"records": [PAYMENT]})).status_code == 200


async def test_every_wrong_value_is_named_in_order(client: httpx.AsyncClient) -> None:
    records = [PAYMENT | {"amount": "x"}, PAYMENT, PAYMENT | {"country": [], "card_present": "y"}]
    problem = (await post(client, {"records": records})).json()
    pointers = [each["pointer"] for each in problem["errors"]]
    assert pointers == ["/records/0/amount", "/records/2/card_present", "/records/2/country"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "APPLICATION/JSON"}, 200),
        ({"Accept": "text/html"}, 406),
        ({"Accept": "application/json;q=0"}, 406),
        ({"Accept": "text/html, application/*;q=0.5"}, 200),
        ({"Accept": "*/*"}, 200),
    ],
)
async def test_media_types(client: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    assert (await post(client, {"records": [PAYMENT]}, **headers)).status_code == status


async def test_no_content_type_means_json(client: httpx.AsyncClient) -> None:
    assert (await client.post("/score", content=orjson.dumps({"records": [PAYMENT]}))).status_code == 200


async def test_limits_on_records_and_bytes(models: Path) -> None:
    async with in_process(Settings(models=models, max_records=3, max_body_bytes=2000)) as (client, _):
        three = await post(client, {"records": [list(PAYMENT.values())] * 3})
        assert three.status_code == 200
        four = await post(client, {"records": [list(PAYMENT.values())] * 4})
        assert (four.status_code, four.json()["type"]) == (413, "too-many-records")
        little_over = await post(client, b" " * 2001)
        assert (little_over.status_code, little_over.json()["type"]) == (413, "body-too-large")
        assert "connection" not in little_over.headers
        far_over = await post(client, b" " * 20_000)
        assert (far_over.status_code, far_over.headers["connection"]) == (413, "close")

        async def chunks() -> Any:
            for _ in range(30):
                yield b" " * 100

        chunked = await client.post("/score", content=chunks())
        assert chunked.status_code == 413


async def test_a_deadline_that_cannot_be_met_is_504(client: httpx.AsyncClient) -> None:
    many = {"records": [PAYMENT] * 5000, "samples": 256}
    response = await post(client, many, **{"X-Deadline-Ms": "1"})
    assert (response.status_code, response.json()["type"]) == (504, "deadline-exceeded")
    for wrong in ("0", "-1", "soon", "9" * 5000):
        assert (await post(client, {"records": [PAYMENT]}, **{"X-Deadline-Ms": wrong})).status_code == 422


async def test_a_body_that_does_not_come_is_408(client: httpx.AsyncClient) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b'{"records": ['
        await asyncio.Event().wait()

    response = await client.post("/score", content=half(), headers={"X-Deadline-Ms": "50"})
    assert (response.status_code, response.json()["type"]) == (408, "body-too-slow")
    assert response.headers["connection"] == "close"


async def test_a_full_queue_is_429_with_retry_after(models: Path) -> None:
    limits = Settings(models=models, max_records=2000, max_queue_records=2000)
    async with in_process(limits) as (client, _):
        body = {"records": [PAYMENT] * 2000, "samples": 64}
        responses = await asyncio.gather(*(post(client, body) for _ in range(8)))
        by_status = {response.status_code: response for response in responses}
        assert set(by_status) == {200, 429}
        assert by_status[429].json()["type"] == "queue-full"
        assert int(by_status[429].headers["retry-after"]) >= 1
        assert (await post(client, {"records": [PAYMENT]})).status_code == 200


async def test_request_ids_are_taken_and_returned(client: httpx.AsyncClient) -> None:
    given_id = (await post(client, {"records": [PAYMENT]}, **{"X-Request-ID": "abc-1"})).headers["x-request-id"]
    assert given_id == "abc-1"
    made = {(await post(client, {"records": [PAYMENT]})).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    too_long = (await post(client, {"records": [PAYMENT]}, **{"X-Request-ID": "x" * 500})).headers["x-request-id"]
    assert too_long != "x" * 500


async def test_wrong_method_and_path_are_problem_documents(client: httpx.AsyncClient) -> None:
    wrong_method = await client.get("/score")
    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "POST")
    assert wrong_method.json()["type"] == "method-not-allowed"
    assert (await client.get("/nowhere")).json()["type"] == "not-found"


def test_every_error_has_a_status_and_its_own_slug() -> None:
    def below(kind: type[ServiceError]) -> list[type[ServiceError]]:
        return [kind, *(each for child in kind.__subclasses__() for each in below(child))]

    concrete = [kind for kind in below(ServiceError) if kind is not ServiceError]
    assert set(concrete) == set(STATUS)
    slugs = [kind.slug for kind in concrete]
    assert len(set(slugs)) == len(slugs)


numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
booleans = st.none() | st.booleans() | st.sampled_from([0, 1])
categories = (
    st.none() | st.text(max_size=20) | st.sampled_from(["SE", "online", "cash"]) | st.integers() | st.booleans()
)
kinds = {
    name: booleans if isinstance(value, bool) else categories if isinstance(value, str) else numbers
    for name, value in PAYMENT.items()
}
valid = st.fixed_dictionaries({}, optional=kinds) | st.tuples(*kinds.values()).map(list)
anything = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=4),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(valid, min_size=1, max_size=5), samples=st.sampled_from([1, 4, 16]))
def test_every_valid_record_gets_finite_scores(server: str, records: list[Any], samples: int) -> None:
    response = httpx.post(f"{server}/score", content=_dumps({"records": records, "samples": samples}))
    # A text that means missing, as training was told, is no value either.
    empty = [all(v is None or v in USUAL_MISSING for v in (r.values() if isinstance(r, dict) else r)) for r in records]
    if any(empty):
        assert response.status_code == 422
        return
    assert response.status_code == 200, response.text
    for result in response.json()["results"]:
        assert np.isfinite([result["elbo"], result["iwae"], result["anomaly_score"], *result["latent_mean"]]).all()
        assert 0 < result["p_value"] <= 1


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=anything | st.fixed_dictionaries({"records": st.lists(anything | valid, max_size=4)}))
def test_nothing_that_is_sent_is_a_5xx(server: str, content: Any) -> None:
    response = httpx.post(f"{server}/score", content=_dumps(content))
    assert response.status_code in (200, 400, 413, 422), response.text


def _dumps(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False).encode("utf-8", "surrogatepass")


async def test_a_path_that_only_ends_like_scoring_is_answered_once(client: httpx.AsyncClient) -> None:
    response = await client.post("/nowhere/score", content=b"{}")
    assert response.status_code == 404
    assert len(response.headers.get_list("x-request-id")) == 1


async def test_a_service_that_drains_asks_its_clients_to_connect_elsewhere(models: Path) -> None:
    async with in_process(Settings(models=models)) as (client, app):
        for path in ("/score", f"/v2/models/{NAME}/ready"):
            assert "connection" not in (await client.request("GET", path)).headers
        app.models.draining = True
        assert (await post(client, {"records": [PAYMENT]})).headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/score", f"/v2/models/{NAME}/infer"])
async def test_a_full_queue_refuses_before_it_reads_what_is_asked(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(Batcher, "is_full", lambda *_: True)
    response = await post(client, "not JSON at all", path)
    assert (response.status_code, response.json()["type"]) == (429, "queue-full")
    assert int(response.headers["retry-after"]) >= 1
