"""Files of records: every row arrives, nothing that is no field changes, and what is wrong is named by its place."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bundle.record.fields import BooleanField, CategoricalField, Derived, ImageField, NumericField
from bundle.record.images import png
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service import files
from service.files.piece import ROWS
from training.data import read as data
from training.errors import DataInvalid

SCHEMA = TableSchema(
    fields=(
        NumericField(name="amount", missing_rate=0.1, mean=0.0, scale=1.0),
        BooleanField(name="new", missing_rate=0.1),
        CategoricalField(name="country", missing_rate=0.1, vocabulary=("NO", "SE")),
        CategoricalField(
            name="at_hour", missing_rate=0.1, vocabulary=("7", "8"), derived=Derived(source="at", part="hour")
        ),
    )
)
Rows = list[dict[str, Any]]


def read(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """All pieces of a file, joined."""
    with files.open_records(path, SCHEMA) as file:
        pieces = list(file.pieces())
        assert all(piece.table.column_names == file.columns for piece in pieces)
    tensors = {kind: np.concatenate([piece.tensors[kind] for piece in pieces]) for kind in pieces[0].tensors}
    assert pieces[-1].share == pytest.approx(1.0, abs=0.01)
    return pa.concat_tables([piece.table for piece in pieces]), tensors


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_cells_become_values_and_what_is_no_field_stays_as_it_is(tmp_path: Path) -> None:
    path = written(
        tmp_path / "in.csv",
        "\ufeffamount,note,new,country,at\n"
        "1.5,NA,1,NO,2024-01-01T07:30:00\n"
        "NA,,0.0,XX,2024-01-01T08:30:00\n"
        '-2,"a, b",True,,\n'
        "1e3,007,,NA,NA\n",
    )
    table, tensors = read(path)
    assert table["note"].to_pylist() == ["NA", None, "a, b", "007"]
    np.testing.assert_array_equal(tensors["numeric"][:, 0], [1.5, np.nan, -2, 1e3])
    assert tensors["boolean"][:, 0].tolist() == [1, 0, 1, -1]
    assert tensors["categorical"].tolist() == [[1, 1], [0, 2], [-1, -1], [-1, -1]]


LINES = """{"amount": 1, "note": 1}

