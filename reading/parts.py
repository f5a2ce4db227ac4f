"""Which files a path means: one, a folder of parts, those that a pattern names, or standard input."""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from reading.errors import FileInvalid, NotRead
from reading.formats import raw
from reading.formats.section import Section

STANDARD_INPUT = "-"
ENDINGS = {
    ".csv": "delimited",
    ".tsv": "delimited",
    ".tab": "delimited",
    ".psv": "delimited",
    ".txt": "delimited",
    ".dat": "delimited",
    ".data": "delimited",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
"""What the endings of files mean, in any case; behind each of text one of `raw.PACKED` may stand."""
_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
_EMPTY_PARTITION = "__HIVE_DEFAULT_PARTITION__"
LOOSE = (".txt", ".dat", ".data")
"""Beside other files these are notes and not records."""


@dataclass(frozen=True)
class Part:
    """A file of a table.

    Args:
        path: Where it lies.
        kind: One of the values of `ENDINGS`.
        constants: Columns that its folders name, as `day=2026-01-05` does; None where one is empty.
        groups: Of a Parquet file, which of its row groups; None for all.
        filesystem: Of pyarrow, where the path is; None for this machine's. Parquet and sections are read elsewhere.
        section: Of a file of text, which of its lines; None for all.
        found: Where it is a section, what was found of the whole file: its `Dialect`, or the schema of NDJSON.
    """

    path: Path
    kind: str
    constants: dict[str, str | None] = field(default_factory=dict)
    groups: range | None = None
    filesystem: Any = None
    section: Section | None = None
    found: Any = None


def kind(path: Path) -> str | None:
    """What a file's name says that it holds; None where it says nothing that is known here."""
    ending = path.suffix.lower()
    if ending == ".zip" and Path(path.stem).suffix.lower() not in ENDINGS and path.is_file():
        return _inside(path)
    if ending in raw.PACKED:
        inner = ENDINGS.get(Path(path.stem).suffix.lower())
        return inner if inner in ("delimited", "ndjson") else None
    return ENDINGS.get(ending)


def _inside(archive: Path) -> str | None:
    """What the name of an archive's only member says."""
    try:
        name = raw.only_member(archive)
    except FileInvalid as error:
        raise NotRead(str(error)) from error
    inner = ENDINGS.get(Path(name).suffix.lower())
    return inner if inner in ("delimited", "ndjson") else None


def parts(path: Path) -> list[Part]:
    """The files that a path means, in order.

    Args:
        path: A file, a folder of files, or a pattern as `day-*.csv`.

    Raises:
        NotRead: There is none, or one is of a kind that is not read; says what to do.
        OSError: A folder cannot be read.
    """
    if path.is_dir():
        return _below(path)
    if path.exists() or not has_magic(str(path)):
        if not path.exists():
            raise NotRead(f"{path}: there is no such file or folder")
        return [Part(path, _required(path))]
    found = sorted(map(Path, glob(str(path), recursive=True)), key=_by_number)  # noqa: PTH207
    files = [each for each in found if each.is_file() and not is_hidden(each.name)]
    if not files:
        raise NotRead(f"{path}: no file has such a name")
    named = [has_magic(part) for part in path.parts].index(True)
    # Programs that write in parallel leave parts without a byte.
    filled = [each for each in files if each.stat().st_size] or files
    return _of_one_kind(path, [Part(each, _required(each), constants(each.parts[named:-1])) for each in filled])


def root(path: Path) -> Path | None:
    """The folder below which the files of a path have their names; None of a single file.

    Args:
        path: See `parts`.
    """
    if path.is_dir():
        return path
    if path.exists():
        return None
    fixed = [has_magic(part) for part in path.parts].index(True)
    return Path(*path.parts[:fixed])


@contextmanager
def received() -> Iterator[Path]:
    """Standard input as a file with an ending that its first bytes tell; it is gone afterwards.

    Raises:
        NotRead: There is nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        received_, path = Path(folder) / "received", Path(folder) / "standard input"
        with received_.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with raw.opened(received_) as unpacked, path.open("wb") as file:
            shutil.copyfileobj(unpacked.stream, file)
        with path.open("rb") as file:
            start = file.read(2**12)
        if not start.strip():
            raise NotRead("standard input holds nothing")
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith(b"PAR1"):
            ending = ".parquet"
        elif start.startswith((b"ARROW1", b"FEA1", b"\xff\xff\xff\xff")):
            ending = ".arrow"
        else:
            ending = ".ndjson" if text.startswith(b"{") else ".csv"
        try:
            yield path.rename(path.with_name(f"standard input{ending}"))
        except FileInvalid as error:
            # Where it was kept is nobody's business.
            raise type(error)(str(error).replace(f"{folder}/", "")) from error


def _required(path: Path) -> str:
    found = kind(path)
    if found is not None:
        return found
    ending = path.suffix.lower()
    if ending in _WORKBOOKS:
        raise NotRead(
            f"{path}: workbooks are not read; save the sheet as CSV, or in Python: "
            f"pandas.read_excel({path.name!r}).to_parquet({path.stem + '.parquet'!r})"
        )
    if ending == ".json":
        raise NotRead(
            f"{path}: JSON is read line by line, an object a line; save it so: jq -c '.[]' {path.name} > "
            f"{path.stem}.ndjson"
        )
    expected = "a file that ends in .csv, .tsv, .parquet, .ndjson, .jsonl, .arrow, .feather or .npz"
    raise NotRead(f"{path}: {expected}, text packed as .gz, .bz2, .zst, .xz or .zip, or a folder is expected")


def _below(folder: Path) -> list[Part]:
    found: list[Part] = []
    for path in sorted(folder.rglob("*"), key=_by_number):
        inside = path.relative_to(folder)
        if not path.is_file() or any(map(is_hidden, inside.parts)):
            continue
        known = kind(path)
        # Programs that write in parallel leave parts without a byte.
        if known is not None and path.stat().st_size:
            found.append(Part(path, known, constants(inside.parts[:-1])))
    named = [each for each in found if each.path.suffix.lower() not in LOOSE]
    if not (named or found):
        raise NotRead(f"{folder}: holds no file that ends in {', '.join(ENDINGS)}, nor any image")
    return _of_one_kind(folder, named or found)


def _of_one_kind(path: Path, found: list[Part]) -> list[Part]:
    kinds = {each.kind: each.path for each in found}
    if len(kinds) > 1:
        first, second = list(kinds.values())[:2]
        raise NotRead(f"{path}: holds files of several kinds, as {first.name} and {second.name}; name one kind")
    return found


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sorts part-2 before part-10."""
    return [(int(part or 0), text) for text, part in re.findall(r"([^\d]*)(\d*)", str(path))]


def is_hidden(name: str) -> bool:
    """Whether a name is that of what programs keep for themselves, as `_SUCCESS` and `.part-0.crc` are."""
    return name.startswith((".", "_")) and "=" not in name


def constants(folders: tuple[str, ...]) -> dict[str, str | None]:
    """The columns that folders name, as `day=2026-01-05` does.

    Args:
        folders: Names, from the outermost to the one that a file lies in.
    """
    pairs = [folder.partition("=") for folder in folders if "=" in folder]
    return {name: None if value == _EMPTY_PARTITION else unquote(value) for name, _, value in pairs}
