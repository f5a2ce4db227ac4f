"""Where bodies are decoded and answers encoded: on the event loop if that is quick, else on a thread."""

from bundle.record.schema import ImageSchema, RecordSchema, TableSchema

THREAD_BYTES = 2**17
"""Bodies of tables above this are decoded on a thread."""
IMAGE_THREAD_BYTES = 2**14
"""The same of images: a file takes a tenth of a millisecond, however small."""

THREAD_RECORDS = 1024
"""Answers of more records are encoded on a thread."""
THREAD_RECORDS_COMPRESSED = THREAD_RECORDS // 4
"""The same of answers that are compressed."""


def takes_long(schema: RecordSchema, size: int) -> bool:
    """Whether a body of so many bytes is decoded on a thread.

    Args:
        schema: The model's fields.
        size: Of the body, inflated.
    """
    match schema:
        case ImageSchema():
            return size > IMAGE_THREAD_BYTES
        case TableSchema():
            return size > THREAD_BYTES


def encoding_takes_long(records: int, *, compressed: bool, explained: bool) -> bool:
    """Whether an answer is encoded on a thread.

    Args:
        records: How many it is about.
        compressed: Whether it is compressed.
        explained: Whether each is explained, which always takes long.
    """
    return explained or records > (THREAD_RECORDS_COMPRESSED if compressed else THREAD_RECORDS)
