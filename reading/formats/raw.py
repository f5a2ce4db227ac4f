"""The bytes of a file, unpacked where it is packed."""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from reading.errors import FileInvalid
from reading.formats.section import Section

PACKED = (".gz", ".bz2", ".zst", ".xz", ".zip")
"""Endings of packed files; which of them a file is, its first bytes say."""
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
}
_CHUNK = 2**20
_SAMPLE = 4096
_WIDE = 0.2
"""Share of zero bytes from which letters have two of them; a single one is a fault of the file."""
_WESTERN = 0.4
"""Most letters beyond ASCII, as a share of all, in a text of Europe's west."""
_MOSTLY = 10
"""Letters beyond ASCII that are UTF-8 for one that is not, from which on a file is UTF-8 and damaged."""
_WIDER = ["utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be", "utf_7"]
"""Encodings of which a file without zero bytes has none."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BROKEN = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def packing(path: Path, section: Section | None = None) -> str | None:
    """How a file, or a section of it, is packed, by its first bytes; None if it is not."""
    with path.open("rb") if section is None else section.open(str(path)) as file:
        start = file.read(8)
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)


class Unpacked:
    """A file's bytes as they are read.

    Args:
        stream: Gives them.
        file: What lies on the disk.
        size: Bytes that lie there.
    """

    def __init__(self, stream: IO[bytes], file: IO[bytes], size: int) -> None:
        self.stream = stream
        self._file = file
        self._size = max(1, size)

    @property
    def share(self) -> float:
        """How much of the file has been read, 0 to 1."""
        return min(1.0, self._file.tell() / self._size)


@contextlib.contextmanager
def opened(path: Path, section: Section | None = None) -> Iterator[Unpacked]:
    """Open a file, unpacked where it is packed; or a section of it, which is not.

    Raises:
        FileInvalid: Damaged, or an archive of several files.
        OSError: It cannot be read.
    """
    if section is not None:
        with section.open(str(path)) as stream:
            yield Unpacked(stream, stream, section.stop - section.start)
        return
    try:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            yield Unpacked(_stream(path, file, stack), file, path.stat().st_size)
    except _BROKEN as error:
        raise FileInvalid(f"{path}: the packed file is damaged or cut off: {error}") from error
    except OSError as error:
        # Of a broken archive bz2 and zstd say the same as of a disk, but for its number.
        if error.errno is not None:
            raise
        raise FileInvalid(f"{path}: the packed file is damaged or cut off: {error}") from error


def encoding(path: Path, section: Section | None = None) -> tuple[str, bool]:
    """The encoding of a text file, and whether that is a guess.

    All of it is read: most files are ASCII for long before the first letter that tells encodings apart.

    Raises:
        FileInvalid: Damaged, or UTF-8 but for few bytes.
        OSError: It cannot be read.
    """
    with opened(path, section) as unpacked:
        file = unpacked.stream
        start = file.read(_CHUNK)
        for mark, name in _BOMS:
            if start.startswith(mark):
                return name, False
        odd, even = start[1:_SAMPLE:2].count(0), start[0:_SAMPLE:2].count(0)
        if max(odd, even) > _WIDE * len(start[:_SAMPLE]):
            return ("utf-16-le" if odd > even else "utf-16-be"), True
        decoder, chunk, several = codecs.getincrementaldecoder("utf-8")(), start, 0
        try:
            while chunk:
                several += len(chunk) - len(decoder.decode(chunk))
                chunk = file.read(_CHUNK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            text = chunk.decode("utf-8", "replace")
            wrong = max(1, text.count("\ufffd"))
            if several + sum(letter > "\x7f" for letter in text) > _MOSTLY * wrong:
                raise FileInvalid(
                    f"{path}: is UTF-8, but for bytes as 0x{error.object[error.start]:02x}: it is cut off or damaged; "
                    f"leave them out (iconv -c -f UTF-8 -t UTF-8 {path.name}), or say the encoding"
                ) from error
            return _of_eight_bits(chunk), True
    return "utf-8", False


def _of_eight_bits(chunk: bytes) -> str:
    """What text that is no UTF-8 is most likely written in."""
    from charset_normalizer import from_bytes

    # Lines with letters beyond ASCII tell, and few are enough.
    lines = [line for line in chunk.splitlines() if not line.isascii()][:200]
    text = b"\n".join(lines)
    try:
        text.decode("windows-1252")
    except UnicodeDecodeError:
        pass
    else:
        share = sum(byte >= 0xC0 for byte in text) / max(1, sum(chr(byte).isalpha() or byte >= 0xC0 for byte in text))
        # In alphabets of Europe's west most letters are ASCII.
        if share < _WESTERN:
            return "windows-1252"
    found = from_bytes(text, cp_exclusion=_WIDER).best()
    return "windows-1252" if found is None else found.encoding


def _stream(path: Path, file: IO[bytes], stack: contextlib.ExitStack) -> Any:
    match packing(path):
        case None:
            return file
        case "gzip":
            return stack.enter_context(gzip.GzipFile(fileobj=file))
        case "bzip2":
            return stack.enter_context(bz2.open(file))
        case "xz":
            return stack.enter_context(lzma.open(file))
        case "zstd":
            unpacked = stack.enter_context(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"))
            return stack.enter_context(io.BufferedReader(unpacked))
        case _:
            return stack.enter_context(stack.enter_context(zipfile.ZipFile(file)).open(only_member(path)))


def only_member(path: Path) -> str:
    """The name of the only file in a zip archive.

    Raises:
        FileInvalid: There is none, or more than one, or it is damaged.
        OSError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise FileInvalid(f"{path}: the packed file is damaged or cut off: {error}") from error
    members = [each for each in names if not each.endswith("/") and not each.startswith("__MACOSX/")]
    if len(members) != 1:
        raise FileInvalid(f"{path}: holds {len(members)} files: {', '.join(members[:5])}; unpack the one that you mean")
    return members[0]
