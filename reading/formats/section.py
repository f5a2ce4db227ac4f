"""Whole lines of a file of text: cut where rows end, so that each section can be read alone."""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any

from reading.formats.dialect import Dialect

_READ = 2**23
"""Bytes that are looked at together; a row that is longer is read by nobody."""
_BUFFER = 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\n|\r(?=[^\n]))")


@dataclass(frozen=True)
class Section:
    """Some lines of a file.

    Args:
        start: The first byte.
        stop: The byte behind the last one.
        before: Rows of the file that stand before it, blank ones and header left out; of NDJSON all lines.
        filesystem: Of pyarrow, where the file is.
    """

    start: int
    stop: int
    before: int
    filesystem: Any = None

    def open(self, path: str) -> IO[bytes]:
        """Its bytes alone.

        Args:
            path: Of the file, as its file system calls it.

        Raises:
            OSError: It cannot be read.
        """
        return io.BufferedReader(_Bytes(self.filesystem.open_input_file(path), self.start, self.stop), _BUFFER)


class _Bytes(io.RawIOBase):
    """Some bytes of a file, as if they were all of it.

    Args:
        file: Of pyarrow.
        start: The first byte.
        stop: The byte behind the last one.
    """

    def __init__(self, file: Any, start: int, stop: int) -> None:
        self._file, self._start, self._at, self._stop = file, start, start, stop

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes, and say how many there were."""
        found = self._file.read_at(min(len(buffer), self._stop - self._at), self._at)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def tell(self) -> int:
        """How many have been read."""
        return self._at - self._start

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


@dataclass(frozen=True)
class _Rows:
    """Complete rows at the beginning of some bytes.

    Args:
        count: How many, blank ones left out.
        end: The byte behind them.
    """

    count: int
    end: int


def is_bytewise(encoding: str) -> bool:
    """Whether a byte below 128 is that letter of ASCII wherever it stands, as in UTF-8 and windows-1252.

    In UTF-16 and Shift JIS a letter may hold the byte of a line break or of a delimiter; in ISO 2022 some bytes say
    what those behind them mean.
    """
    for byte in range(128):
        if bytes([byte]).decode(encoding, "ignore") != chr(byte):
            return False
    for byte in range(256):
        text = bytes([byte, 0x41]).decode(encoding, "replace")
        if len(text) != 2 or text[1] != "A" or (byte < 128 and text[0] != chr(byte)):
            return False
    return True


def of_rows(stream: IO[bytes], dialect: Dialect, size: int) -> list[Section] | None:
    """The sections of a file of delimited text, without its header.

    A line break ends a row unless it stands in a quoted cell, and a quote opens such a cell only at the cell's
    beginning: whether it does depends on all that stands before. So all of the file is looked at, in order, with the
    grammar by which pyarrow takes it apart (`BlockParser` in its csv/parser.cc): a cell is a quoted text, in which
    quotes are doubled, and whatever follows until a delimiter or a line end; or text that begins without a quote.

    Args:
        stream: The file's bytes, from the first on.
        dialect: How it is written.
        size: Bytes after which a section ends with its row.

    Returns:
        Sections in order, which have all rows; None where it cannot be cut: escaped quotes, letters in which other
        bytes hide, a header or a row longer than some MiB, or one section alone.
    """
    if dialect.escape is not None or not dialect.delimiter.isascii() or not is_bytewise(dialect.encoding):
        return None
    quote, delimiter = dialect.quote.encode(), dialect.delimiter.encode()
    row = _row(quote, delimiter)
    head = stream.read(_READ)
    at = len(_BYTE_ORDER_MARK) if head.startswith(_BYTE_ORDER_MARK) else 0
    for pattern in [_LINE] * dialect.before + [row] * dialect.after:
        found = pattern.match(head, at)
        if found is None:
            return None
        at = found.end()
    return _sections(stream, head[at:], at, size, lambda text: _rows(text, row, quote))


def of_lines(stream: IO[bytes], size: int) -> list[Section] | None:
    """The sections of a file of NDJSON, whose line breaks are all ends of lines.

    Args:
        stream: The file's bytes, from the first on.
        size: Bytes after which a section ends with its line.

    Returns:
        Sections in order; None where a line is longer than some MiB, or there is one section alone.
    """
    return _sections(stream, b"", 0, size, lambda text: _Rows(text.count(b"\n"), text.rfind(b"\n") + 1))


def _sections(
    stream: IO[bytes], head: bytes, start: int, size: int, rows: Callable[[bytes], _Rows]
) -> list[Section] | None:
    found: list[Section] = []
    held, before, within, at = b"", 0, 0, start
    for text in _texts(stream, head, min(_READ, max(1, size // 8))):
        held += text
        complete = rows(held)
        held, within, at = held[complete.end :], within + complete.count, at + complete.end
        if len(held) > _READ:
            return None
        if at - start >= size and within:
            found.append(Section(start, at, before))
            start, before, within = at, before + within, 0
    stop = at + len(held)
    if within or held.strip():
        found.append(Section(start, stop, before))
    elif found:
        found[-1] = replace(found[-1], stop=stop)
    return found if len(found) > 1 else None


def _texts(stream: IO[bytes], head: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(head), size):
        yield head[start : start + size]
    while text := stream.read(size):
        yield text


def _row(quote: bytes, delimiter: bytes) -> re.Pattern[bytes]:
    q, d = re.escape(quote), re.escape(delimiter)
    cell = rb"(?:%b[^%b]*+(?:%b%b[^%b]*+)*+%b|(?!%b))[^%b\r\n]*+" % (q, q, q, q, q, q, q, d)
    return re.compile(rb"%b(?:%b%b)*+(?:\r\n|\n|\r(?=[^\n]))" % (cell, d, cell))


def _rows(text: bytes, row: re.Pattern[bytes], quote: bytes) -> _Rows:
    if quote not in text:
        end = max(text.rfind(b"\n"), text.rfind(b"\r", 0, len(text) - 1)) + 1
        return _Rows(_filled(text[:end]), end)
    count = at = 0
    while found := row.match(text, at):
        count += text[at] not in b"\r\n"
        at = found.end()
    return _Rows(count, at)


def _filled(text: bytes) -> int:
    """How many lines are not empty."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    empty = int(text.startswith(b"\n"))
    if b"\n\n" in text:
        empty += len(re.findall(rb"(?<=\n)\n", text))
    return text.count(b"\n") - empty
