"""NDJSON: an object a line, whose members need be neither the same nor of one type."""

import codecs
import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from reading.block import Block
from reading.errors import FileInvalid
from reading.formats import raw
from reading.formats.section import Section
from reading.options import Options

AS_JSON = {b"written": b"json"}
"""Metadata of a column of text whose cells are JSON: numbers of any size, nested values, several types by turns."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ROWS = 8192
_LONG = re.compile(rb"\d{19}")
"""Digits that may be more than orjson keeps: it makes a float of a whole number beyond 64 bits."""
_UNKNOWN = re.compile(r"NaN|Infinity")
"""What Python's JSON has and JSON has not; within texts it may stand."""
_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)
_EXACT = range(-(2**53), 2**53 + 1)
_Kinds = set[str]


class NdjsonFile:
    """Reads an NDJSON file; see `reading.opening.TableFile`.

    The file is read twice: once for its columns and their types, once for its rows. Blank lines are passed over.

    Args:
        path: The file.
        options: Nothing of it is looked at: JSON says by itself how it is written.
        skip: Whether lines that are no JSON object are passed over, and counted.
        section: What of the file is read; None for all.
        schema: That of the whole file, where a section of its lines is read: then it is read once.
    """

    comma_likely: bool = False
    is_text: bool = False

    def __init__(
        self,
        path: Path,
        options: Options,
        skip: bool = False,
        section: Section | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        del options
        self._path, self._skip, self._section = path, skip, section
        self.skipped: list[str] = []
        self.said: tuple[str, ...] = ()
        if schema is not None:
            self.schema = schema
            return
        _refuse_other_encodings(path, section)
        kinds: dict[str, _Kinds] = {}
        for _, objects, _ in self._lines():
            for each in objects:
                for name, value in each.items():
                    kinds.setdefault(name, set()).add(_kind(value))
        if not kinds:
            raise FileInvalid(f"{path}: holds no rows")
        self.schema = pa.schema([_field(name, found) for name, found in kinds.items()])
        packed = raw.packing(path, section)
        self.said = (packed,) if packed else ()

    def blocks(self) -> Iterator[Block]:
        """See `TableFile.blocks`."""
        for numbers, objects, share in self._lines():
            columns = [_column(field, [each.get(field.name) for each in objects]) for field in self.schema]
            yield Block(pa.table(columns, schema=self.schema), str(self._path), numbers, "line", share)

    def _lines(self) -> Iterator[tuple[Sequence[int], list[dict[str, Any]], float]]:
        """Numbers of lines and their objects, some at a time, and how much of the file has been read."""
        self.skipped = []
        before = 0 if self._section is None else self._section.before
        with raw.opened(self._path, self._section) as unpacked:
            lines = enumerate(unpacked.stream, start=1 + before)
            while some := list(islice(lines, _ROWS)):
                numbers, objects = [], []
                for number, line in some:
                    found = None if line.isspace() else self._object(number, line)
                    if found is not None:
                        numbers.append(number)
                        objects.append(found)
                if objects:
                    yield numbers, objects, unpacked.share

    def _object(self, number: int, line: bytes) -> dict[str, Any] | None:
        """The object of a line; None where there is none, and that is passed over."""
        try:
            content = _parsed(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line)
        except (ValueError, RecursionError) as error:
            self._pass_over(f"line {number} is not JSON: {' '.join(str(error).split())}")
            return None
        if not isinstance(content, dict):
            self._pass_over(f"line {number} is not an object")
            return None
        return content

    def _pass_over(self, what: str) -> None:
        if not self._skip:
            raise FileInvalid(f"{self._path}: {what}")
        self.skipped.append(what)


def _refuse_other_encodings(path: Path, section: Section | None) -> None:
    with raw.opened(path, section) as unpacked:
        start = unpacked.stream.read(2)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise FileInvalid(f"{path}: is UTF-16, and JSON is UTF-8: iconv -f UTF-16 -t UTF-8 {path.name}")


def _parsed(line: bytes) -> Any:
    if not _LONG.search(line):
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(line)
    # Python's programs write NaN, which JSON has not.
    content = json.loads(line)
    if b"\\u" in line:
        try:
            json.dumps(content, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a sign of two halves has one of them alone") from error
    return content


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            if value in _EXACT:
                return "int"
            return "int64" if value in _INT64 else "uint64" if value in _UINT64 else "json"
        case float():
            return "float"
        case str():
            return "text"
        case _:
            return "json"


_TYPES: tuple[tuple[_Kinds, pa.DataType], ...] = (
    (set(), pa.null()),
    ({"bool"}, pa.bool_()),
    ({"int", "int64"}, pa.int64()),
    ({"int", "float"}, pa.float64()),
    ({"text"}, pa.string()),
)


def _field(name: str, found: _Kinds) -> pa.Field:
    kinds = found - {"null"}
    for those, kind in _TYPES:
        if kinds <= those:
            return pa.field(name, kind)
    if kinds == {"uint64"}:
        return pa.field(name, pa.uint64())
    return pa.field(name, pa.string(), metadata=AS_JSON)


def in_json(column: pa.ChunkedArray) -> pa.Array:
    """The cells of any column as JSON, as `AS_JSON` marks it.

    Args:
        column: (n,) numbers, flags or text.
    """
    return _json(column.to_pylist())


def _json(values: Sequence[Any]) -> pa.Array:
    return pa.array((None if value is None else _cell(value) for value in values), pa.string())


def _cell(value: object) -> str:
    # What JSON has no type for is written as text, as dates are.
    text = json.dumps(value, ensure_ascii=False, default=str)
    if not _UNKNOWN.search(text):
        return text
    # It has no number that is not finite either.
    finite = json.loads(text, parse_constant=lambda mark: None if mark == "NaN" else mark)
    return json.dumps(finite, ensure_ascii=False)


def _column(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    if field.metadata == AS_JSON:
        return _json(values)
    if field.type == pa.float64():
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, field.type)
