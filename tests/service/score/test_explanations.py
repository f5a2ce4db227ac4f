"""Explanations over HTTP: the same in every format, adding up to the ELBO, and costing nothing unless asked for."""

import asyncio
import csv
import io
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import orjson
import pyarrow as pa
import pytest

from bundle.contents.golden import tolerance
from bundle.contents.manifest import Manifest
from bundle.errors import BundleRefused, GoldenMismatch
from bundle.folder import store
from bundle.record.fields import Tensors
from service.engine.graph import Graph
from service.models import explainer as explainers
from service.settings import Settings
from tests.conftest import NAME, in_process, load
from tests.service.models.hostile_bundles import seal
from tests.service.score.test_formats import ARROW, CSV, FORMATS, JSON, NDJSON, results, written
from tests.service.score.test_score import PAYMENT

FRAUD = PAYMENT | {"amount": 40_000.0, "distance_km": 84.0, "country": "PL", "transactions_24h": 8}
GAPS = {"amount": 31.0, "country": "??"}
RECORDS = [PAYMENT, FRAUD, GAPS]


def asked(server: str, media_type: str, accept: str, query: str = "?explain=true") -> httpx.Response:
    columns = [dict.fromkeys(PAYMENT) | record for record in RECORDS]
    response = httpx.post(
        f"{server}/score{query}",
        content=written(media_type, columns),
        headers={"content-type": media_type, "accept": accept},
    )
    assert response.status_code == 200, response.text
    return response


def same(found: Any, expected: Any) -> None:
    """The one is the other; numbers within what a batch of another size makes of them."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            same(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-3)
    else:
        assert found == expected


def written_out(value: Any) -> Any:
    """A boolean or a category as text."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value


@pytest.fixture(scope="module")
def explained(server: str) -> list[dict[str, Any]]:
    response = httpx.post(f"{server}/score", json={"records": RECORDS, "explain": True})
    assert response.headers["surprisal-explains"] == "elbo"
    assert response.json()["score"] == "combined"
    assert "explain;dur=" in response.headers["server-timing"]
    found: list[dict[str, Any]] = response.json()["results"]
    return found


def test_surprisals_and_the_kl_add_up_to_the_negative_elbo(explained: list[dict[str, Any]], models: Path) -> None:
    schema = store.load(models, NAME, 1).manifest.record
    for result in explained:
        explanation = result["explanation"]
        terms = [field["surprisal"] for field in explanation["fields"]] + [explanation["kl"]["surprisal"]]
        assert sum(terms) == pytest.approx(-result["elbo"], abs=float(tolerance(len(schema.fields), max(terms))))
        shares = [field["share"] for field in explanation["fields"]] + [explanation["kl"]["share"]]
        assert sum(shares) == pytest.approx(1.0)
        assert {field["field"] for field in explanation["fields"]} == set(schema.names)


def test_a_field_far_out_is_named_first_and_what_is_missing_is_said(explained: list[dict[str, Any]]) -> None:
    first = explained[1]["explanation"]["fields"][0]
    assert (first["field"], first["direction"]) == ("amount", "high")
    assert first["interval"][0] < first["expected"] < first["interval"][1] < FRAUD["amount"]
    for record, result in zip(RECORDS, explained, strict=True):
        values = {field["field"]: field["value"] for field in result["explanation"]["fields"]}
        unknown = {"country": None} if record["country"] == "??" else {}
        assert values == dict.fromkeys(PAYMENT) | record | unknown
    gaps = {field["field"]: field["direction"] for field in explained[2]["explanation"]["fields"]}
    assert gaps["country"] == "unusual category"
    assert gaps["hour"] == gaps["card_present"] == gaps["channel"] == "missing"


@pytest.mark.parametrize("media_type", FORMATS)
def test_every_format_takes_the_question(server: str, explained: list[dict[str, Any]], media_type: str) -> None:
    same(asked(server, media_type, JSON).json()["results"], explained)


def test_lines_hold_what_json_holds(server: str, explained: list[dict[str, Any]]) -> None:
    stream = asked(server, NDJSON, NDJSON)
    assert stream.headers["surprisal-explains"] == "elbo"
    same([orjson.loads(line) for line in stream.content.splitlines()], explained)
    same(results(asked(server, CSV, NDJSON)), explained)


