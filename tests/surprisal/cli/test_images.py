"""Images on the command line: scored from every kind of file, measured beside baselines, and shown."""

import base64
import csv
import json
import tomllib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from bundle.record.images import in_base64, png
from tests.conftest import AUTOENCODER, IMAGES, simulate_images
from tests.service.score.image_bodies import Levels, lists, tensors
from tests.surprisal.cli.command import surprisal
from tests.surprisal.cli.test_evaluate import BASELINES
from training.pipeline import Trained

LEVELS = np.concatenate([simulate_images(30, seed=41), simulate_images(5, seed=41, strange=True)])
NAMES = [f"part {number}" for number in range(len(LEVELS))]


def parquet(path: Path, column: Any) -> None:
    pyarrow.parquet.write_table(pa.table({"part": NAMES, "image": column}), path)


def ndjson(path: Path, values: list[Any]) -> None:
    lines = ({"part": name, "image": value} for name, value in zip(NAMES, values, strict=True))
    path.write_bytes(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))


def cells(path: Path, values: list[str]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["part", "image"], *zip(NAMES, values, strict=True)])


FILES: dict[str, tuple[str, Callable[[Path, Levels], None]]] = {
    "texts": ("csv", lambda path, images: cells(path, [in_base64(image) for image in images])),
    "lines of texts": ("ndjson", lambda path, images: ndjson(path, [in_base64(image) for image in images])),
    "lines of numbers": ("jsonl", lambda path, images: ndjson(path, images.tolist())),
    "lines without channels": ("ndjson", lambda path, images: ndjson(path, images[..., 0].tolist())),
    "files": ("parquet", lambda path, images: parquet(path, pa.array(map(png, images), pa.binary()))),
    "tensors": ("parquet", lambda path, images: parquet(path, tensors(images))),
    "lists": ("parquet", lambda path, images: parquet(path, lists(images))),
    "nested lists": ("parquet", lambda path, images: parquet(path, pa.array(images[..., 0].tolist()))),
}


@pytest.fixture(scope="module")
def expected(image_models: Path, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return scored(image_models, tmp_path_factory.mktemp("expected"), "files", "parquet")


def scored(models: Path, folder: Path, form: str, suffix: str, *options: str) -> pa.Table:
    kind, write = FILES[form]
    source, target = folder / f"images.{kind}", folder / f"scored.{suffix}"
    write(source, LEVELS)
    done = surprisal("score", models / IMAGES, source, target, *options)
    assert done.returncode == 0, done.stderr
    assert "35 rows scored" in done.stderr
    return read(target)


def read(path: Path) -> pa.Table:
    match path.suffix:
        case ".csv":
            return pyarrow.csv.read_csv(path)
        case ".parquet":
            return pyarrow.parquet.read_table(path)
        case _:
            return pa.Table.from_pylist([json.loads(line) for line in path.read_text().splitlines()])


@pytest.mark.parametrize("form", FILES)
def test_every_kind_of_file_is_scored_alike(image_models: Path, expected: pa.Table, tmp_path: Path, form: str) -> None:
    found = scored(image_models, tmp_path, form, "parquet" if FILES[form][0] == "parquet" else "ndjson")
    assert found.column_names == expected.column_names
    assert found["part"].to_pylist() == NAMES
    for name in ("anomaly_score", "p_value", "elbo"):
        np.testing.assert_allclose(np.asarray(found[name]), np.asarray(expected[name]), rtol=1e-6, err_msg=name)
    assert found["is_anomaly"].to_pylist()[-5:] == [True] * 5


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("folder", "csv"), ("folder", "ndjson"), ("array", "parquet"), ("array without channels", "csv")],
)
def test_what_a_model_is_trained_on_can_be_scored(
    image_models: Path, expected: pa.Table, tmp_path: Path, kind: str, suffix: str
) -> None:
    if kind == "folder":
        source = tmp_path / "scans"
        for place, image in enumerate(LEVELS):
            file = source / f"tray {place // 20}" / f"{place:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(image))
        (source / "notes.txt").write_text("no image")
    else:
        source = tmp_path / "scans.npz"
        np.savez_compressed(source, X=LEVELS if kind == "array" else LEVELS[..., 0])
    target = tmp_path / f"scored.{suffix}"
    done = surprisal("score", image_models / IMAGES, source, target)
    assert done.returncode == 0, done.stderr
    assert "35 rows scored" in done.stderr
    found = read(target)
    name = "file" if kind == "folder" else "row"
    assert found.column_names[0] == name
    assert "image" not in found.column_names
    rows = [f"tray {place // 20}/{place:02}.png" for place in range(35)] if kind == "folder" else [*range(1, 36)]
    assert found[name].to_pylist() == rows
    np.testing.assert_allclose(np.asarray(found["elbo"]), np.asarray(expected["elbo"]), rtol=1e-6)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "ndjson"])
