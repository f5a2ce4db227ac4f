"""Folders of images: every kind that is read safely is read, and what is passed over is counted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.record.schema import ImageSchema, schema_of
from service import files
from training import config
from training.data import schema, split
from training.data.kinds import infer
from training.data.read import read
from training.errors import DataInvalid

ENDINGS = {"png": "PNG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "JPG": "JPEG", "jfif": "JPEG", "TIFF": "TIFF"}


def picture(seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (8, 6, 3), np.uint8))


def folder(place: Path) -> Path:
    """Images of every kind, and files that are none."""
    (place / "good").mkdir(parents=True)
    for index, (ending, kind) in enumerate(ENDINGS.items()):
        picture(index).save(
            place / "good" / f"{index}.{ending}", format=kind, **({"lossless": True} if kind == "WEBP" else {})
        )
    (place / "readme.txt").write_text("notes")
    (place / "table.csv").write_text("a,b\n1,2\n")
    (place / "ground_truth" / "defect").mkdir(parents=True)
    picture(0).save(place / "ground_truth" / "defect" / "0_mask.png")
    return place


def test_every_kind_is_read_and_the_rest_is_counted(tmp_path: Path) -> None:
    data = read(folder(tmp_path / "scans"))
    assert data.table.num_rows == len(ENDINGS)
    assert data.said == ("3 other files passed over (1 .csv, 1 .txt, 1 masks)",)
    lossless = [index for index, ending in enumerate(ENDINGS) if ENDINGS[ending] != "JPEG"]
    images = data.table["image"].combine_chunks().to_numpy_ndarray()
    for index in lossless:
        np.testing.assert_array_equal(images[index], np.asarray(picture(index)))


def test_scoring_reads_what_training_reads(tmp_path: Path) -> None:
    place = folder(tmp_path / "scans")
    data = read(place)
    every = np.arange(len(ENDINGS))
    record = schema.fit(data, every, infer(data, every, config.build({})).fields, config.build({}))
    assert isinstance(record, ImageSchema)
    with files.open_records(place, record) as file:
        assert file.said == data.said
        levels = np.concatenate([piece.tensors["image"] for piece in file.pieces()])
    np.testing.assert_array_equal(levels, data.table["image"].combine_chunks().to_numpy_ndarray())
    assert schema_of(record.fields) == record


def test_a_file_that_is_no_such_image_is_named_or_answered_for_itself(tmp_path: Path) -> None:
    place = folder(tmp_path / "scans")
    data = read(place)
    every = np.arange(len(ENDINGS))
    record = schema.fit(data, every, infer(data, every, config.build({})).fields, config.build({}))
    (place / "good" / "8.bmp").write_bytes(b"no image")
    with pytest.raises(DataInvalid, match=r"8\.bmp: this is no image file that can be read"):
        read(place)
    with pytest.raises(files.FileInvalid, match=r"8\.bmp: "), files.open_records(place, record) as file:
        list(file.pieces())
    with files.open_records(place, record, skip=True) as file:
        (piece,) = file.pieces()
    assert list(piece.faults) == [len(ENDINGS)]


@pytest.mark.parametrize("above", ["", "train/"])
def test_normal_alone_names_the_folder_of_the_normal_images(above: str, tmp_path: Path) -> None:
    for name, count in (("good", 3), ("crack", 2)):
        (tmp_path / above / name).mkdir(parents=True)
        for index in range(count):
            picture(index).save(tmp_path / above / name / f"{index}.png")
    normal, anomalies = split.by_label(read(tmp_path).table, config.build({"data": {"normal": "good"}}).data)
    assert (len(normal), len(anomalies)) == (3, 2)
