"""Loading: what is refused and why, and that what was serving goes on serving."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

from bundle.contents.manifest import SCHEMA_VERSION
from bundle.errors import (
    BundleRefused,
    DigestMismatch,
    ExternalData,
    FileMissing,
    FileRefused,
    GoldenMismatch,
    SchemaTooNew,
)
from bundle.folder import onnx_file, plain_file
from bundle.folder.store import write
from service.models.registry import Models
from service.settings import Settings
from tests.conftest import NAME, in_process, load
from tests.service.models.hostile_bundles import seal

FILES = (
    "manifest.json",
    "scorer.onnx",
    "explainer.onnx",
    "encoder.onnx",
    "decoder.onnx",
    "noise.npy",
    "calibration.npz",
    "golden.json",
)


@pytest.fixture
def root(models: Path, tmp_path: Path) -> Path:
    """A models folder of its own, with one good version."""
    shutil.copytree(models, tmp_path / "models")
    return tmp_path / "models"


def flip(folder: Path, file: str) -> None:
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)


def external(folder: Path) -> None:
    model = onnx.load(folder / "scorer.onnx")
    onnx.save(model, folder / "scorer.onnx", save_as_external_data=True, location="weights.bin", size_threshold=64)
    seal(folder)


def disagree(folder: Path) -> None:
    golden = json.loads((folder / "golden.json").read_bytes())
    golden["cases"][0]["expected"]["elbo"] += 1.0
    (folder / "golden.json").write_text(json.dumps(golden))
    seal(folder)


def renamed_field(folder: Path) -> None:
    golden = json.loads((folder / "golden.json").read_bytes())
    golden["cases"][0]["record"]["no such field"] = 1
    (folder / "golden.json").write_text(json.dumps(golden))
    seal(folder)


def newer(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    now, next_one = (f'"schema_version": {version}' for version in (SCHEMA_VERSION, SCHEMA_VERSION + 1))
    (folder / "manifest.json").write_text(text.replace(now, next_one))


def no_graph(folder: Path) -> None:
    (folder / "scorer.onnx").write_bytes(b"\x08\x0a")
    seal(folder)


def wrong_noise(folder: Path) -> None:
    (folder / "noise.npy").write_bytes(b"not an array")
    seal(folder)


def wrong_calibration(folder: Path) -> None:
    (folder / "calibration.npz").write_bytes(b"not an archive")
    seal(folder)


def no_cases(folder: Path) -> None:
    (folder / "golden.json").write_text('{"cases": []}')
    seal(folder)


def foreign_operator(folder: Path) -> None:
    model = onnx.load(folder / "scorer.onnx")
    model.graph.node.append(onnx.helper.make_node("EPContext", [], ["z"], domain="com.microsoft", embed_mode=0))
    (folder / "scorer.onnx").write_bytes(model.SerializeToString())
    seal(folder)


def failing_run(folder: Path) -> None:
    """A graph that is loaded, and fails as soon as it is run."""
    model = onnx.load(folder / "scorer.onnx")
    (output,) = (each for each in model.graph.output if each.name == "elbo")
    for node in model.graph.node:
        node.output[:] = ["first" if name == output.name else name for name in node.output]
        node.input[:] = ["first" if name == output.name else name for name in node.input]
    model.graph.initializer.append(onnx.helper.make_tensor("far", onnx.TensorProto.INT64, [1], [10**6]))
    model.graph.node.append(onnx.helper.make_node("Gather", ["first", "far"], [output.name]))
    (folder / "scorer.onnx").write_bytes(model.SerializeToString())
    seal(folder)


def folder_instead(folder: Path) -> None:
    (folder / "scorer.onnx").unlink()
    (folder / "scorer.onnx").mkdir()


BREAKS: list[tuple[str, Callable[[Path], None], type[BundleRefused], str]] = [
    *[(f"a flipped byte in {file}", lambda f, file=file: flip(f, file), BundleRefused, file) for file in FILES],
    *[(f"no {file}", lambda f, file=file: (f / file).unlink(), FileMissing, file) for file in FILES],
    ("a newer schema", newer, SchemaTooNew, "manifest.json"),
    ("external data", external, ExternalData, "scorer.onnx"),
    ("golden records that disagree", disagree, GoldenMismatch, "golden.json"),
    ("a golden record that does not fit", renamed_field, GoldenMismatch, "golden.json"),
    ("golden records without cases", no_cases, BundleRefused, "golden.json"),
    ("an operator that may read files", foreign_operator, ExternalData, "scorer.onnx"),
    ("a graph that fails when it is run", failing_run, BundleRefused, "scorer.onnx"),
    ("a scorer that is no graph", no_graph, BundleRefused, "scorer.onnx"),
    ("noise that is no array", wrong_noise, BundleRefused, "noise.npy"),
    ("a calibration that is no archive", wrong_calibration, BundleRefused, "calibration.npz"),
]


@pytest.mark.parametrize(("breaks", "kind", "file"), [case[1:] for case in BREAKS], ids=[case[0] for case in BREAKS])
def test_a_broken_bundle_is_refused_with_the_file_and_the_reason(
    root: Path, breaks: Callable[[Path], None], kind: type[BundleRefused], file: str
) -> None:
    breaks(root / NAME / "1")
    with pytest.raises(kind) as refusal:
        load(root, NAME, 1, Settings(models=root))
    assert refusal.value.file == file
    assert len(refusal.value.reason) > 10


def test_what_is_run_are_the_bytes_that_were_walked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a second reading of the file, which may be another by then."""
    walked: list[bytes] = []
    run: list[bytes] = []
    check, session = onnx_file.refuse_external_data, onnxruntime.InferenceSession

    def walk(file: str, content: bytes) -> None:
        walked.append(content)
        check(file, content)

    def start(content: bytes, *arguments: Any, **options: Any) -> Any:
        run.append(content)
        return session(content, *arguments, **options)

    monkeypatch.setattr(onnx_file, "refuse_external_data", walk)
    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    load(root, NAME, 1, Settings(models=root, device="cpu"))
    assert len(run) == 2, "scorer and explainer"
    assert {id(content) for content in run} <= {id(content) for content in walked}


