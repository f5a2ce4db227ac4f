"""Folders of images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from bundle.record import image_folder
from bundle.record.image_folder import FILE
from bundle.record.images import NotAnImage, from_file
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from service.files.piece import FileInvalid, Piece, rows_of


class ImageFolder:
    """Reads the PNG and JPEG files below a folder; see `service.files.source.RecordFile`.

    Their table holds each one's path below the folder, and not what can be looked at there.
    """

    def __init__(self, path: Path, schema: RecordSchema) -> None:
        match schema:
            case TableSchema():
                raise FileInvalid(f"{path}: a folder holds images, and the model's records are rows of a table")
            case ImageSchema():
                self._field = schema.field
        self._rows = rows_of(schema)
        try:
            self._files = list(image_folder.files(path).items())
        except ValueError as error:
            raise FileInvalid(str(error)) from error
        # The images are no column of the table, so that theirs may have its name.
        self.columns: list[str] = list(dict.fromkeys([self._field.name, FILE]))

    def pieces(self) -> Iterator[Piece]:
        """See `RecordFile.pieces`."""
        for start in range(0, len(self._files), self._rows):
            some = self._files[start : start + self._rows]
            levels = np.stack([self._levels(path) for _, path in some])
            share = (start + len(some)) / len(self._files)
            yield Piece(pa.table({FILE: [name for name, _ in some]}), {"image": levels}, share)

    def _levels(self, path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        try:
            return from_file(self._field, path.read_bytes())
        except NotAnImage as error:
            raise FileInvalid(f"{path}: {error}") from error
