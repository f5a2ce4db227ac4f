"""Where a body is decoded: on the event loop if that is quick, else on a thread, so that other requests go on."""

from bundle.fields import RecordSchema

THREAD_BYTES = 2**17
"""Bodies of tables above this are decoded on a thread."""
IMAGE_THREAD_BYTES = 2**14
"""The same of images: a file takes a tenth of a millisecond, however small."""


def takes_long(schema: RecordSchema, size: int) -> bool:
    """Whether a body of so many bytes is decoded on a thread.

    Args:
        schema: The model's fields.
        size: Of the body, inflated.
    """
    return size > (IMAGE_THREAD_BYTES if schema.image else THREAD_BYTES)
