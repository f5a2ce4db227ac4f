"""The page of `surprisal explore`, compared with what the bundle's graphs say of the images."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from bundle.folder import store
from bundle.folder.store import Bundle
from tests.conftest import simulate_images, table_of_images
from tests.training.report.test_page import Reader
from training.config import DataConfig, build
from training.data import split
from training.data.read import read
from training.errors import ConfigInvalid, DataInvalid
from training.evaluation import labelled
from training.evaluation.measures import detection
from training.pipeline import Trained
from training.report import album, exploration, findings, imagery
from training.report.exploration import Exploration


def load(trained: Trained) -> Bundle:
    return store.load(trained.folder.parents[1], trained.name, trained.version)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`usual.npz`, `strange.npz`, `one.npz`."""
    path = tmp_path_factory.mktemp("images")
    np.savez(path / "usual.npz", X=simulate_images(120, seed=5))
    np.savez(path / "strange.npz", X=simulate_images(50, seed=6, strange=True))
    np.savez(path / "one.npz", X=simulate_images(1, seed=7))
    return path


@pytest.fixture(scope="module")
def explored(trained_images: Trained, folder: Path) -> Exploration:
    return exploration.explore(load(trained_images), folder / "usual.npz", folder / "strange.npz", 2000)


def assert_sound(content: bytes, pictures: int, charts: int = 2) -> Reader:
    """One file that runs nothing and asks for nothing, with so many pictures."""
    reader = Reader(content)
    assert reader.within == []
    tags = [tag for tag, _ in reader.elements]
    assert not {"script", "iframe", "object", "embed", "form"} & set(tags)
    assert (tags.count("img"), tags.count("svg")) == (pictures, charts)
    assert b"default-src 'none'" in content
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.elements:
        source = attributes.get("src")
        assert source is None or (tag == "img" and source.startswith("data:image/png;base64,"))
        href = attributes.get("href")
        assert href is None or href == "data:," or href[1:] in ids
    return reader


def test_every_section_shows_what_it_should(explored: Exploration) -> None:
    dimensions = explored.encoder_decoder.latent_size
    reader = assert_sound(album.write(explored), pictures=2 + 2 + dimensions + 2 * album.STRANGEST)
    assert "usual.npz: 120 images, " in reader.text
    assert "strange.npz: 50 images, " in reader.text
    assert "of the training file" not in reader.text
    assert "\N{MINUS SIGN}ELBO" in reader.text
    for score in ("elbo", "combined"):
        auroc = detection(explored.data.scores[score], explored.other.scores[score] if explored.other else np.empty(0))
        assert f"AUROC {auroc['auroc']:.3f}" in reader.text
    mean, other = (
        float(each.scores["elbo"].astype(np.float64).mean()) for each in (explored.data, explored.other) if each
    )
    assert f"Mean {mean:.4g} (data), {other:.4g} (other)".replace("-", "\N{MINUS SIGN}") in reader.text
    rows = [reader.text.index(f"dimension {each + 1} ") for each in np.argsort(-explored.kl, kind="stable")]
    assert rows == sorted(rows), "dimensions of the most KL come first"


def test_the_strangest_images_are_those_of_the_highest_scores(trained_images: Trained, folder: Path) -> None:
    bundle = load(trained_images)
    found = exploration.explore(bundle, folder / "usual.npz", None, 2000)
    data, _ = labelled.read_records(bundle, folder / "usual.npz")
    scores = found.data.scores["combined"]
    names = [found.data.names[place] for place in np.argsort(-scores, kind="stable")[: album.STRANGEST]]
    reader = assert_sound(album.write(found), pictures=1 + 2 + found.encoder_decoder.latent_size + album.STRANGEST)
    places = [reader.text.index(f"{name} score") for name in names]
    assert places == sorted(places)
    assert f"score {scores.max():.4g}, p-value" in reader.text
    # A name leads back to the image.
    images = simulate_images(data.table.num_rows, seed=5)
    for place in range(5):
        row = int(found.data.names[place].removeprefix("row ")) - 1
        assert np.array_equal(found.data.images[place], images[row])


def test_the_same_images_give_the_same_bytes(trained_images: Trained, folder: Path, explored: Exploration) -> None:
    again = exploration.explore(load(trained_images), folder / "usual.npz", folder / "strange.npz", 2000)
    assert album.write(again) == album.write(explored)