def test_a_file_of_images_is_explained_by_maps(image_models: Path, tmp_path: Path, suffix: str) -> None:
    found = scored(image_models, tmp_path, "texts", suffix, "--explain")
    added = [name for name in found.column_names if name.startswith("explanation")]
    parts = ("field", "surprisal", "excess", "share", "conditional_excess", "expected", "direction", "surprisal_map")
    assert added == [f"explanation_1_{part}" for part in parts]
    assert set(found["explanation_1_field"].to_pylist()) == {"image"}
    for name in ("explanation_1_surprisal_map", "explanation_1_expected"):
        for text in found[name].to_pylist():
            assert Image.open(BytesIO(base64.b64decode(text, validate=True))).size == (8, 8)


def test_binary_is_written_as_lines_that_can_be_scored_again(
    image_models: Path, expected: pa.Table, tmp_path: Path
) -> None:
    parquet(tmp_path / "in.parquet", pa.array(map(png, LEVELS), pa.binary()))
    assert surprisal("score", image_models / IMAGES, tmp_path / "in.parquet", tmp_path / "a.ndjson").returncode == 0
    kept = [json.loads(line) for line in (tmp_path / "a.ndjson").read_text().splitlines()]
    assert [each["image"] for each in kept] == [in_base64(image) for image in LEVELS]
    again = ({"image": each["image"]} for each in kept)
    (tmp_path / "b.ndjson").write_bytes(b"\n".join(map(orjson.dumps, again)))
    done = surprisal("score", image_models / IMAGES, tmp_path / "b.ndjson", tmp_path / "c.parquet")
    assert done.returncode == 0, done.stderr
    found = pyarrow.parquet.read_table(tmp_path / "c.parquet")
    np.testing.assert_allclose(np.asarray(found["elbo"]), np.asarray(expected["elbo"]), rtol=1e-6)


@pytest.mark.parametrize("form", ["files", "tensors", "lists", "nested lists"])
def test_images_are_written_to_csv_as_text_that_can_be_scored_again(
    image_models: Path, expected: pa.Table, tmp_path: Path, form: str
) -> None:
    if form == "files":
        parquet(tmp_path / "levels.parquet", pa.array([image.tobytes() for image in LEVELS], pa.binary()))
        done = surprisal("score", image_models / IMAGES, tmp_path / "levels.parquet", tmp_path / "scored.csv")
        assert done.returncode == 0, done.stderr
        found = pyarrow.csv.read_csv(tmp_path / "scored.csv")
    else:
        found = scored(image_models, tmp_path, form, "csv")
    np.testing.assert_allclose(np.asarray(found["elbo"]), np.asarray(expected["elbo"]), rtol=1e-6)
    assert found["image"].to_pylist() == [in_base64(image) for image in LEVELS]