{"new": true, "note": 2.5, "late": "x"}
{"country": "SE", "at": "2024-01-01T08:00:00Z"}
"""


def test_lines_need_not_have_the_same_members(tmp_path: Path) -> None:
    table, tensors = read(written(tmp_path / "in.ndjson", "\ufeff" + LINES))
    assert table.column_names == ["amount", "note", "new", "late", "country", "at"]
    assert table["note"].to_pylist() == [1.0, 2.5, None]
    assert table["late"].to_pylist() == [None, "x", None]
    np.testing.assert_array_equal(tensors["numeric"][:, 0], [1, np.nan, np.nan])
    assert tensors["boolean"][:, 0].tolist() == [-1, 1, -1]
    assert tensors["categorical"].tolist() == [[-1, -1], [-1, -1], [2, 2]]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "ndjson"])
def test_every_row_of_a_file_of_several_pieces_arrives_once_and_in_order(tmp_path: Path, suffix: str) -> None:
    rows = 2 * ROWS + 7
    table = pa.table({"amount": np.arange(rows, dtype=np.float64), "note": [f"n{i}" * 9 for i in range(rows)]})
    path = tmp_path / f"in.{suffix}"
    with files.writer(path) as target:
        target.write_table(table)
    if suffix == "ndjson":  # A column that the first two pieces lack.
        with path.open("a") as more:
            more.write('{"amount": 5, "country": "NO", "extra": 3}\n')
    read_back, tensors = read(path)
    assert tensors["numeric"][:rows, 0].tolist() == list(range(rows))
    assert read_back["note"].to_pylist()[:rows] == table["note"].to_pylist()
    if suffix == "ndjson":
        assert tensors["categorical"][-1, 0] == 1
        assert read_back["extra"].to_pylist()[-2:] == [None, 3]


def test_what_a_dictionary_column_lacks_is_missing(tmp_path: Path) -> None:
    country = pa.array(["NO", None, "SE", None]).dictionary_encode()
    pyarrow.parquet.write_table(pa.table({"amount": [1.0, 2.0, 3.0, 4.0], "country": country}), tmp_path / "in.parquet")
    _, tensors = read(tmp_path / "in.parquet")
    assert tensors["categorical"][:, 0].tolist() == [1, -1, 2, -1]


def test_files_without_rows_give_one_piece_without_rows(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"amount": pa.array([], pa.float64())}), tmp_path / "in.parquet")
    written(tmp_path / "in.csv", "amount,note\n")
    for suffix, columns in (("parquet", ["amount"]), ("csv", ["amount", "note"])):
        table, tensors = read(tmp_path / f"in.{suffix}")
        assert (table.num_rows, table.column_names) == (0, columns)
        assert tensors["numeric"].shape == (0, 1)
        assert tensors["categorical"].shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("empty.csv", "", "mpty"),
        ("twice.csv", "a,a\n1,2\n", "two columns are named 'a'"),
        ("text.csv", "amount,note\n1,a\n2,b\nmuch,c\n", "row 3, column 'amount': a number is expected"),
        ("infinite.csv", "amount\n1\ninf\n", "row 2, column 'amount': a finite number"),
        ("flag.csv", "new\ntrue\nperhaps\n", "row 2, column 'new': true or false"),
        ("time.csv", "amount,at\n1,soon\n", "row 1, column 'at': a timestamp"),
        ("ragged.csv", "amount,note\n1,a\n2\n", "row 2 has 1 cell, and there are 2 columns"),
        ("late.csv", "amount\n" + "1\n" * 700_000 + "much\n", "row 700001, column 'amount': a number"),
        ("empty.ndjson", "\n \n", "holds no rows"),
        ("broken.ndjson", '{"amount": 1}\n\n{"amount": \n', "line 3 is not JSON"),
        ("list.ndjson", '{"amount": 1}\n[1]\n', "line 2 is not an object"),
        ("text.ndjson", '{"amount": 1}\n\n{"amount": "much"}\n', "line 3, column 'amount': a number"),
        ("in.parquet", "no parquet", "arquet"),
        ("in.xlsx", "", "save the sheet as CSV"),
        ("in.pdf", "", ".csv, .tsv, .parquet"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_place(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = written(tmp_path / name, text)
    with pytest.raises(files.FileInvalid) as refusal:
        read(path)
    assert str(path) in str(refusal.value)
    assert words in str(refusal.value)
    assert "much" not in str(refusal.value)


NUMBERS = TableSchema(
    fields=tuple(NumericField(name=f"x{column}", missing_rate=0.1, mean=0.0, scale=1.0) for column in range(2))
)
GREY = ImageSchema(fields=(ImageField(name="image", height=3, width=2, channels=1),))
COLOUR = ImageSchema(fields=(ImageField(name="image", height=3, width=2, channels=3),))


def test_an_array_of_numbers_has_the_columns_that_training_gives_it(tmp_path: Path) -> None:
    array = np.arange(2.0 * (2 * ROWS + 7)).reshape(-1, 2)
    np.savez(tmp_path / "in.npz", X=np.asfortranarray(array), y=np.zeros(len(array)))
    with files.open_records(tmp_path / "in.npz", NUMBERS) as file:
        pieces = list(file.pieces())
    table = pa.concat_tables([piece.table for piece in pieces])
    assert table.column_names == file.columns == ["x0", "x1", "y"]
    np.testing.assert_array_equal(np.column_stack([table["x0"], table["x1"]]), array)
    np.testing.assert_array_equal(np.concatenate([piece.tensors["numeric"] for piece in pieces]), array)
    assert pieces[-1].share == 1.0


@pytest.mark.parametrize("kind", ["f2", ">f8", "longdouble", ">i4", "u8"])
def test_numbers_of_every_kind_are_read(tmp_path: Path, kind: str) -> None:
    np.savez(tmp_path / "in.npz", X=np.array([[1, 2], [3, 4]], kind))
    with files.open_records(tmp_path / "in.npz", NUMBERS) as file:
        (piece,) = file.pieces()
    np.testing.assert_array_equal(piece.tensors["numeric"], [[1, 2], [3, 4]])


def test_an_array_without_rows_is_one_piece_without_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", X=np.zeros((0, 3, 2), np.uint8))
    with files.open_records(tmp_path / "in.npz", GREY) as file:
        (piece,) = file.pieces()
    assert piece.tensors["image"].shape == (0, 3, 2, 1)
    assert (piece.table.num_rows, piece.share) == (0, 1.0)


@pytest.mark.parametrize(
    ("schema", "arrays", "words"),
    [
        (NUMBERS, {"features": np.zeros((3, 2))}, "no array X"),
        (NUMBERS, {"X": np.zeros((3, 2)), "y": np.zeros(2)}, "y has the shape (2,); (3,) is expected"),
        (NUMBERS, {"X": np.array([["1", "2"]])}, "X is <U1 of shape (1, 2); a table of numbers (n, d)"),
        (NUMBERS, {"X": np.zeros((4, 3, 2), np.uint8)}, "a table of numbers (n, d)"),
        (NUMBERS, {"X": np.array([[1.0, 2.0], [3.0, np.inf]])}, "row 2, column 'x1': a finite number"),
        (NUMBERS, {"X": np.array([None])}, "no npz of plain arrays"),
        (GREY, {"X": np.zeros((4, 2, 3), np.uint8)}, "images are uint8 (n, 3, 2)"),
        (GREY, {"X": np.zeros((4, 3, 2, 3), np.uint8)}, "images are uint8 (n, 3, 2)"),
        (GREY, {"X": np.zeros((4, 3, 2))}, "X is float64"),
        (COLOUR, {"X": np.zeros((4, 3, 2), np.uint8)}, "images are uint8 (n, 3, 2, 3)"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(
    tmp_path: Path, schema: RecordSchema, arrays: dict[str, Any], words: str
) -> None:
    path = tmp_path / "in.npz"
    np.savez(path, **arrays)
    with pytest.raises(files.FileInvalid) as refusal, files.open_records(path, schema) as file:
        list(file.pieces())
    assert str(path) in str(refusal.value)
    assert words in str(refusal.value)


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def header(rows: int) -> bytes:
    """Of an array of so many rows that are not there."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": (rows, 2)})
    return content.getvalue()