def test_of_the_training_file_only_images_that_nothing_was_fitted_on_are_shown(
    trained_images: Trained, tmp_path: Path
) -> None:
    bundle = load(trained_images)
    path = tmp_path / "scans.parquet"
    pyarrow.parquet.write_table(table_of_images(1200, 60, seed=1), path)
    data = read(path)
    facts = bundle.manifest.training.model_copy(update={"data_sha256": data.sha256})
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"training": facts}))
    said: list[str] = []
    found = exploration.explore(bundle, path, None, 2000, said.append)
    config = build(dict(facts.config))
    parts = split.split(data, config.data, config.scoring.false_alarm_rate, config.seed)
    rows = sorted(int(name.removeprefix("row ").replace(",", "")) - 1 for name in found.data.names)
    assert rows == parts.calibration.tolist()
    words = f"{parts.calibration.size} images of the training file that nothing was fitted on"
    text = Reader(album.write(found)).text
    assert words in text
    usual, strangers, _ = findings.sentences(found)
    assert usual in text
    assert usual.endswith("; they set the threshold, so this says nothing of new images")
    assert strangers.endswith("% flagged at a false-alarm rate of 5%")
    assert said == [
        f"scoring {parts.calibration.size} images of scans.parquet, which nothing was fitted on",
        "scoring 60 images of scans.parquet, not normal, which nothing was fitted on",
    ]
    assert found.other is not None
    others = [int(name.removeprefix("row ").replace(",", "")) - 1 for name in found.other.names]
    assert sorted(others) == parts.anomalies.tolist()
    some = exploration.explore(bundle, path, None, 30)
    assert set(some.data.names) < set(found.data.names)
    assert f"30 of {parts.calibration.size} images" in Reader(album.write(some)).text


def test_an_autoencoder_has_nothing_to_draw_from(trained_autoencoder: Trained, folder: Path) -> None:
    found = exploration.explore(load(trained_autoencoder), folder / "usual.npz", folder / "strange.npz", 2000)
    reader = assert_sound(album.write(found), pictures=2 + 1 + 2 * album.STRANGEST, charts=1)
    assert "no prior" in reader.text
    assert "Latent traversals" not in reader.text
    assert "Samples" not in reader.text
    assert "The colours explain \N{MINUS SIGN}expected log-likelihood." in reader.text
    assert found.other is not None
    auroc = detection(found.data.scores["expected_log_likelihood"], found.other.scores["expected_log_likelihood"])
    assert reader.text.count(f"AUROC {auroc['auroc']:.3f}") == 1, "its one score decides"


def test_one_image_is_enough(trained_images: Trained, folder: Path) -> None:
    found = exploration.explore(load(trained_images), folder / "one.npz", None, 2000)
    reader = assert_sound(album.write(found), pictures=1 + 1 + found.encoder_decoder.latent_size + 1)
    assert "one.npz: 1 image, " in reader.text
    assert "Interpolations" not in reader.text


def test_markup_in_names_of_files_stays_text(trained_images: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "<b>scans"
    folder.mkdir()
    for place, levels in enumerate(simulate_images(3, seed=8)):
        Image.fromarray(levels[..., 0]).save(folder / f"<i>{place}.png")
    found = exploration.explore(load(trained_images), folder, None, 2000)
    reader = assert_sound(album.write(found), pictures=1 + 2 + found.encoder_decoder.latent_size + 3)
    assert "<b>scans: 3 images" in reader.text
    assert all(f"<i>{place}.png" in reader.text for place in range(3))


def test_a_picture_holds_every_pixel() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3)).astype(np.uint8)
    html = str(imagery.picture(rows, "two & three"))
    content = base64.b64decode(html.partition("base64,")[2].partition('"')[0])
    found = np.asarray(Image.open(io.BytesIO(content)))
    times = 720 // 15
    assert found.shape == (2 * 4 * times + 4, 3 * 5 * times + 8, 4)
    left, top = 5 * times + 4, 4 * times + 4
    second = found[top : top + 4 * times : times, left : left + 5 * times : times]
    assert np.array_equal(second[..., :3], rows[1, 1])
    assert (second[..., 3] == 255).all()
    assert (found[4 * times : top, :, 3] == 0).all()
    assert "two &amp; three" in html


