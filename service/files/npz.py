"""NumPy's npz files of an array `X`, whose first axis counts the records."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bundle.fields import RecordSchema
from service.files.piece import FileInvalid, Piece, encode_table, rows_of

ARRAY = "X"
ROW = "row"


class NpzFile:
    """Reads an npz file; see `service.files.source.RecordFile`.

    A table's numbers become the columns `x0`, `x1`, …, as in training. Of images the table holds each one's number
    alone, from 1. The array is read whole, because it may be packed.
    """

    def __init__(self, path: Path, schema: RecordSchema) -> None:
        self._path, self._schema = path, schema
        self._records = _read(path)
        shape, kind = self._records.shape, self._records.dtype
        found = f"{path}: {ARRAY} is {kind} of shape {shape}"
        if schema.image:
            field = schema.image[0]
            shapes = (field.shape[:2], field.shape) if field.channels == 1 else (field.shape,)
            if kind != np.uint8 or shape[1:] not in shapes:
                raise FileInvalid(f"{found}; images are uint8 (n, {', '.join(map(str, shapes[0]))})")
            self.columns: list[str] = [field.name, ROW]
        else:
            if len(shape) != 2 or kind.kind not in "fiub":
                raise FileInvalid(f"{found}; a table of numbers (n, d) is expected")
            self.columns = [f"x{column}" for column in range(shape[1])]
            # Arrow has neither numbers of another byte order nor floats of more than 64 bits.
            self._records = self._records.astype("f8" if kind.itemsize > 8 else kind.newbyteorder("="), copy=False)

    def pieces(self) -> Iterator[Piece]:
        """See `RecordFile.pieces`."""
        rows, step = len(self._records), rows_of(self._schema)
        for start in range(0, max(rows, 1), step):
            some = self._records[start : start + step]
            yield self._piece(some, start + 1, min(1.0, (start + step) / max(rows, 1)))

    def _piece(self, records: npt.NDArray[Any], first: int, share: float) -> Piece:
        if self._schema.image:
            levels = records.reshape(len(records), *self._schema.image[0].shape)
            return Piece(pa.table({ROW: np.arange(first, first + len(records))}), {"image": levels}, share)
        table = pa.table({name: np.ascontiguousarray(records[:, at]) for at, name in enumerate(self.columns)})
        return Piece(table, encode_table(self._path, self._schema, table, first), share)


def _read(path: Path) -> npt.NDArray[Any]:
    try:
        # By the handle, so that a damaged file is closed, too.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile) or ARRAY not in archive.files:
                raise FileInvalid(f"{path}: has no array {ARRAY}; np.savez(path, {ARRAY}=…) writes what is expected")
            records: npt.NDArray[Any] = archive[ARRAY]
            return records
    except (BadZipFile, ValueError, EOFError) as error:
        raise FileInvalid(f"{path}: {' '.join(str(error).split())}") from error
