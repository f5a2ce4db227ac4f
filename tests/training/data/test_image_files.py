"""Images in npz files and folders become a column of an Arrow table, and what is no such thing is said."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image, PngImagePlugin

from training.data import image_files
from training.data.read import read
from training.errors import ConfigInvalid, DataInvalid

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 5, 4, 1)).astype(np.uint8)
COLOUR = RANDOM.integers(0, 256, (6, 5, 4, 3)).astype(np.uint8)
EVERY = np.arange(6)


@pytest.mark.parametrize("images", [GREY, COLOUR, GREY[..., 0]])
def test_an_npz_of_images_becomes_a_column(tmp_path: Path, images: np.ndarray) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, X=images, y=np.arange(6))
    table = read(path).table
    assert table.column_names == ["image", "y"]
    assert image_files.is_column(table.schema.field("image").type)
    np.testing.assert_array_equal(image_files.levels(table["image"], EVERY), images.reshape(6, 5, 4, -1))


def test_keras_names_are_known(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, x_train=GREY, y_train=np.zeros(6), x_test=GREY[:2], y_test=np.zeros(2))
    table = read(path).table
    assert table.num_rows == 6
    assert table["y"].to_pylist() == [0.0] * 6


def test_images_survive_parquet(tmp_path: Path) -> None:
    source, target = tmp_path / "images.npz", tmp_path / "images.parquet"
    np.savez(source, X=COLOUR)
    pyarrow.parquet.write_table(read(source).table, target)
    table = read(target).table
    assert image_files.is_column(table.schema.field("image").type)
    np.testing.assert_array_equal(image_files.levels(table["image"], EVERY[2:5]), COLOUR[2:5])


def test_a_folder_of_folders_is_labelled(tmp_path: Path) -> None:
    for name, pixels in (("good/a.png", GREY[0]), ("good/b.PNG", GREY[1]), ("bad/c.png", GREY[2])):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(path)
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    found = read(tmp_path / "images")
    assert found.table.column_names == ["image", "file", "label"]
    assert found.table["file"].to_pylist() == ["bad/c.png", "good/a.png", "good/b.PNG"]
    assert found.table["label"].to_pylist() == ["bad", "good", "good"]
    np.testing.assert_array_equal(image_files.levels(found.table["image"], EVERY[:3]), GREY[[2, 0, 1]])
    before = found.sha256
    Image.fromarray(GREY[3][..., 0]).save(tmp_path / "images" / "bad" / "c.png")
    assert read(tmp_path / "images").sha256 != before


def test_one_colour_image_makes_all_of_them_rgb(tmp_path: Path) -> None:
    Image.fromarray(GREY[0][..., 0]).save(tmp_path / "a.png")
    Image.fromarray(COLOUR[0]).save(tmp_path / "b.png")
    table = read(tmp_path).table
    assert table.column_names == ["image", "file"]
    np.testing.assert_array_equal(image_files.levels(table["image"], EVERY[:1])[0], np.repeat(GREY[0], 3, axis=-1))


def test_a_file_of_as_many_bytes_as_an_image_has_levels_is_read_as_a_file(tmp_path: Path) -> None:
    flat = np.full((40, 30, 3), 90, np.uint8)
    note = PngImagePlugin.PngInfo()
    note.add_text("note", "n" * 3000)
    Image.fromarray(flat).save(tmp_path / "a.png", pnginfo=note)
    note = PngImagePlugin.PngInfo()
    note.add_text("note", "n" * (3000 + flat.size - (tmp_path / "a.png").stat().st_size))
    Image.fromarray(flat).save(tmp_path / "a.png", pnginfo=note)
    assert (tmp_path / "a.png").stat().st_size == flat.size
    np.testing.assert_array_equal(image_files.levels(read(tmp_path).table["image"], EVERY[:1])[0], flat)


def test_hidden_folders_hold_no_data_and_strange_names_are_said(tmp_path: Path) -> None:
    for name in ("a", ".checkpoints"):
        (tmp_path / name).mkdir()
        Image.fromarray(GREY[0][..., 0]).save(tmp_path / name / "x.png")
    assert read(tmp_path).table["label"].to_pylist() == ["a"]
    Image.fromarray(GREY[0][..., 0]).save(tmp_path / "a" / os.fsdecode(b"\xff.png"))
    with pytest.raises(DataInvalid, match="is no text in UTF-8"):
        read(tmp_path)


def test_folders_behind_links_are_read_and_links_in_a_circle_end(tmp_path: Path) -> None:
    for place in ("data/a", "data/b", "elsewhere"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(GREY[0][..., 0]).save(tmp_path / place / "x.png")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "itself").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "a" / "there").symlink_to(tmp_path / "data" / "b")
    (tmp_path / "data" / "b" / "back").symlink_to(tmp_path / "data" / "a")
    assert read(tmp_path / "data").table["file"].to_pylist() == [
        "a/there/x.png", "a/x.png", "b/back/x.png", "b/x.png", "linked/x.png"
    ]  # fmt: skip


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    Image.fromarray(GREY[0][..., 0]).save(tmp_path / "x.png")
    scan = os.scandir

    def refused(path: Any) -> Any:  # No right is missing to who runs tests as root.
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataInvalid, match="locked"):
        read(tmp_path)


def test_a_narrow_image_and_an_array_without_a_name_are_said(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((1, 9), np.uint8)).save(tmp_path / "thin.png")
    with pytest.raises(DataInvalid, match="9 wide and 1 high; at least 2"):
        read(tmp_path)
    with (tmp_path / "bare.npz").open("wb") as target:
        np.save(target, GREY)
    with pytest.raises(DataInvalid, match=r"holds one array without a name; np\.savez"):
        read(tmp_path / "bare.npz")


def test_what_is_no_data_set_of_images_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"nor any image"):
        read(tmp_path)
    Image.fromarray(GREY[0][..., 0]).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(DataInvalid, match=r"a\.png is 4 wide and 5 high, .*b\.png 8 and 9: images of one size"):
        read(tmp_path)
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(DataInvalid, match=r"b\.png: this is no image file"):
        read(tmp_path)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(DataInvalid, match=r"b\.png"):
        read(tmp_path)
    with pytest.raises(ConfigInvalid, match="there is no such file"):
        read(tmp_path / "images.tiff")


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (GREY.astype(np.float32), "float32 of shape"),
        (np.zeros((3, 5, 4, 2), np.uint8), r"shape \(3, 5, 4, 2\)"),
        (np.zeros((3, 5, 4, 1, 1), np.uint8), r"C 1 or 3"),
        (np.zeros((3, 1, 4), np.uint8), r"images are 4 wide and 1 high; at least 2"),
        (np.array(7), r"X is int64 of shape \(\)"),
    ],
)
def test_arrays_that_are_no_images_are_said(tmp_path: Path, images: np.ndarray, words: str) -> None:
    np.savez(tmp_path / "images.npz", X=images)
    with pytest.raises(DataInvalid, match=words):
        read(tmp_path / "images.npz")
    np.savez(tmp_path / "images.npz", X=GREY, y=np.zeros(4))
    with pytest.raises(DataInvalid, match=r"y has the shape \(4,\)"):
        read(tmp_path / "images.npz")


def test_picked_images_are_copies_that_may_be_written() -> None:
    column = image_files.column(GREY)
    for images in (column, pa.chunked_array([*column.slice(0, 2).chunks, *column.slice(2).chunks])):
        picked = image_files.levels(images, np.array([5, 0]))
        np.testing.assert_array_equal(picked, GREY[[5, 0]])
        torch.from_numpy(picked)[:] = 7  # torch warns of memory that may not be written, and a warning fails a test
        np.testing.assert_array_equal(image_files.levels(images, EVERY), GREY)


def test_a_missing_image_is_named_by_its_row() -> None:
    column = image_files.column(GREY).take(pa.array([0, 1, None]))
    with pytest.raises(DataInvalid, match="row 3: an image is never missing"):
        image_files.levels(column, EVERY[:2])
