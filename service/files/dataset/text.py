"""Large files of text, cut into sections of whole lines, with all that is found of the file as a whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath

import pyarrow as pa

from bundle.record.schema import TableSchema
from reading import parts
from reading.errors import FileInvalid
from reading.formats import raw, section
from reading.formats.delimited import DelimitedFile
from reading.formats.dialect import Dialect
from reading.formats.ndjson import NdjsonFile
from reading.formats.section import Section
from reading.opening import TableFile, opened_part
from reading.options import Options
from reading.parts import Part
from reading.values import Forms, Values
from service.files.dataset.place import Entry, Place

_LOOKED_AT = 16
"""Sections at whose beginning numbers and timestamps are looked at, spread over the file."""


@dataclass(frozen=True)
class Text:
    """A section of a file, and what is needed to read it as a part of that file.

    Args:
        section: Which lines.
        found: How the file is taken apart: its dialect, or the schema of NDJSON.
        forms: How its numbers and timestamps are written.
    """

    section: Section
    found: Dialect | pa.Schema
    forms: Forms

    def part(self, path: Path, kind: str, place: Place) -> Part:
        """What is read.

        Args:
            path: The file, as its file system calls it.
            kind: See `reading.parts.ENDINGS`.
            place: IN.
        """
        return Part(path, kind, section=replace(self.section, filesystem=place.filesystem), found=self.found)


def cut(place: Place, entry: Entry, schema: TableSchema, options: Options, size: int) -> list[Text]:
    """The sections of a file.

    The file is read once for its encoding or, of NDJSON, for its columns, and once more for the ends of its rows.

    Args:
        place: IN.
        entry: The file.
        schema: The model's fields.
        options: What a person said of it.
        size: Bytes of a section, about.

    Returns:
        Sections in order; none where the file is to be read as a whole: because it is small, packed, of no text, or
        as `section.of_rows` says; or because it is damaged, which whoever reads it says best.

    Raises:
        OSError: It cannot be read.
    """
    path, kind = Path(place.at(entry.path)), parts.kind(Path(entry.path))
    whole = Section(0, entry.size, 0, place.filesystem)
    if entry.size <= size or kind not in ("delimited", "ndjson") or raw.packing(path, whole) is not None:
        return []
    try:
        found: Dialect | pa.Schema
        if kind == "delimited":
            found = DelimitedFile(path, options, True, whole).dialect
            with whole.open(str(path)) as stream:
                sections = section.of_rows(stream, found, size)
        else:
            found = NdjsonFile(path, options, True, whole).schema
            with whole.open(str(path)) as stream:
                sections = section.of_lines(stream, size)
        if sections is None:
            return []
        texts = [Text(each, found, Forms({}, {})) for each in sections]
        looked_at = texts[:: max(1, len(texts) // _LOOKED_AT)]
        constants = parts.constants(PurePosixPath(entry.path).parent.parts)
        pieces = [replace(each.part(path, kind, place), constants=constants) for each in looked_at]
        files = [opened_part(each, options, True) for each in pieces]
        forms = Values(schema, files[0], options).look(_first_tables(files))
    except FileInvalid:
        return []
    return [replace(each, forms=forms) for each in texts]


def _first_tables(files: Sequence[TableFile]) -> Iterator[pa.Table]:
    for file in files:
        yield from (block.table for block in islice(file.blocks(), 1))