def test_a_flipped_byte_in_a_listed_file_is_a_digest_mismatch(root: Path) -> None:
    flip(root / NAME / "1", "noise.npy")
    with pytest.raises(DigestMismatch):
        load(root, NAME, 1, Settings(models=root))


async def test_a_broken_new_version_leaves_the_old_one_serving(root: Path) -> None:
    async with in_process(Settings(models=root)) as (client, app):
        models: Models = app.models
        shutil.copytree(root / NAME / "1", root / NAME / "2")
        disagree(root / NAME / "2")
        await models.refresh()
        (served,) = (await client.get("/models")).json()["models"]
        assert served["version"] == "1"
        assert "golden.json" in (await client.get("/models")).json()["refused"][NAME]
        assert (await client.get("/readyz")).status_code == 200
        await models.refresh()
        text = (await client.get("/metrics")).text
        assert f'surprisal_reloads_total{{model="{NAME}",result="refused"}} 1.0' in text


async def test_a_running_service_serves_on_through_everything_that_can_break(root: Path) -> None:
    body = b'{"records": [{"amount": 3}]}'
    async with in_process(Settings(models=root)) as (client, app):
        expected = (await client.post("/score", content=body)).json()
        unreadable = ("a file that cannot be read", folder_instead, FileRefused, "scorer.onnx")
        for count, (what, breaks, _, file) in enumerate([*BREAKS, unreadable], start=1):
            version = root / NAME / str(count + 1)
            shutil.copytree(root / NAME / "1", version)
            breaks(version)
            await app.models.refresh()
            assert file in (await client.get("/models")).json()["refused"][NAME], what
            assert app.metrics.total("surprisal_reloads_total", model=NAME, result="refused") == count, what
            assert app.metrics.total("surprisal_model_refused", model=NAME) == 1, what
            assert (await client.post("/score", content=body)).json() == expected, what
            shutil.rmtree(version)
        for what, breaks, _, _ in [*BREAKS, unreadable]:
            good = shutil.copytree(root / NAME / "1", root / "good")
            breaks(root / NAME / "1")
            await app.models.refresh()
            assert (await client.get("/readyz")).status_code == 200, what
            assert (await client.post("/score", content=body)).json() == expected, what
            shutil.rmtree(root / NAME / "1")
            await app.models.refresh()
            assert (await client.post("/score", content=body)).json() == expected, f"the folder, after {what}"
            good.rename(root / NAME / "1")
        assert app.metrics.total("surprisal_reloads_total", model=NAME, result="loaded") == 1