SOUND = zipped(**{"X.npy": header(100) + np.random.default_rng(0).random((100, 2)).tobytes()})
DAMAGED = {
    "nothing": b"",
    "text": b"no zip file",
    "a header alone": np.lib.format.magic(1, 0) + b"\0\0",
    "cut": SOUND[:-200],
    "a member that is no array": zipped(**{"X.npy": b"much"}),
    "packed rows flipped": SOUND[:200] + bytes(255 - byte for byte in SOUND[200:800]) + SOUND[800:],
    "packed rows that are none": SOUND[:35] + b"\xff" + SOUND[36:],
    "another way of packing": SOUND.replace(b"\x08\x00", b"\x63\x00"),
    "encrypted": SOUND.replace(b"\x14\x00\x00\x00", b"\x14\x00\x01\x00"),
    "more rows than memory": zipped(**{"X.npy": header(10**13)}),
    "more rows than numbers": zipped(**{"X.npy": header(10**30)}),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_array_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in.npz"
    path.write_bytes(content)
    with pytest.raises(files.FileInvalid, match=r"in\.npz: "), files.open_records(path, NUMBERS):
        pass
    with pytest.raises(DataInvalid, match=r"in\.npz: "):
        data.read(path)


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_images_arrive_once_and_in_order_however_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("service.files.piece.ROWS", 2)
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 2), np.uint8)
    source = tmp_path / "in.npz"
    if kind == "npz":
        np.savez(source, X=images, y=list("abcde"))
    else:
        source = folder_of_images(tmp_path / "scans", "none")
        for place, image in enumerate(images):
            (source / f"{place}.png").write_bytes(png(image))
    with files.open_records(source, GREY) as file:
        pieces = list(file.pieces())
    assert [piece.share for piece in pieces] == pytest.approx([0.4, 0.8, 1.0])
    np.testing.assert_array_equal(np.concatenate([piece.tensors["image"] for piece in pieces])[..., 0], images)
    table = pa.concat_tables([piece.table for piece in pieces])
    rows = {"row": [1, 2, 3, 4, 5], "y": list("abcde")} if kind == "npz" else {"file": [f"{at}.png" for at in range(5)]}
    assert table.to_pydict() == rows


def test_images_may_have_the_name_of_a_column_that_is_written(tmp_path: Path) -> None:
    field = ImageField(name="row", height=3, width=2, channels=1)
    np.savez(tmp_path / "in.npz", x_train=np.zeros((4, 3, 2), np.uint8))
    with files.open_records(tmp_path / "in.npz", ImageSchema(fields=(field,))) as file:
        (piece,) = file.pieces()
    assert piece.table["row"].to_pylist() == [1, 2, 3, 4]


def folder_of_images(folder: Path, damage: str) -> Path:
    """Three images, one of which is damaged, or none at all."""
    (folder / "of").mkdir(parents=True)
    if damage == "none":
        return folder
    for place in range(3):
        (folder / "of" / f"{place}.png").write_bytes(png(np.zeros((3, 2, 1), np.uint8)))
    match damage:
        case "broken":
            (folder / "of" / "1.png").write_bytes(png(np.zeros((3, 2, 1), np.uint8))[:30])
        case "large":
            (folder / "of" / "1.png").write_bytes(png(np.zeros((4, 2, 1), np.uint8)))
        case "text":
            (folder / "of" / "1.png").write_text("much")
        case "name":
            (folder / "of" / "\udcff.png").write_bytes(png(np.zeros((3, 2, 1), np.uint8)))
    return folder


@pytest.mark.parametrize(
    ("damage", "schema", "words"),
    [
        ("none", GREY, "nor any image"),
        ("broken", GREY, "1.png: "),
        ("large", GREY, "1.png: a grey image 2 wide and 3 high is expected; this one is 2 by 4"),
        ("text", GREY, "1.png: "),
        ("name", GREY, "no text in UTF-8"),
        ("sound", NUMBERS, "a folder holds images"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path, damage: str, schema: RecordSchema, words: str) -> None:
    folder = folder_of_images(tmp_path / "scans", damage)
    with pytest.raises(files.FileInvalid) as refusal, files.open_records(folder, schema) as file:
        list(file.pieces())
    assert str(folder) in str(refusal.value)
    assert words in str(refusal.value)
    assert "much" not in str(refusal.value)
