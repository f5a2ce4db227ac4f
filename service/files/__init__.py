"""Files of records, a piece at a time: CSV, Parquet and NDJSON in and out in constant memory, npz and images in."""

from service.files.piece import FileInvalid, Piece
from service.files.source import READABLE, RecordFile, open_records
from service.files.target import WRITABLE, Writer, images_as_text, with_scores, writer

__all__ = [
    "READABLE",
    "WRITABLE",
    "FileInvalid",
    "Piece",
    "RecordFile",
    "Writer",
    "images_as_text",
    "open_records",
    "with_scores",
    "writer",
]
