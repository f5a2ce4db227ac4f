"""A file of records to read."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from bundle.record import image_folder
from bundle.record.schema import RecordSchema
from reading import parts
from reading.opening import opened
from reading.options import Options
from service.files.folder import ImageFolder
from service.files.npz import NpzFile
from service.files.piece import Piece
from service.files.table import TableRecords


class RecordFile(Protocol):
    """Reads a file of records."""

    columns: list[str]
    """Its columns, in order."""

    @property
    def partly(self) -> Sequence[str]:
        """Columns that some of several files lack."""

    @property
    def said(self) -> Sequence[str]:
        """How it was read where a reader could expect otherwise, in words."""

    @property
    def notes(self) -> Sequence[str]:
        """How columns were read where a reader could expect otherwise, in words; complete when all pieces are there."""

    @property
    def skipped(self) -> Sequence[str]:
        """What could not be taken apart and was passed over, in words; complete when all pieces are there."""

    def pieces(self) -> Iterator[Piece]:
        """All its rows, in order; at least one piece, which holds no row if the file does not.

        Raises:
            FileInvalid: Damaged, or values that do not fit their fields, named by file, row or line, and column.
            OSError: It cannot be read.
        """


@contextlib.contextmanager
def open_records(
    path: Path, schema: RecordSchema, options: Options | None = None, skip: bool = False, typed: bool = True
) -> Iterator[RecordFile]:
    """Open a file of records, or a folder of images.

    Args:
        path: A table in any form that `reading.parts` lists, `-` for standard input, an npz file, or a folder of
            images. Columns that are no field are carried along.
        schema: The bundle's fields.
        options: What a person said of how it is written.
        skip: Whether a row that does not fit is answered by its fault, in place of the end of the run.
        typed: Whether cells of text are given as the numbers and flags that their fields take them for.

    Raises:
        FileInvalid: Damaged, empty, of another kind, or with two columns of one name.
        OSError: It cannot be read.
    """
    if path.is_dir() and image_folder.holds_images(path):
        yield ImageFolder(path, schema, skip)
    elif path.suffix.lower() == ".npz":
        yield NpzFile(path, schema, skip)
    elif str(path) == parts.STANDARD_INPUT:
        with parts.received() as received:
            yield TableRecords(opened(received, options, skip), schema, options or Options(), skip, typed)
    else:
        yield TableRecords(opened(path, options, skip), schema, options or Options(), skip, typed)
