"""The unit of work: some row groups or lines of a file, or all of it, and the file that its scores go to."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet

from bundle.record.schema import RecordSchema, TableSchema
from reading import parts
from reading.errors import FileInvalid
from reading.options import Options
from reading.parts import Part
from service.files.dataset import text
from service.files.dataset.place import Entry, Place
from service.files.dataset.text import Text

ROWS = 2**19
"""Rows after which a shard ends with its row group: some seconds of work, and some ten MiB of scores."""
BYTES = 2**26
"""Bytes of text after which a shard ends with its row: some hundred thousand rows."""
_DIGITS = 16


@dataclass(frozen=True)
class Shard:
    """Rows of one file.

    Args:
        path: The file, below IN.
        size: Bytes of the file.
        changed: When the file was written, in nanoseconds since 1970.
        first: The first row group, or of text the place among the sections; 0 where the file is one shard.
        groups: How many row groups; 0 for a file that has none.
        rows: How many rows; None where nobody knows before they are read.
        key: Digest of the plan, the file as it stood, and the row groups or bytes.
        text: Which lines of a file of text; None for all.
    """

    path: str
    size: int
    changed: int
    first: int
    groups: int
    rows: int | None
    key: str
    text: Text | None = None

    @property
    def target(self) -> str:
        """The file of its scores, below OUT; in order of name as the rows are in IN."""
        return f"{self.path}.{self.first:05d}-{self.key}.parquet"

    def part(self, place: Place) -> Part:
        """What is read of it.

        Args:
            place: IN.
        """
        groups = range(self.first, self.first + self.groups) if self.groups else None
        folders = PurePosixPath(self.path).parent.parts
        path = Path(place.at(self.path))
        kind = parts.kind(Path(self.path))
        assert kind is not None  # the source left out all others
        if self.text is not None:
            return replace(self.text.part(path, kind, place), constants=parts.constants(folders))
        filesystem = None if place.is_local else place.filesystem
        return Part(path, kind, parts.constants(folders), groups, filesystem)


def cut(place: Place, entry: Entry, plan: str, schema: RecordSchema, options: Options) -> Iterator[Shard]:
    """The shards of a file, in order; the same whoever cuts it, and wherever.

    Args:
        place: IN.
        entry: The file.
        plan: Digest of what is asked.
        schema: The model's fields.
        options: What a person said of how files are written.

    Raises:
        FileInvalid: A Parquet file that is damaged.
        OSError: It cannot be read.
    """
    if parts.kind(Path(entry.path)) != "parquet":
        # Images are few, and each of them takes long.
        texts = text.cut(place, entry, schema, options, BYTES) if isinstance(schema, TableSchema) else []
        for index, each in enumerate(texts):
            key = _key(plan, entry, each.section.start, each.section.stop)
            yield Shard(*entry, index, 0, None, key, each)
        if not texts:
            yield Shard(*entry, 0, 0, None, _key(plan, entry, 0, 0))
        return
    first, rows = 0, 0
    sizes = _row_groups(place, entry)
    for group, size in enumerate(sizes):
        rows += size
        if rows >= ROWS or group == len(sizes) - 1:
            groups = group + 1 - first
            yield Shard(*entry, first, groups, rows, _key(plan, entry, first, groups))
            first, rows = group + 1, 0
    if not sizes:
        yield Shard(*entry, 0, 0, 0, _key(plan, entry, 0, 0))


def _row_groups(place: Place, entry: Entry) -> list[int]:
    """How many rows each has."""
    try:
        found = pyarrow.parquet.read_metadata(place.at(entry.path), filesystem=place.filesystem)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise FileInvalid(f"{place.named(entry.path)}: damaged, its footer cannot be read: {reason}") from error
    return [found.row_group(group).num_rows for group in range(found.num_row_groups)]


def _key(plan: str, entry: Entry, start: int, stop: int) -> str:
    said = json.dumps([plan, entry.path, entry.size, entry.changed, start, stop])
    return hashlib.sha256(said.encode()).hexdigest()[:_DIGITS]
