"""Pieces of files: of a size that memory holds, of one type from the first to the last, and with their faults."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bundle.record.fields import BooleanField, ImageField, NumericField
from bundle.record.images import in_base64
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service import files
from service.files.piece import Piece, rows_of

IMAGES = ImageSchema(fields=(ImageField(name="scan", height=256, width=256, channels=1),))
LEVELS = np.zeros((256, 256, 1), np.uint8)
NUMBERS = TableSchema(
    fields=tuple(NumericField(name=name, missing_rate=0.1, mean=0.0, scale=1.0) for name in ("x0", "x1"))
)


def pieces(path: Path, schema: RecordSchema, *, skip: bool = False) -> list[Piece]:
    with files.open_records(path, schema, skip=skip) as file:
        return list(file.pieces())


@pytest.mark.parametrize("metadata", [None, {b"PARQUET:field_id": b"1"}])
def test_images_come_a_few_at_a_time_whatever_the_program_noted_beside_them(
    metadata: dict[bytes, bytes] | None, tmp_path: Path
) -> None:
    rows = rows_of(IMAGES) + 3
    field = pa.field("scan", pa.string(), metadata=metadata)
    pyarrow.parquet.write_table(pa.table([[in_base64(LEVELS)] * rows], schema=pa.schema([field])), tmp_path / "in.pq")
    found = pieces(tmp_path / "in.pq", IMAGES)
    assert [len(piece.tensors["image"]) for piece in found] == [rows - 3, 3]
    assert [piece.table.num_rows for piece in found] == [rows - 3, 3]
    numbers = [piece.numbers for piece in found if piece.numbers is not None]
    assert np.concatenate(numbers).tolist() == list(range(1, rows + 1))


def test_a_file_without_a_row_has_the_columns_of_one_with_rows(tmp_path: Path) -> None:
    schema = TableSchema(fields=(*NUMBERS.fields, BooleanField(name="new", missing_rate=0.1)))
    schemas = []
    for rows in ("", "1.5,2,true\n"):
        (tmp_path / "in.csv").write_text("x0,x1,new\n" + rows)
        (piece,) = pieces(tmp_path / "in.csv", schema)
        schemas.append(piece.table.schema)
    assert schemas[0] == schemas[1]


def test_a_file_without_an_image_has_no_row(tmp_path: Path) -> None:
    kind = pa.fixed_shape_tensor(pa.uint8(), LEVELS.shape, permutation=[0, 1, 2])
    pyarrow.parquet.write_table(pa.Table.from_batches([], pa.schema([("scan", kind)])), tmp_path / "in.parquet")
    (piece,) = pieces(tmp_path / "in.parquet", IMAGES)
    assert (piece.table.num_rows, len(piece.tensors["image"])) == (0, 0)


def test_a_row_of_an_array_that_does_not_fit_is_answered_by_its_fault_where_that_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    np.savez(path, X=np.array([[1.0, 2.0], [np.inf, 3.0], [np.nan, np.nan]]))
    with pytest.raises(files.FileInvalid, match="row 2, column 'x0': a finite number is expected"):
        pieces(path, NUMBERS)
    (piece,) = pieces(path, NUMBERS, skip=True)
    assert piece.faults == {1: "column 'x0': a finite number is expected", 2: "no field is present"}
