"""Files of records, a piece at a time: tables in and out in constant memory, npz and images in."""

from reading.errors import FileInvalid
from service.files.piece import Piece
from service.files.selection import ColumnsRefused, Selection
from service.files.source import RecordFile, open_records
from service.files.target import STANDARD_OUTPUT, WRITABLE, Writer, images_as_text, writer

__all__ = [
    "STANDARD_OUTPUT",
    "WRITABLE",
    "ColumnsRefused",
    "FileInvalid",
    "Piece",
    "RecordFile",
    "Selection",
    "Writer",
    "images_as_text",
    "open_records",
    "writer",
]