def test_arrow_holds_what_json_holds(server: str, explained: list[dict[str, Any]]) -> None:
    table = pa.ipc.open_stream(asked(server, JSON, ARROW).content).read_all()
    for found, result in zip(table["explanation"].to_pylist(), explained, strict=True):
        wanted = result["explanation"]
        same({name: found[name] for name in ("explains", "kl")}, {name: wanted[name] for name in ("explains", "kl")})
        for field, expected in zip(found["fields"], wanted["fields"], strict=True):
            for name in ("field", "surprisal", "excess", "share", "conditional_excess", "direction"):
                same(field[name], expected[name])
            if "interval" in expected:
                same([field["expected_number"], *field["interval"]], [expected["expected"], *expected["interval"]])
                assert field["expected_category"] is field["value_category"] is field["likely"] is None
                same(field["value_number"], expected["value"])
            else:
                assert field["expected_number"] is field["value_number"] is field["interval"] is None
                assert field["value_category"] == written_out(expected["value"])
                same(
                    [each["probability"] for each in field["likely"]],
                    [each["probability"] for each in expected["likely"]],
                )


def test_csv_has_columns_of_the_three_most_surprising_fields(server: str, explained: list[dict[str, Any]]) -> None:
    rows = list(csv.DictReader(io.StringIO(asked(server, JSON, CSV).text, newline="")))
    for row, result in zip(rows, explained, strict=True):
        for rank, field in enumerate(result["explanation"]["fields"][:3], start=1):
            cells = {name: row[f"explanation_{rank}_{name}"] for name in ("field", "value", "expected", "direction")}
            assert (cells["field"], cells["direction"]) == (field["field"], field["direction"] or "")
            for name in ("surprisal", "excess", "share", "conditional_excess"):
                same(float(row[f"explanation_{rank}_{name}"]), field[name])
            ends = [row[f"explanation_{rank}_interval_{end}"] for end in ("low", "high")]
            if "interval" in field:
                same([*map(float, ends), float(cells["expected"])], [*field["interval"], field["expected"]])
                assert (float(cells["value"]) if cells["value"] else None) == field["value"]
            else:
                assert ends == ["", ""]
                assert cells["value"] == (written_out(field["value"]) or "")
                assert cells["expected"] == (written_out(field["expected"]) or "")
        assert "explanation_4_field" not in row


def test_a_false_question_is_none(server: str) -> None:
    for query in ("", "?explain=false"):
        response = asked(server, JSON, JSON, query)
        assert "surprisal-explains" not in response.headers
        assert all("explanation" not in result for result in response.json()["results"])


@pytest.mark.parametrize("query", ["?explain=yes", "?explain=1", "?explain="])
def test_a_query_that_is_no_flag_is_refused(server: str, query: str) -> None:
    response = httpx.post(f"{server}/score{query}", json={"records": [PAYMENT]})
    assert response.status_code == 422
    assert "explain: true or false is expected" in response.json()["detail"]


def test_the_open_inference_protocol_says_where_to_ask(server: str) -> None:
    body = {"inputs": [{"name": "amount", "datatype": "FP64", "shape": [1], "data": [1.0]}]}
    response = httpx.post(f"{server}/v2/models/{NAME}/infer", json=body | {"parameters": {"explain": True}})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/parameters/explain"
    assert httpx.post(f"{server}/v2/models/{NAME}/infer", json=body | {"parameters": {"explain": False}}).is_success


