"""NumPy's npz files of records."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from bundle.record import npz_file
from bundle.record.fields import ImageField
from bundle.record.records import NOTHING, encode_what_fits
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from reading.errors import FileInvalid
from service.files.piece import Piece, fault, first_of_rows, rows_of

ROW = "row"
LABEL = "y"


class NpzFile:
    """Reads an npz file; see `service.files.source.RecordFile`.

    A table's numbers are the columns `x0`, `x1`, …, as in training. Of images the table holds each one's number alone,
    from 1. Labels, where there are any, are the column `y`. The arrays are read whole, because they may be packed.

    Args:
        path: The file.
        schema: The bundle's fields.
        skip: Whether a row that does not fit is answered by its fault, in place of the end of the run.
    """

    said: tuple[str, ...] = ()
    partly: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __init__(self, path: Path, schema: RecordSchema, skip: bool = False) -> None:
        self._path, self._schema, self._skip = path, schema, skip
        try:
            self._records, self._label = npz_file.read(path)
        except npz_file.NpzInvalid as error:
            raise FileInvalid(str(error)) from error
        match schema:
            case ImageSchema():
                columns = self._image_columns(schema.field)
            case TableSchema():
                columns = self._table_columns()
        # The images are no column of the table, so that theirs may have the name of one.
        self.columns: list[str] = list(dict.fromkeys([*columns, *([] if self._label is None else [LABEL])]))

    def _image_columns(self, field: ImageField) -> list[str]:
        shapes = (field.shape[:2], field.shape) if field.channels == 1 else (field.shape,)
        if self._records.dtype != np.uint8 or self._records.shape[1:] not in shapes:
            raise FileInvalid(f"{self._found}; images are uint8 (n, {', '.join(map(str, shapes[0]))})")
        return [field.name, ROW]

    def _table_columns(self) -> list[str]:
        if self._records.ndim != 2 or self._records.dtype.kind not in "fiub":
            raise FileInvalid(f"{self._found}; a table of numbers (n, d) is expected")
        return list(npz_file.columns(self._records[:0]))

    @property
    def _found(self) -> str:
        return f"{self._path}: X is {self._records.dtype} of shape {self._records.shape}"

    def pieces(self) -> Iterator[Piece]:
        """See `RecordFile.pieces`."""
        rows, step = len(self._records), rows_of(self._schema)
        for start in range(0, max(rows, 1), step):
            yield self._piece(slice(start, start + step), min(1.0, (start + step) / max(rows, 1)))

    def _piece(self, some: slice, share: float) -> Piece:
        records, first = self._records[some], some.start + 1
        label = {} if self._label is None else {LABEL: self._label[some]}
        match self._schema:
            case ImageSchema(field=image):
                levels = records.reshape(len(records), *image.shape)
                table = pa.table({ROW: np.arange(first, first + len(records))} | label)
                return Piece(table, {"image": levels}, share)
            case TableSchema():
                table = pa.table(npz_file.columns(records) | label)
                given = {name: table[name].to_numpy() for name in table.column_names if self._schema.takes(name)}
                tensors, problems = encode_what_fits(self._schema, given, len(records), len(records))
                wrong = [problem for problem in problems if problem.detail != NOTHING]
                if wrong and not self._skip:
                    place = f"row {first + wrong[0].row}, column {wrong[0].field!r}"
                    raise FileInvalid(f"{self._path}: {place}: {wrong[0].detail}")
                return Piece(table, tensors, share, {row: fault(each) for row, each in first_of_rows(problems).items()})
