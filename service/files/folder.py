"""Folders of images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from bundle.record import image_folder
from bundle.record.image_folder import FILE
from bundle.record.images import FILE_FORMATS, NotAnImage, from_file
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from reading.errors import FileInvalid
from service.files.piece import Piece, rows_of


class ImageFolder:
    """Reads the image files below a folder; see `service.files.source.RecordFile`.

    Their table holds each one's path below the folder, and not what can be looked at there.

    Args:
        path: The folder.
        schema: The bundle's fields.
        skip: Whether a file that is no such image is answered by its fault, in place of the end of the run.
    """

    partly: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __init__(self, path: Path, schema: RecordSchema, skip: bool = False) -> None:
        self._skip = skip
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
        others = image_folder.passed_over(path)
        self.said: tuple[str, ...] = () if others is None else (others,)
        # The images are no column of the table, so that theirs may have its name.
        self.columns: list[str] = list(dict.fromkeys([self._field.name, FILE]))

    def pieces(self) -> Iterator[Piece]:
        """See `RecordFile.pieces`."""
        for start in range(0, len(self._files), self._rows):
            some = self._files[start : start + self._rows]
            levels = np.zeros((len(some), *self._field.shape), np.uint8)
            faults: dict[int, str] = {}
            for place, (_, path) in enumerate(some):
                try:
                    levels[place] = from_file(self._field, path.read_bytes(), FILE_FORMATS)
                except NotAnImage as error:
                    if not self._skip:
                        raise FileInvalid(f"{path}: {error}") from error
                    faults[place] = str(error)
            share = (start + len(some)) / len(self._files)
            yield Piece(pa.table({FILE: [name for name, _ in some]}), {"image": levels}, share, faults)