async def test_the_explainer_runs_only_when_asked(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with in_process(Settings(models=models)) as (client, app):
        runs: list[int] = []
        scorer, real = app.models.get().scorer, Graph.run

        def run(graph: Graph, rows: Tensors, samples: int) -> Tensors:
            if graph is not scorer:
                runs.append(samples)
            return real(graph, rows, samples)

        monkeypatch.setattr(Graph, "run", run)
        await client.post("/score", json={"records": [PAYMENT]})
        assert runs == []
        await client.post("/score", json={"records": [PAYMENT], "explain": True, "samples": 4})
        assert runs == [4]


async def test_more_records_than_are_explained_at_a_time_are_refused_by_pointer(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explainers, "REQUEST_NUMBERS", 1)
    for records, status in (([PAYMENT], 200), ([PAYMENT, PAYMENT], 422)):
        response = await client.post("/score", json={"records": records, "explain": True})
        assert response.status_code == status
    assert response.json()["errors"] == [
        {"pointer": "/explain", "detail": "at most 1 records of this model are explained in a request with 16 draws"}
    ]
    lines = b"\n".join([orjson.dumps(PAYMENT)] * 3)
    stream = await client.post("/score?explain=true", content=lines, headers={"content-type": NDJSON})
    assert [("explanation" in orjson.loads(line)) for line in stream.content.splitlines()] == [True] * 3


async def test_explanations_meet_the_same_queue_limit(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(models=models, max_records=4, max_queue_records=4)
    async with in_process(settings) as (client, app):
        body = {"records": [PAYMENT] * 4, "explain": True}
        response = await client.post("/score", json={"records": [PAYMENT] * 5, "explain": True})
        assert response.status_code == 413
        assert (await client.post("/score", json=body)).status_code == 200  # now it is known how long one takes
        begun, go_on = threading.Event(), threading.Event()
        scorer, real = app.models.get().scorer, Graph.run

        def run(graph: Graph, rows: Tensors, samples: int) -> Tensors:
            if graph is not scorer:
                # On the event loop nobody would ever let it go on.
                assert threading.current_thread() is not threading.main_thread()
                begun.set()
                assert go_on.wait(60)
            return real(graph, rows, samples)

        monkeypatch.setattr(Graph, "run", run)
        running = asyncio.create_task(client.post("/score", json=body))
        await asyncio.to_thread(begun.wait, 60)
        behind = [asyncio.create_task(client.post("/score", json=body)) for _ in range(2)]
        # Four wait behind the four that run, and another four would be too many.
        done, (queued,) = await asyncio.wait(behind, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        go_on.set()
        assert [task.result().status_code for task in done] == [429]
        assert (await running).status_code == (await queued).status_code == 200


@pytest.fixture
def older(models: Path, tmp_path: Path) -> Path:
    """The model as a release without explanations wrote it."""
    shutil.copytree(models, tmp_path / "models")
    folder = tmp_path / "models" / NAME / "1"
    golden = json.loads((folder / "golden.json").read_bytes())
    del golden["explained"]
    (folder / "golden.json").write_text(json.dumps(golden))
    (folder / "explainer.onnx").unlink()
    manifest = Manifest.from_bytes((folder / "manifest.json").read_bytes())
    files = {file: digest for file, digest in manifest.files.items() if file != "explainer.onnx"}
    update = {"files": files, "usual_surprisal": None, "schema_version": 1}
    (folder / "manifest.json").write_bytes(manifest.model_copy(update=update).to_bytes())
    seal(folder)
    return tmp_path / "models"


async def test_an_older_bundle_scores_and_says_that_it_cannot_explain(older: Path) -> None:
    async with in_process(Settings(models=older)) as (client, _):
        assert (await client.post("/score", json={"records": [PAYMENT], "explain": False})).status_code == 200
        response = await client.post("/score", json={"records": [PAYMENT], "explain": True})
        assert response.status_code == 422
        assert response.json()["errors"] == [
            {"pointer": "/explain", "detail": "this bundle holds no explainer; train the model again to have one"}
        ]
        document = (await client.get("/openapi.json")).json()
        assert document["components"]["schemas"][f"Request_{NAME}"]["properties"]["explain"]["const"] is False


async def test_a_bundle_whose_explainer_explains_otherwise_is_refused(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "models")
    folder = tmp_path / "models" / NAME / "1"
    golden = json.loads((folder / "golden.json").read_bytes())
    golden["explained"][0]["expected"]["conditional_surprisal"][0] += 1.0
    (folder / "golden.json").write_text(json.dumps(golden))
    seal(folder)
    with pytest.raises(GoldenMismatch, match="conditional_surprisal is off by 1"):
        load(tmp_path / "models", NAME, 1, Settings())
    (folder / "explainer.onnx").write_bytes(b"\x08\x0a")
    seal(folder)
    with pytest.raises(BundleRefused, match="explainer"):
        load(tmp_path / "models", NAME, 1, Settings())
