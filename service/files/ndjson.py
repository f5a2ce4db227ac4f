"""NDJSON files of records: an object a line."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from bundle.errors import InvalidRecords
from bundle.record.fields import BooleanField, CategoricalField, NumericField
from bundle.record.records import category_text, encode_records
from bundle.record.schema import ImageSchema, RecordSchema
from service.files.piece import FileInvalid, Piece, at_row, rows_of

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TYPES: dict[type, pa.DataType] = {NumericField: pa.float64(), BooleanField: pa.bool_(), CategoricalField: pa.string()}
"""Of the fields of tables; an image is text or nested numbers."""


class NdjsonFile:
    """Reads an NDJSON file; see `service.files.source.RecordFile`.

    Lines need not have the same members, so the file is read twice: once for its columns and their types, once for
    its rows. Blank lines are passed over.
    """

    def __init__(self, path: Path, schema: RecordSchema) -> None:
        self._path, self._schema = path, schema
        fields = {field.name: _TYPES.get(type(field)) for field in schema.fields}
        merged = pa.schema([])
        for numbered, _ in self._lines():
            names = dict.fromkeys(name for _, each in numbered for name in each)
            seen = [(name, fields.get(name) or self._type(name, numbered)) for name in names]
            try:
                merged = pa.unify_schemas([merged, pa.schema(seen)], promote_options="permissive")
            except pa.ArrowException as error:
                raise FileInvalid(f"{path}: up to line {numbered[-1][0]}, {error}") from error
        if not merged.names:
            raise FileInvalid(f"{path}: holds no rows")
        self._types = pa.schema([(each.name, pa.string() if each.type == pa.null() else each.type) for each in merged])
        self.columns: list[str] = list(self._types.names)

    def pieces(self) -> Iterator[Piece]:
        """See `RecordFile.pieces`."""
        for numbered, share in self._lines():
            records = [{name: each[name] for name in each if self._schema.takes(name)} for _, each in numbered]
            try:
                tensors = encode_records(self._schema, records)
            except InvalidRecords as error:
                raise at_row(self._path, error, f"line {numbered[error.problems[0].row][0]}") from error
            yield Piece(self._table([each for _, each in numbered]), tensors, share)

    def _lines(self) -> Iterator[tuple[list[tuple[int, dict[str, Any]]], float]]:
        """Numbered objects, some at a time, and how much of the file has been read."""
        total, done = max(1, self._path.stat().st_size), 0
        with self._path.open("rb") as file:
            lines = enumerate(file, start=1)
            while some := list(islice(lines, rows_of(self._schema))):
                done += sum(len(line) for _, line in some)
                numbered = [(number, self._object(number, line)) for number, line in some if not line.isspace()]
                if numbered:
                    yield numbered, min(1.0, done / total)

    def _object(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            content = orjson.loads(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line)
        except orjson.JSONDecodeError as error:
            raise FileInvalid(f"{self._path}: line {number} is not JSON: {error.msg}") from error
        if not isinstance(content, dict):
            raise FileInvalid(f"{self._path}: line {number} is not an object")
        return content

    def _type(self, name: str, numbered: list[tuple[int, dict[str, Any]]]) -> pa.DataType:
        try:
            return pa.array([each.get(name) for _, each in numbered]).type
        except (pa.ArrowException, OverflowError) as error:
            if isinstance(self._schema, ImageSchema) and name == self._schema.field.name:
                raise FileInvalid(
                    f"{self._path}: images of one form are expected, all of them nested numbers of one depth or all of "
                    f"them text, between line {numbered[0][0]} and {numbered[-1][0]}"
                ) from error
            between = f"between line {numbered[0][0]} and {numbered[-1][0]}"
            raise FileInvalid(f"{self._path}: column {name!r} holds values that no one type fits, {between}") from error

    def _table(self, objects: list[dict[str, Any]]) -> pa.Table:
        arrays = {}
        for name, kind in zip(self._types.names, self._types.types, strict=True):
            values = [each.get(name) for each in objects]
            if name in self._schema.name_set and kind == pa.string():
                values = [category_text(value) for value in values]
            elif name in self._schema.name_set and kind == pa.float64():
                values = [None if value is None else float(value) for value in values]
            # Inferred first and cast then: an array made of floats with an integer type would lose their fractions.
            arrays[name] = pa.array(values).cast(kind)
        return pa.table(arrays, schema=self._types)