def test_other_images_than_the_models_are_refused(trained_images: Trained, trained: Trained, tmp_path: Path) -> None:
    np.savez(tmp_path / "large.npz", X=np.zeros((5, 8, 9), np.uint8))
    np.savez(tmp_path / "colour.npz", X=np.zeros((5, 8, 8, 3), np.uint8))
    (tmp_path / "text.csv").write_text("image\nscan.png\n")
    bundle = load(trained_images)
    with pytest.raises(DataInvalid, match="9 wide and 8 high, grey; those of the model are 8 wide and 8 high, grey"):
        exploration.explore(bundle, tmp_path / "large.npz", None, 2000)
    with pytest.raises(DataInvalid, match="8 wide and 8 high, RGB"):
        labelled.evaluate(bundle, tmp_path / "colour.npz", "y", "0")
    with pytest.raises(DataInvalid, match="images are expected"):
        exploration.explore(bundle, tmp_path / "text.csv", None, 2000)
    with pytest.raises(ConfigInvalid, match="no such file"):
        exploration.explore(bundle, tmp_path / "none.npz", None, 2000)
    with pytest.raises(ConfigInvalid, match=r"transactions/1/report\.html"):
        exploration.explore(load(trained), tmp_path / "large.npz", None, 2000)


def labelled_folder(path: Path) -> Path:
    """Twenty usual images in `good`, eight strange ones in `bad`, and two beside the folders."""
    for label, count, strange in (("good", 20, False), ("bad", 8, True), (".", 2, False)):
        (path / label).mkdir(parents=True, exist_ok=True)
        for place, levels in enumerate(simulate_images(count, seed=count, strange=strange)):
            Image.fromarray(levels[..., 0]).save(path / label / f"{place}.png")
    return path


def test_labelled_strangers_are_the_second_set(trained_images: Trained, tmp_path: Path) -> None:
    folder, bundle, said = labelled_folder(tmp_path / "parts"), load(trained_images), list[str]()
    labels = DataConfig(label="label", normal="good")
    found = exploration.explore(bundle, folder, None, 2000, said.append, labels)
    assert said == [
        "2 images of parts without a label left out",
        "scoring 20 images of parts",
        "scoring 8 images of parts, not good",
    ]
    assert found.other is not None
    assert (found.data.role, found.other.role) == ("normal", "not normal")
    assert {name.partition("/")[0] for name in found.data.names} == {"good"}
    assert {name.partition("/")[0] for name in found.other.names} == {"bad"}
    text = Reader(album.write(found)).text
    assert "parts, not good, the strangest 8 of 8" in text
    auroc = detection(found.data.scores["elbo"], found.other.scores["elbo"])["auroc"]
    assert f"AUROC {auroc:.3f}" in text
    # The folder without labels is the same as before, and so is one that is compared with another.
    assert exploration.explore(bundle, folder, None, 2000).data.found == 30
    compared = exploration.explore(bundle, folder, folder, 2000, said.append, labels)
    assert said[4] == "8 images of parts that are not good left out"
    assert compared.other is not None
    assert (compared.data.found, compared.other.found) == (20, 30)
    with pytest.raises(ConfigInvalid, match="no row has label = fine"):
        exploration.explore(bundle, folder, None, 2000, labels=DataConfig(label="label", normal="fine"))


def test_labels_that_the_model_was_trained_with_hold_for_another_file(trained_images: Trained, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(table_of_images(30, 6, seed=3), tmp_path / "later.parquet")
    found = exploration.explore(load(trained_images), tmp_path / "later.parquet", None, 2000)
    assert found.other is not None
    assert (found.data.found, found.other.found) == (30, 6)
    pyarrow.parquet.write_table(table_of_images(0, 6, seed=3), tmp_path / "strange.parquet")
    only = exploration.explore(load(trained_images), tmp_path / "strange.parquet", None, 2000)
    assert (only.data.found, only.other) == (6, None)


def test_surprisal_lies_in_colour_over_the_image() -> None:
    image = np.array([[0, 128, 255]], np.uint8)[..., np.newaxis]
    usual = imagery.overlay(image, np.zeros((1, 3), np.uint8))
    assert (usual == usual[..., :1]).all(), "grey where nothing is surprising"
    assert (np.diff(usual[0, :, 0].astype(int)) > 20).all(), "and the image is seen"
    strange = imagery.overlay(image, np.full((1, 3), 255, np.uint8)).astype(int)
    assert (strange[..., 0] - strange[..., 1] > 150).all(), "red on black and on white"
    colour = imagery.overlay(np.broadcast_to(image, (1, 3, 3)), np.array([[0, 128, 255]], np.uint8))
    assert (colour[0, 0] == usual[0, 0]).all()