async def test_what_the_file_system_refuses_for_a_while_is_loaded_once_it_gives_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_process(Settings(models=root)) as (client, app):
        shutil.copytree(root / NAME / "1", root / NAME / "2")
        read = plain_file.read

        def refuse(path: Path, most_bytes: int, *, follow: bool = True) -> bytes:
            if path.name == "scorer.onnx":
                raise OSError(errno.EIO, "Input/output error")
            return read(path, most_bytes, follow=follow)

        with monkeypatch.context() as patched:
            patched.setattr(plain_file, "read", refuse)
            await app.models.refresh()
            assert "Input/output error" in (await client.get("/models")).json()["refused"][NAME]
        await app.models.refresh()
        assert (await client.get(f"/models/{NAME}")).json()["version"] == "2"


async def test_a_vanished_model_goes_on_serving_and_a_vanished_refused_one_is_forgotten(root: Path) -> None:
    shutil.copytree(root / NAME, root / "broken")
    disagree(root / "broken" / "1")
    async with in_process(Settings(models=root)) as (client, app):
        assert "broken" in (await client.get("/models")).json()["refused"]
        assert app.metrics.total("surprisal_model_refused", model="broken") == 1
        assert app.metrics.total("surprisal_model_refused", model=NAME) == 0
        shutil.rmtree(root)
        await app.models.refresh()
        assert app.metrics.total("surprisal_model_refused", model="broken") == 0
        shown = (await client.get("/models")).json()
        assert shown["refused"] == {}
        assert [model["name"] for model in shown["models"]] == [NAME]
        assert (await client.post("/score", content=b'{"records": [{"amount": 3}]}')).status_code == 200


async def test_a_new_version_takes_over_and_the_old_one_retires(root: Path) -> None:
    async with in_process(Settings(models=root)) as (client, app):
        shutil.copytree(root / NAME / "1", root / NAME / "2")
        await app.models.refresh()
        assert (await client.get(f"/models/{NAME}")).json()["version"] == "2"
        text = (await client.get("/metrics")).text
        infos = [line for line in text.splitlines() if line.startswith("surprisal_model_info")]
        assert sorted(line.rsplit(" ", 1)[1] for line in infos) == ["0.0", "1.0"]


async def test_serving_json_pins_a_version_and_lets_go_of_it(root: Path) -> None:
    shutil.copytree(root / NAME / "1", root / NAME / "2")
    (root / NAME / "serving.json").write_text('{"version": 1}')
    async with in_process(Settings(models=root)) as (client, app):
        assert (await client.get(f"/models/{NAME}")).json()["version"] == "1"
        (root / NAME / "serving.json").unlink()
        await app.models.refresh()
        assert (await client.get(f"/models/{NAME}")).json()["version"] == "2"


async def test_with_no_model_the_service_waits_for_one(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    async with in_process(Settings(models=empty)) as (client, app):
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert "no model" in ready.json()["reason"]
        assert (await client.get("/healthz")).status_code == 200
        refused = await client.post("/score", content=b'{"records": [[1]]}')
        assert (refused.status_code, refused.json()["type"]) == (503, "not-ready")
        assert "retry-after" in refused.headers
        assert (await client.get("/openapi.json")).status_code == 200
        shutil.copytree(root, empty)
        await app.models.refresh()
        assert (await client.get("/readyz")).status_code == 200


async def test_a_refused_only_model_is_the_reason_for_not_being_ready(root: Path) -> None:
    disagree(root / NAME / "1")
    async with in_process(Settings(models=root)) as (client, _):
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert "golden.json" in ready.json()["reason"]


async def test_among_several_models_the_default_is_set_or_the_names_are_listed(root: Path) -> None:
    shutil.copytree(root / NAME, root / "other")
    body = b'{"records": [{"amount": 3}]}'
    async with in_process(Settings(models=root)) as (client, _):
        response = await client.post("/score", content=body)
        assert response.status_code == 404
        assert "other" in response.json()["detail"]
        assert NAME in response.json()["detail"]
    async with in_process(Settings(models=root, default_model="other")) as (client, _):
        assert (await client.post("/score", content=body)).json()["model"]["name"] == "other"


def test_a_copy_under_another_name_is_the_same_bundle(root: Path, tmp_path: Path) -> None:
    loaded = load(root, NAME, 1, Settings(models=root))
    bundle_files = {file: (root / NAME / "1" / file).read_bytes() for file in loaded.manifest.files}
    version = write(tmp_path / "copy", "renamed", loaded.manifest, bundle_files)
    assert load(tmp_path / "copy", "renamed", version, Settings()).manifest == loaded.manifest
