"""Files of records, a piece at a time: CSV, Parquet and NDJSON in and out, in constant memory."""

from service.files.piece import FileInvalid, Piece
from service.files.source import SUFFIXES, RecordFile, open_records
from service.files.target import Writer, images_as_text, with_scores, writer

__all__ = [
    "SUFFIXES",
    "FileInvalid",
    "Piece",
    "RecordFile",
    "Writer",
    "images_as_text",
    "open_records",
    "with_scores",
    "writer",
]