WRONG: dict[str, tuple[str, Callable[[Path], None], tuple[str, ...]]] = {
    "no image in a line": ("ndjson", lambda path: ndjson(path, ["", *["S3CRET"] * 34]), ("line 1", "'image'")),
    "a line without one": (
        "ndjson",
        lambda path: ndjson(path, [*(in_base64(each) for each in LEVELS[:34]), None]),
        ("line 35", "'image'"),
    ),
    "no image in a cell": (
        "csv",
        lambda path: cells(path, [*(in_base64(each) for each in LEVELS[:34]), "S3CRET"]),
        ("row 35", "'image'", "base64"),
    ),
    "an empty cell": ("csv", lambda path: cells(path, ["", *[in_base64(LEVELS[0])] * 34]), ("row 1", "'image'")),
    "tensors of another size": (
        "parquet",
        lambda path: parquet(path, tensors(LEVELS[:, :7])),
        ("column 'image'", "[8, 8, 1]"),
    ),
    "a null": (
        "parquet",
        lambda path: parquet(path, pa.array([*map(png, LEVELS[:34]), None], pa.binary())),
        ("row 35", "'image'"),
    ),
    "a null among tensors": (
        "parquet",
        lambda path: parquet(
            path, pa.array([*LEVELS[:33].reshape(33, -1).tolist(), None, [7] * 64], pa.list_(pa.uint8(), 64))
        ),
        ("row 34", "'image'", "never missing"),
    ),
    "no such column": (
        "parquet",
        lambda path: pyarrow.parquet.write_table(pa.table({"part": NAMES}), path),
        ("none of the model's fields is a column: image",),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_holds_no_images_is_named_with_the_row(image_models: Path, tmp_path: Path, name: str) -> None:
    suffix, write, words = WRONG[name]
    source = tmp_path / f"images.{suffix}"
    write(source)
    done = surprisal("score", image_models / IMAGES, source, tmp_path / "out.ndjson")
    assert done.returncode in (1, 2)
    for each in words:
        assert each in done.stderr
    assert "Traceback" not in done.stderr
    assert "S3CRET" not in done.stderr
    assert not (tmp_path / "out.ndjson").exists()


def test_scores_are_measured_beside_baselines_of_the_pixels(image_models: Path, tmp_path: Path) -> None:
    images = np.concatenate([simulate_images(200, seed=51), simulate_images(60, seed=51, strange=True)])
    path = tmp_path / "later.npz"
    np.savez(path, X=images, y=np.repeat([0, 1], [200, 60]))
    done = surprisal("evaluate", image_models / IMAGES, path, "--label", "y", "--normal", "0", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["rows"] == {"normal": 100, "anomalies": 60, "baselines_fitted_on": 100}
    detectors = document["detectors"]
    assert list(detectors)[-4:] == BASELINES
    assert {"combined", "texture", "complexity", "elbo"} < set(detectors)
    assert detectors["combined"]["auroc"]["value"] > 0.95
    # A bar that stands has the same levels as one that lies, and is far from all of those.
    assert detectors["kNN, k = 5"]["auroc"]["value"] > 0.95
    assert 0.3 < detectors["norm of the row"]["auroc"]["value"] < 0.7


def test_an_autoencoder_is_measured_and_shown_by_its_one_score(trained_autoencoder: Trained, tmp_path: Path) -> None:
    bundle = trained_autoencoder.folder.parents[1] / AUTOENCODER
    images = np.concatenate([simulate_images(60, seed=51), simulate_images(20, seed=51, strange=True)])
    np.savez(tmp_path / "later.npz", X=images, y=np.repeat([0, 1], [60, 20]))
    done = surprisal("evaluate", bundle, tmp_path / "later.npz", "--label", "y", "--normal", "0", "--json")
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)["detectors"]) == ["expected_log_likelihood", *BASELINES]
    shown = surprisal("inspect", bundle)
    assert "expected_log_likelihood_auroc" in shown.stdout
    assert "elbo_auroc" not in shown.stdout


def test_inspect_shows_the_image(image_models: Path) -> None:
    shown = surprisal("inspect", image_models / IMAGES)
    assert shown.returncode == 0, shown.stderr
    (row,) = (line for line in shown.stdout.splitlines() if "discretised-logistic" in line)
    for words in ("image", "8 wide, 8 high, grey", "never"):
        assert words in row
    manifest = json.loads(surprisal("inspect", image_models / IMAGES, "--json").stdout)
    assert manifest["record"]["fields"][0]["channels"] == 1


def test_the_schema_of_a_folder_of_images_is_printed(tmp_path: Path) -> None:
    for label, images in (("good", simulate_images(120, seed=1)), ("bad", LEVELS[30:])):
        (tmp_path / "parts" / label).mkdir(parents=True)
        for number, image in enumerate(images):
            (tmp_path / "parts" / label / f"{number}.png").write_bytes(png(image))
    printed = surprisal("train", tmp_path / "parts", "--schema-only", "--label", "label", "--normal", "good")
    assert printed.returncode == 0, printed.stderr
    assert tomllib.loads(printed.stdout)["fields"] == [{"name": "image", "kind": "image"}]
