"""Images over HTTP: the same answers however they are sent, explained by maps, calibrated, and counted."""

import base64
import shutil
import threading
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest
from PIL import Image

from bundle.contents.reference import FieldBins
from bundle.record import images
from bundle.record.fields import ImageField
from service.codecs import json
from service.codecs import thread_limits as decoding
from service.settings import Settings
from service.telemetry import drift
from tests.conftest import IMAGES, in_process, simulate_images
from tests.service.score.image_bodies import FORMS, in_csv, in_json
from tests.service.score.test_formats import ARROW, CSV, FORMATS, JSON, NDJSON, results
from tests.service.telemetry.test_drift import binned
from tests.service.telemetry.test_metrics import key, samples
from training.pipeline import Trained

RECORDS = np.concatenate([simulate_images(5, seed=9), simulate_images(2, seed=9, strange=True)])
NUMBERS = ("anomaly_score", "p_value", "elbo", "iwae", "log_reconstruction_probability", "expected_log_likelihood")


@pytest.fixture
async def client(image_models: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with in_process(Settings(models=image_models)) as (client, _):
        yield client


async def post(client: httpx.AsyncClient, sent: str, body: bytes, wanted: str = JSON, query: str = "") -> Any:
    return await client.post(f"/score{query}", content=body, headers={"Content-Type": sent, "Accept": wanted})


def table(found: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """The numbers of some results, to the bits that were computed."""
    return np.array([[*(each[name] for name in NUMBERS), *each["latent_mean"]] for each in found], np.float32)


def opened(content: bytes) -> Image.Image:
    image = Image.open(BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_an_image_is_answered_alike_in_every_format(client: httpx.AsyncClient, form: str) -> None:
    expected = results(await post(client, JSON, in_json(RECORDS.tolist())))
    assert all(np.isfinite(table(expected)).ravel())
    assert [each["is_anomaly"] for each in expected[5:]] == [True, True]
    sent, body = FORMS[form](RECORDS)
    for wanted in FORMATS:
        found = results(await post(client, sent, body, wanted))
        np.testing.assert_array_equal(table(found), table(expected))
        assert [each["is_anomaly"] for each in found] == [each["is_anomaly"] for each in expected]


async def test_many_images_as_numbers_are_one_request(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = simulate_images(3000, seed=3)
    body = in_json(many.tolist())
    assert len(body) > decoding.IMAGE_THREAD_BYTES
    assert body.count(b",") > 4 * 10_000 * 3, "more values than records of a table may hold"
    found = results(await post(client, JSON, body))
    few = results(await post(client, JSON, in_json(many[:5].tolist())))
    np.testing.assert_allclose(table(found)[:5], table(few), rtol=1e-4)
    monkeypatch.setattr(json, "MOST_ROWS", body.count(b"[") + body.count(b"{") - 1)
    refused = await post(client, JSON, body)
    assert (refused.status_code, refused.json()["type"]) == (413, "too-many-records")
    assert "files in base64" in refused.json()["detail"]


@pytest.mark.parametrize("wanted", FORMATS)
async def test_an_explanation_holds_the_map_and_what_is_expected(
    client: httpx.AsyncClient, trained_images: Trained, wanted: str
) -> None:
    sent, body = FORMS["JSON files"](RECORDS)
    response = await post(client, sent, body, wanted, "?explain=true")
    assert response.status_code == 200
    assert response.headers["surprisal-explains"] == "elbo"
    usual = trained_images.manifest.usual_surprisal
    assert usual is not None
    maps, expected = [], []
    if wanted == CSV:
        rows = pa.csv.read_csv(BytesIO(response.content)).to_pylist()
        for row in rows:
            assert row["explanation_1_field"] == "image"
            assert not any(name.startswith("explanation_2") for name in row)
            maps.append(base64.b64decode(row["explanation_1_surprisal_map"]))
            expected.append(base64.b64decode(row["explanation_1_expected"]))
    else:
        for result in results(response):
            explanation = result["explanation"]
            (field,) = explanation["fields"]
            assert field["surprisal"] + explanation["kl"]["surprisal"] == pytest.approx(-result["elbo"], rel=1e-5)
            assert field["surprisal_map_range"] == pytest.approx(usual.pixels)
            assert field["direction"] is None
            if wanted == ARROW:
                assert (field["expected_category"], field["expected_number"]) == (None, None)
                maps.append(field["surprisal_map"])
                expected.append(field["expected_image"])
            else:
                maps.append(base64.b64decode(field["surprisal_map"], validate=True))
                expected.append(base64.b64decode(field["expected"], validate=True))
    assert len(maps) == len(RECORDS)
    for content in (*maps, *expected):
        image = opened(content)
        assert (image.format, image.mode, image.size) == ("PNG", "L", (8, 8))
    lightness = np.array([np.asarray(opened(content)).mean() for content in maps])
    assert lightness[5:].min() > 2 * lightness[:5].max(), "where a bar stands that should lie, more is surprising"
    answer = await post(client, sent, body, JSON, "?explain=true")
    fields = [each["explanation"]["fields"][0] for each in results(answer)]
    assert maps == [base64.b64decode(field["surprisal_map"]) for field in fields]
    assert expected == [base64.b64decode(field["expected"]) for field in fields]


async def test_a_map_lies_where_the_image_was_changed(client: httpx.AsyncClient) -> None:
    (image,) = simulate_images(1, seed=5)
    changed = image.copy()
    row = int(image[..., 0].mean(axis=1).argmin())
    changed[row, 6] = 255
    found = results(await post(client, JSON, in_json([image.tolist(), changed.tolist()]), JSON, "?explain=true"))
    before, after = (
        np.asarray(opened(base64.b64decode(each["explanation"]["fields"][0]["surprisal_map"]))).astype(int)
        for each in found
    )
    assert before[row, 6] < after[row, 6] == 255, "as light as it gets"
    assert (after - before)[row].sum() > (after - before).sum() / 2, "elsewhere the image is what it was"


async def test_the_share_of_flagged_normal_images_is_about_the_one_that_is_promised(
    client: httpx.AsyncClient, trained_images: Trained
) -> None:
    fresh = simulate_images(2000, seed=77)
    calibrated, rate = trained_images.manifest.calibration.records, trained_images.manifest.false_alarm_rate
    for query in ("", "?score=elbo", "?score=typicality", "?samples=1"):
        found = results(await post(client, JSON, in_json(fresh.tolist()), JSON, query))
        p_values = np.array([each["p_value"] for each in found])
        ranks = p_values * (calibrated + 1)
        np.testing.assert_allclose(ranks, ranks.round(), atol=1e-6)
        # Calibrated on 240 images, 0.05 comes out with a deviation of 0.014; four of them and the test's own.
        flagged = np.mean([each["is_anomaly"] for each in found])
        assert abs(flagged - rate) < 0.06
        assert abs(p_values.mean() - 0.5) < 0.1
        np.testing.assert_array_equal([each["is_anomaly"] for each in found], p_values <= rate + 1e-12)


async def test_every_score_of_the_manifest_decides_when_asked(
    client: httpx.AsyncClient, trained_images: Trained
) -> None:
    names = [each.name for each in trained_images.manifest.scores]
    assert {"combined", "typicality", "texture", "complexity", "neighbours", "elbo"} < set(names)
    scores = set()
    for name in names:
        found = results(await post(client, JSON, in_json(RECORDS.tolist()), JSON, f"?score={name}"))
        scores.add(tuple(each["anomaly_score"] for each in found))
        assert all(0 < each["p_value"] <= 1 for each in found)
    assert len(scores) == len(names)
    unknown = await post(client, JSON, in_json(RECORDS.tolist()), JSON, "?score=density")
    assert unknown.status_code == 422


@pytest.mark.parametrize("counted_bytes", [drift.COUNTED_BYTES, 100])
async def test_images_are_counted_by_their_mean_level_and_are_never_missing(
    client: httpx.AsyncClient, trained_images: Trained, monkeypatch: pytest.MonkeyPatch, counted_bytes: int
) -> None:
    monkeypatch.setattr(drift, "COUNTED_BYTES", counted_bytes)
    manifest, labels = trained_images.manifest, {"model": IMAGES, "version": "1"}
    bins = FieldBins(manifest.record, manifest.reference)
    before = await samples(client)
    assert binned(before) == dict.fromkeys(bins.labels, 0.0)
    (reference,) = manifest.reference
    assert len(reference.bins) == 10
    assert sum(reference.ratios) == pytest.approx(1.0)
    for place, (name, ratio) in enumerate(zip(reference.bins, reference.ratios, strict=True)):
        described = {"field": "image", "bin": name, "place": f"{place:06d}"}
        assert before[key("field_reference_ratio", **described, **labels)] == ratio
    dark, light = np.zeros((3, 8, 8, 1), np.uint8), np.full((2, 8, 8, 1), 255, np.uint8)
    sent = np.concatenate([simulate_images(300, seed=4), dark, light])
    await post(client, JSON, in_json(sent.tolist()))
    await post(client, JSON, in_json(dark.tolist()))
    found = await samples(client)
    expected = bins.count({"image": np.concatenate([sent, dark])})
    assert binned(found) == dict(zip(bins.labels, expected.tolist(), strict=True))
    assert binned(found)["image", reference.bins[0]] >= 6
    assert binned(found)["image", "+Inf"] >= 2
    assert key("missing_total", field="image", **labels) not in found
    assert found[key("records_total", **labels)] == 308
    assert found[key("p_value_count", **labels)] == 308


@pytest.mark.parametrize("sent", [NDJSON, CSV])
async def test_lines_are_answered_one_by_one(client: httpx.AsyncClient, sent: str) -> None:
    """A stream goes on behind a line that is no image; a table of such rows is refused whole."""
    good = in_json(RECORDS[:1].tolist())
    (expected,) = results(await post(client, JSON, good))
    record = orjson.dumps({"image": RECORDS[0].tolist()})
    if sent == CSV:
        refused = await post(client, CSV, in_csv(["", "S3CRET"]))
        assert [each["pointer"] for each in refused.json()["errors"]] == ["/1/image", "/2/image"]
        return
    wrong = b'{"image": "S3CRET"}'
    response = await post(client, NDJSON, b"\n".join([record, wrong, b"{}", record]), NDJSON)
    first, second, third, last = map(orjson.loads, response.content.splitlines())
    assert first["anomaly_score"] == pytest.approx(expected["anomaly_score"], rel=1e-5)
    assert last == first
    assert (second["line"], third["line"]) == (2, 3)
    assert "image" in second["error"]
    assert b"S3CRET" not in response.content


async def test_a_model_says_what_images_it_takes(client: httpx.AsyncClient) -> None:
    (field,) = (await client.get(f"/models/{IMAGES}")).json()["fields"]
    assert field["kind"] == "image"
    assert (field["height"], field["width"], field["channels"]) == (8, 8, 1)


async def test_limits_count_images(image_models: Path) -> None:
    async with in_process(Settings(models=image_models, max_records=6)) as (client, _):
        for form in FORMS.values():
            sent, body = form(RECORDS)
            refused = await post(client, sent, body)
            assert (refused.status_code, refused.json()["type"]) == (413, "too-many-records")


async def test_so_many_images_are_a_request_as_their_levels_take_no_more_than_a_body(image_models: Path) -> None:
    for most, status in ((6 * 64, 413), (7 * 64, 200)):
        async with in_process(Settings(models=image_models, max_expanded_bytes=most)) as (client, _):
            for form in FORMS.values():
                sent, body = form(RECORDS)
                assert (await post(client, sent, body)).status_code == status
            config = (await client.get(f"/v2/models/{IMAGES}/config")).json()
            assert config["max_batch_size"] == most // 64


@pytest.mark.parametrize("sent", [JSON, NDJSON, "open inference"])
async def test_images_of_a_large_body_are_unpacked_on_a_thread(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    monkeypatch.setattr(decoding, "IMAGE_THREAD_BYTES", 1000)
    threads: list[threading.Thread] = []
    unpacked = images.from_file

    def unpack(field: ImageField, content: bytes) -> images.Levels:
        threads.append(threading.current_thread())
        return unpacked(field, content)

    monkeypatch.setattr(images, "from_file", unpack)
    files = [images.in_base64(each) for each in RECORDS]
    for repeated, on_the_loop in ((1, True), (20, False)):
        threads.clear()
        many = files[:1] if on_the_loop else files * repeated
        if sent == JSON:
            response = await post(client, JSON, in_json(many))
        elif sent == NDJSON:
            response = await post(client, NDJSON, b"\n".join(orjson.dumps({"image": each}) for each in many), NDJSON)
        else:
            tensor = {"name": "image", "datatype": "BYTES", "shape": [len(many)], "data": many}
            response = await client.post(f"/v2/models/{IMAGES}/infer", json={"inputs": [tensor]})
        assert response.status_code == 200, response.text
        assert len(threads) == len(many)
        # The first lines of a stream do not wait for others, and are few; the last may be few, too.
        elsewhere = [thread for thread in threads if thread is not threading.main_thread()]
        assert (not elsewhere) is on_the_loop


async def test_images_and_tables_are_served_side_by_side(
    image_models: Path, models: Path, payments: list[dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(image_models, tmp_path / "models")
    for folder in models.iterdir():
        if folder.is_dir():
            shutil.copytree(folder, tmp_path / "models" / folder.name)
    async with in_process(Settings(models=tmp_path / "models")) as (client, _):
        body = in_json(RECORDS.tolist())
        assert (await client.post("/score", content=body)).status_code == 404, "neither is the default"
        scans = await client.post(f"/models/{IMAGES}/score", content=body)
        assert len(scans.json()["results"]) == len(RECORDS)
        cards = await client.post("/models/transactions/score", json={"records": payments[:2]})
        assert cards.status_code == 200
        crossed = await client.post("/models/transactions/score", content=body)
        assert (crossed.status_code, crossed.json()["errors"][0]["pointer"]) == (422, "/records/0/image")
        crossed = await client.post(f"/models/{IMAGES}/score", json={"records": payments[:1]})
        assert crossed.json()["errors"][0] == {"pointer": "/records/0/amount", "detail": "no such field"}
        document = (await client.get("/openapi.json")).json()
        assert {f"Request_{IMAGES}", "Request_transactions"} <= set(document["components"]["schemas"])
