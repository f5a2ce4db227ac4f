"""What a request takes of memory besides its body: while that is decoded, while it waits, while it is answered."""

from bundle.contents.manifest import Manifest
from service.codecs import arrow, csv, json, ndjson
from service.engine.verdicts import COLUMNS

DECODED: dict[str, int] = {json.MEDIA_TYPE: 18, ndjson.MEDIA_TYPE: 19, csv.MEDIA_TYPE: 24, arrow.MEDIA_TYPE: 25}
"""By media type, the bound on what an honest body becomes while it is decoded, in times its size."""
VIEWED = frozenset({arrow.MEDIA_TYPE})
"""Media types whose tensors may be views of the body, which then lives as long as they do."""

_TABLE_BYTES = 8
"""A number of the table of verdicts."""
_WRITTEN: dict[str, tuple[int, int]] = {
    arrow.MEDIA_TYPE: (256, 16),
    csv.MEDIA_TYPE: (768, 48),
    json.MEDIA_TYPE: (2048, 128),
    ndjson.MEDIA_TYPE: (2048, 128),
}
"""Bytes for each record, and for each of its latent means: peaks of encoding, measured and rounded up."""
_EXPLAINED_BYTES = 2048
"""For each field of a record that is explained, in the format that takes the most."""
_PIXEL_BYTES = 24
"""For each level of an image that is explained: its surprisal, its expected value, and their files in base64."""


def of_answer(media_type: str, manifest: Manifest, records: int, *, explain: bool, compressed: bool) -> int:
    """Most bytes that the answer to a request makes this worker hold: verdicts, objects, text, and text compressed.

    Args:
        media_type: Of the answer.
        manifest: Of the model that answers.
        records: How many it is asked of.
        explain: Whether each is explained.
        compressed: Whether the answer is compressed.
    """
    fixed, by_latent = _WRITTEN[media_type]
    each = fixed + by_latent * manifest.latent_size + 2 * _TABLE_BYTES * (len(COLUMNS) + manifest.latent_size)
    if explain:
        each += _EXPLAINED_BYTES * len(manifest.record.fields)
        each += _PIXEL_BYTES * manifest.record.levels
    return records * (each + each // 8 if compressed else each)
