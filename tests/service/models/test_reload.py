"""Versions that change under load, models that come and go, and a version that is tried out beside another."""

import asyncio
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import tritonclient.http as triton

from bundle.folder import registry, serving
from service.front.app import Application
from service.models.shadow import MOST_WAITING, Body
from service.settings import Settings
from tests.conftest import FAST, NAME, as_data, in_process, running, simulate_payments, until
from training import config, pipeline

CLIENTS = 16
CHANGES = 10


@pytest.fixture(scope="module")
def two_versions(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with two versions that score differently; not to be changed."""
    root = tmp_path_factory.mktemp("two") / "models"
    shutil.copytree(models, root)
    trained = pipeline.train(as_data(simulate_payments(seed=4)), root, NAME, config.build(FAST), device="cpu")
    assert trained.version == 2
    return root


@pytest.fixture
def root(two_versions: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    shutil.copytree(two_versions, tmp_path / "models")
    return tmp_path / "models"


async def score(client: httpx.AsyncClient, payment: dict[str, Any]) -> tuple[int, str, float]:
    """Status, version and score."""
    response = await client.post("/score", json={"records": [payment]})
    content = response.json()
    if response.status_code != 200:
        return response.status_code, "", 0.0
    assert response.headers["surprisal-version"] == content["model"]["version"]
    # A batch of another size may differ in the last bits.
    return 200, content["model"]["version"], round(content["results"][0]["anomaly_score"], 3)


async def test_promotions_and_rollbacks_lose_no_request_and_mix_no_versions(
    root: Path, payments: list[dict[str, Any]]
) -> None:
    registry.promote(root, NAME, 1)
    answers: Counter[tuple[int, str, float]] = Counter()
    changing = True
    with running(root, 2) as (_, url):

        async def ask(client: httpx.AsyncClient) -> None:
            while changing:
                answers[await score(client, payments[0])] += 1
                # Some requests are always under way; a processor that is all theirs would show no more.
                await asyncio.sleep(0.02)

        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client, asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(ask(client))
            for change in range(CHANGES):
                await asyncio.to_thread(
                    *((registry.promote, root, NAME, 2) if change % 2 == 0 else (registry.rollback, root, NAME))
                )
                # Every worker follows within a second.
                await asyncio.sleep(1.3)
            changing = False
    assert {status for status, _, _ in answers} == {200}
    assert {version for _, version, _ in answers} == {"1", "2"}
    assert len(answers) == 2, "one score for each version"
    assert min(answers.values()) > CHANGES


async def test_a_damaged_version_is_refused_counted_and_the_old_one_serves_on(root: Path) -> None:
    registry.promote(root, NAME, 1)
    async with in_process(Settings(models=root)) as (client, app):
        (root / NAME / "2" / "scorer.onnx").write_bytes(b"damaged")
        serving.write(root / NAME, serving.Serving(version=2))
        await app.models.refresh()
        assert (await client.get(f"/models/{NAME}")).json()["version"] == "1"
        refused = (await client.get("/models")).json()["refused"][NAME]
        assert refused.startswith("version 2: scorer.onnx: its bytes are not those that were written")
        assert app.metrics.total("surprisal_model_refused", model=NAME) == 1
        assert app.metrics.total("surprisal_reloads_total", model=NAME, result="refused") == 1
        assert (await client.post("/score", json={"records": [{"amount": 3.0}]})).status_code == 200


async def test_a_model_is_taken_out_of_service_and_back_by_request(root: Path) -> None:
    path = f"/v2/repository/models/{NAME}"
    async with in_process(Settings(models=root)) as (client, _), in_process(Settings(models=root)) as (_, follower):
        assert (await client.post(f"{path}/unload")).status_code == 200
        assert (await client.post("/score", json={"records": [{"amount": 3.0}]})).status_code == 503
        assert "out of service" in (await client.get("/readyz")).json()["reason"]
        assert (await client.post("/v2/repository/index")).json() == [
            {"name": NAME, "version": "", "state": "UNAVAILABLE", "reason": "unloaded"}
        ]
        await follower.models.refresh()
        assert not follower.models.served, "by its serving.json"
        assert (await client.post(f"{path}/load")).status_code == 200
        assert (await client.post("/score", json={"records": [{"amount": 3.0}]})).status_code == 200
        await follower.models.refresh()
        assert [model.version for model in follower.models.served] == [2]


async def test_loading_says_what_it_cannot_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/v2/repository/models/{NAME}"
    async with in_process(Settings(models=root)) as (client, _):
        assert (await client.post("/v2/repository/models/nobody/load")).status_code == 404
        configured = await client.post(f"{path}/load", json={"parameters": {"config": "{}"}})
        assert (configured.status_code, configured.json()["errors"][0]["pointer"]) == (422, "/parameters")
        assert (
            await client.post(f"{path}/unload", json={"parameters": {"unload_dependents": False}})
        ).status_code == 200
        (root / NAME / "2" / "noise.npy").write_bytes(b"damaged")
        refused = await client.post(f"{path}/load")
        assert (refused.status_code, refused.json()["type"]) == (409, "model-refused")
        assert "noise.npy" in refused.json()["error"]

        def read_only(*_: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(serving, "write", read_only)
        unwritable = await client.post(f"{path}/unload")
        assert (unwritable.status_code, unwritable.json()["type"]) == (409, "models-not-writable")


def test_tritons_client_loads_and_unloads(root: Path) -> None:
    with running(root, 2) as (_, url), triton.InferenceServerClient(url.removeprefix("http://")) as client:
        client.unload_model(NAME)
        until(lambda: httpx.get(f"{url}/readyz").status_code == 503)
        client.load_model(NAME)
        until(lambda: all(client.is_model_ready(NAME) for _ in range(20)))


async def test_a_shadow_scores_the_same_records_and_answers_nobody(root: Path, payments: list[dict[str, Any]]) -> None:
    registry.promote(root, NAME, 1)
    registry.shadow(root, NAME, 2)
    async with in_process(Settings(models=root)) as (client, app):
        by_name = {"Content-Type": "application/x-ndjson"}
        lines = "\n".join('{"amount": 3.5}' for _ in range(5)) + "\nno record\n"
        tensor = {"name": "amount", "shape": [2], "datatype": "FP64", "data": [3.5, 4.5]}
        for _ in range(3):
            assert (await score(client, payments[0]))[1] == "1"
        stream = await client.post("/score", content=lines.encode(), headers=by_name)
        assert stream.headers["surprisal-version"] == "1"
        infer = await client.post(f"/v2/models/{NAME}/infer", json={"inputs": [tensor]})
        assert infer.json()["model_version"] == "1"
        await scored(app, 10)
        served = {"model": NAME, "version": "1"}
        shadow = {"model": NAME, "version": "2"}
        for metric in ("surprisal_records_total", "surprisal_p_value_count"):
            assert app.metrics.total(metric, **shadow) == app.metrics.total(metric, **served) == 10
        assert app.metrics.total("surprisal_field_bin_total", field="amount", **shadow) == 10
        assert app.metrics.total("surprisal_model_shadow", **shadow) == 1
        assert app.metrics.total("surprisal_model_info", **shadow) == 0
        # The stages are those of requests, of which a shadow has none.
        assert app.metrics.total("surprisal_stage_duration_seconds_count", stage="infer") == 5
        assert [model["shadow"] for model in (await client.get("/models")).json()["models"]] == ["2"]
        assert (await client.get(f"/models/{NAME}/versions/2/score")).status_code == 405
        assert (await client.post(f"/models/{NAME}/versions/2/score", json={"records": [{}]})).status_code == 404


async def test_a_shadow_is_followed_dropped_and_promoted(root: Path) -> None:
    registry.promote(root, NAME, 1)
    body = {"records": [{"amount": 3.0}]}
    async with in_process(Settings(models=root)) as (client, app):
        registry.shadow(root, NAME, 2)
        await app.models.refresh()
        await client.post("/score", json=body)
        await scored(app, 1)
        registry.shadow(root, NAME, None)
        await app.models.refresh()
        await client.post("/score", json=body)
        assert app.metrics.total("surprisal_model_shadow") == 0
        registry.shadow(root, NAME, 2)
        await app.models.refresh()
        registry.promote(root, NAME, 2)
        await app.models.refresh()
        assert (await client.post("/score", json=body)).json()["model"]["version"] == "2"
        assert app.metrics.total("surprisal_model_shadow") == 0
        assert app.metrics.total("surprisal_records_total", version="2") == 2


async def test_a_shadow_that_is_damaged_disturbs_nobody(root: Path) -> None:
    registry.promote(root, NAME, 1)
    (root / NAME / "2" / "scorer.onnx").write_bytes(b"damaged")
    serving.write(root / NAME, serving.Serving(version=1, shadow=2))
    async with in_process(Settings(models=root)) as (client, app):
        for _ in range(3):
            await app.models.refresh()
        assert (await client.post("/score", json={"records": [{"amount": 3.0}]})).status_code == 200
        assert (await client.get("/models")).json()["refused"] == {}
        assert app.metrics.total("surprisal_reloads_total", result="shadow refused") == 1


async def test_a_shadow_that_is_not_there_is_said_once_and_scores_once_it_is(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry.promote(root, NAME, 1)
    serving.write(root / NAME, serving.Serving(version=1, shadow=3))
    async with in_process(Settings(models=root)) as (_, app):
        for _ in range(3):
            await app.models.refresh()
        assert app.metrics.total("surprisal_reloads_total", result="shadow refused") == 1
        assert len([record for record in caplog.records if "refused as a shadow" in record.message]) == 1
        shutil.copytree(root / NAME / "2", root / NAME / "3")
        await app.models.refresh()
        assert app.metrics.total("surprisal_model_shadow", version="3") == 1


async def test_a_model_out_of_service_whose_file_is_then_damaged_is_named_once(root: Path) -> None:
    registry.set_loaded(root, NAME, loaded=False)
    async with in_process(Settings(models=root)) as (client, app):
        (root / NAME / "serving.json").write_text("{")
        await app.models.refresh()
        (entry,) = (await client.post("/v2/repository/index")).json()
        assert "serving.json" in entry["reason"]


async def test_a_shadow_with_too_much_to_do_leaves_requests_out(root: Path) -> None:
    registry.promote(root, NAME, 1)
    registry.shadow(root, NAME, 2)
    async with in_process(Settings(models=root)) as (_, app):
        (model,) = app.models.served
        assert model.shadow is not None
        asked = asyncio.Event()

        def never(manifest: object) -> Any:
            asked.set()
            raise ValueError("a body that cannot be read")

        shown = {name for name, labels, _ in app.metrics.samples() if labels.get("reason") == "queue-full"}
        assert "surprisal_shadow_left_out_total" in shown, "0, before anything is left out"
        body = Body(1000, lambda _: 1000, never)
        reserved = app.budget.reserved
        for _ in range(MOST_WAITING + 5):
            model.shadow.offer(body, app.budget)
        assert app.budget.reserved == reserved + MOST_WAITING * body.size
        assert app.metrics.total("surprisal_shadow_left_out_total", reason="queue-full") == 5
        await asyncio.wait_for(asked.wait(), 30)
        while app.metrics.total("surprisal_shadow_left_out_total", reason="internal-error") < MOST_WAITING:
            await asyncio.sleep(0.01)
        while app.budget.reserved > reserved:
            await asyncio.sleep(0.01)


async def scored(app: Application, records: int) -> None:
    """Wait until a shadow has scored so many records."""
    async with asyncio.timeout(30):
        while app.metrics.total("surprisal_records_total", version="2") < records:
            await asyncio.sleep(0.01)
