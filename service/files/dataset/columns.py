"""The columns of a file, as far as its beginning tells them."""

from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet

from reading import parts
from reading.errors import FileInvalid
from reading.formats import raw
from reading.formats.delimited import DelimitedFile
from reading.formats.section import Section
from reading.options import Options
from service.files.dataset.place import Entry, Place

_HEAD = 2**20


def of(place: Place, entry: Entry, options: Options) -> list[str] | None:
    """The names of a file's columns, in order, and those that its folders give.

    Args:
        place: IN.
        entry: The file.
        options: What a person said of how files are written.

    Returns:
        The names; None where they are not known before all of it is read, or it is damaged, which is said later.

    Raises:
        OSError: It cannot be read.
    """
    path = place.at(entry.path)
    constants = [*parts.constants(PurePosixPath(entry.path).parent.parts)]
    try:
        match parts.kind(Path(entry.path)):
            case "parquet":
                return [*pyarrow.parquet.read_schema(path, filesystem=place.filesystem).names, *constants]
            case "delimited":
                names = _of_delimited(path, place, entry, options)
                return None if names is None else [*names, *constants]
    except (FileInvalid, pa.ArrowException):
        return None
    return None


def _of_delimited(path: str, place: Place, entry: Entry, options: Options) -> list[str] | None:
    beginning = Section(0, min(entry.size, _HEAD), 0, place.filesystem)
    if raw.packing(Path(path), beginning) is not None:
        return None
    with beginning.open(path) as stream:
        lines = stream.read().rfind(b"\n") + 1
    names: list[str] = DelimitedFile(Path(path), options, True, Section(0, lines, 0, place.filesystem)).schema.names
    return names
