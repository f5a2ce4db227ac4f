"""A model of images from its training to a running service: reloads, what is tampered with, and an autoencoder."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from bundle.contents.manifest import Manifest
from bundle.errors import BundleRefused, GoldenMismatch
from bundle.folder import store
from bundle.record.images import in_base64
from service.settings import Settings
from tests.conftest import AUTOENCODER, IMAGES, NAME, in_process, load, running, simulate_images, until
from tests.service.models.hostile_bundles import seal
from tests.service.score.image_bodies import in_json
from tests.service.score.test_formats import ARROW, CSV, JSON
from training.export import runs
from training.pipeline import Trained

LEVELS = np.concatenate([simulate_images(20, seed=31), simulate_images(3, seed=31, strange=True)])
ABSENT = ("log_reconstruction_probability", "reconstruction_probability", "elbo", "iwae")


def another_version(root: Path, version: int, false_alarm_rate: float) -> None:
    """The first version again, but that it flags another share."""
    beside, folder = root / f".{version}", root / IMAGES / str(version)
    shutil.copytree(root / IMAGES / "1", beside)
    manifest = Manifest.from_bytes((beside / "manifest.json").read_bytes())
    changed = manifest.model_copy(update={"false_alarm_rate": false_alarm_rate})
    (beside / "manifest.json").write_bytes(changed.to_bytes())
    beside.rename(folder)


def ask(url: str, model: str, body: bytes) -> dict[str, Any]:
    response = httpx.post(f"{url}/models/{model}/score", content=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_new_version_of_images_takes_over_beside_a_model_of_a_table(
    image_models: Path, models: Path, payments: list[dict[str, Any]], tmp_path: Path
) -> None:
    root = tmp_path / "models"
    shutil.copytree(image_models / IMAGES, root / IMAGES)
    body = in_json([in_base64(image) for image in LEVELS])
    with running(root) as (_, url):
        first = ask(url, IMAGES, body)
        assert first["model"] == {"name": IMAGES, "version": "1"}
        another_version(root, 2, false_alarm_rate=0.5)
        until(lambda: bool(ask(url, IMAGES, body)["model"]["version"] == "2"))
        second = ask(url, IMAGES, body)
        assert second["false_alarm_rate"] == 0.5
        for before, after in zip(first["results"], second["results"], strict=True):
            assert after == before | {"is_anomaly": after["p_value"] <= 0.5}
        assert sum(each["is_anomaly"] for each in second["results"]) > sum(
            each["is_anomaly"] for each in first["results"]
        )
        shutil.copytree(models / NAME, root / NAME)
        until(lambda: httpx.get(f"{url}/models/{NAME}").status_code == 200)
        assert ask(url, NAME, json.dumps({"records": payments[:3]}).encode())["model"]["name"] == NAME
        assert ask(url, IMAGES, body) == second
        metrics = httpx.get(f"{url}/metrics").text
        for version, records in (("1", len(LEVELS)), ("2", len(LEVELS))):
            line = f'surprisal_records_total{{model="{IMAGES}",version="{version}"}} '
            assert float(metrics.split(line)[1].split()[0]) >= records
        assert f'surprisal_field_bin_total{{bin="+Inf",field="image",model="{IMAGES}",version="2"}}' in metrics


def test_the_service_scores_as_the_exported_graph_does(image_server: str, trained_images: Trained) -> None:
    bundle = store.load(trained_images.folder.parents[1], IMAGES, 1)
    noise = np.load(io.BytesIO(bundle.files["noise.npy"]))[: bundle.manifest.samples]
    expected = runs.score(runs.session(bundle.files["scorer.onnx"]), {"image": LEVELS}, noise)
    results = ask(image_server, IMAGES, in_json(LEVELS.tolist()))["results"]
    for name in ("elbo", "iwae", "log_reconstruction_probability", "expected_log_likelihood", "latent_mean"):
        found = np.array([result[name] for result in results])
        np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-4, err_msg=name)
    assert [result["is_anomaly"] for result in results[20:]] == [True] * 3


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    golden = json.loads((folder / "golden.json").read_bytes())
    edit(golden)
    (folder / "golden.json").write_text(json.dumps(golden))
    seal(folder)


def another_score(golden: dict[str, Any]) -> None:
    golden["cases"][0]["expected"]["combined"] += 1.0


def another_image(golden: dict[str, Any]) -> None:
    golden["cases"][0]["record"]["image"] = in_base64(LEVELS[-1])


def another_map(golden: dict[str, Any]) -> None:
    golden["explained"][0]["expected"]["pixel_surprisal"][17] += 1.0


def another_expectation(golden: dict[str, Any]) -> None:
    golden["explained"][0]["expected"]["expected_image"][17] += 1.0


def a_smaller_map(golden: dict[str, Any]) -> None:
    golden["explained"][0]["expected"]["pixel_surprisal"].pop()


def no_image(golden: dict[str, Any]) -> None:
    golden["cases"][0]["record"]["image"] = "nothing"


TAMPERED = (another_score, another_image, another_map, another_expectation, a_smaller_map, no_image)


@pytest.mark.parametrize("edit", TAMPERED)
async def test_golden_images_that_are_tampered_with_are_refused(
    image_models: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], None]
) -> None:
    root = tmp_path / "models"
    shutil.copytree(image_models / IMAGES, root / IMAGES)
    async with in_process(Settings(models=root)) as (client, app):
        shutil.copytree(root / IMAGES / "1", root / IMAGES / "2")
        change(root / IMAGES / "2", edit)
        with pytest.raises(GoldenMismatch):
            load(root, IMAGES, 2, Settings())
        await app.models.refresh()
        assert "golden.json" in (await client.get("/models")).json()["refused"][IMAGES]
        answer = await client.post("/score", content=in_json(LEVELS.tolist()))
        assert answer.json()["model"]["version"] == "1"


def test_a_graph_of_images_of_another_size_is_refused(image_models: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    shutil.copytree(image_models / IMAGES, root / IMAGES)
    folder = root / IMAGES / "1"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["record"]["fields"][0]["height"] = 9
    (folder / "manifest.json").write_bytes(Manifest.model_validate(manifest).to_bytes())
    with pytest.raises(BundleRefused, match=r"golden\.json"):
        load(root, IMAGES, 1, Settings())


async def test_an_autoencoder_is_served_with_the_one_score_that_it_has(trained_autoencoder: Trained) -> None:
    manifest = trained_autoencoder.manifest
    assert [score.name for score in manifest.scores] == ["expected_log_likelihood"]
    assert manifest.anomaly_score == "expected_log_likelihood"
    async with in_process(Settings(models=trained_autoencoder.folder.parents[1])) as (client, _):

        async def post(accept: str, query: str = "") -> httpx.Response:
            return await client.post(f"/score{query}", content=in_json(LEVELS.tolist()), headers={"Accept": accept})

        answer = (await post(JSON)).json()
        assert answer["score"] == "expected_log_likelihood"
        for result in answer["results"]:
            assert [result[name] for name in ABSENT] == [None] * len(ABSENT)
            assert result["anomaly_score"] == -result["expected_log_likelihood"]
            assert 0 < result["p_value"] <= 1
        table = pa.ipc.open_stream((await post(ARROW)).content).read_all()
        assert [table[name].null_count for name in ABSENT] == [len(LEVELS)] * len(ABSENT)
        assert table["expected_log_likelihood"].null_count == 0
        rows = pyarrow.csv.read_csv(io.BytesIO((await post(CSV)).content))
        assert [rows[name].null_count for name in ABSENT] == [len(LEVELS)] * len(ABSENT)
        named = await post(JSON, "?score=elbo")
        assert (named.status_code, named.json()["errors"][0]["detail"]) == (
            422,
            "score: one of expected_log_likelihood is expected",
        )
        drawn = [(await post(JSON, f"?samples={samples}")).json()["results"] for samples in (1, 256)]
        found, expected = ([each["anomaly_score"] for each in results] for results in drawn)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        tensor = {"name": "image", "shape": list(LEVELS.shape), "datatype": "UINT8", "data": LEVELS.ravel().tolist()}
        inferred = (await client.post(f"/v2/models/{AUTOENCODER}/infer", json={"inputs": [tensor]})).json()
        outputs = {output["name"]: output["data"] for output in inferred["outputs"]}
        for name in ABSENT:
            assert outputs[name] == [None] * len(LEVELS)
        assert outputs["anomaly_score"] == [result["anomaly_score"] for result in answer["results"]]


async def test_an_autoencoder_explains_the_log_likelihood(trained_autoencoder: Trained) -> None:
    async with in_process(Settings(models=trained_autoencoder.folder.parents[1])) as (client, _):
        response = await client.post("/score?explain=true", content=in_json(LEVELS.tolist()))
        assert response.headers["surprisal-explains"] == "expected_log_likelihood"
        for result in response.json()["results"]:
            explanation = result["explanation"]
            assert explanation["explains"] == "expected_log_likelihood"
            assert explanation["kl"]["surprisal"] == explanation["kl"]["excess"] == 0.0
            (field,) = explanation["fields"]
            assert field["surprisal"] == pytest.approx(-result["expected_log_likelihood"], rel=1e-5)
