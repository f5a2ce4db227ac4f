"""CSV files of records, with a header row."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bundle.fields import RecordSchema
from bundle.records import MISSING_TEXTS
from service.files.piece import FileInvalid, Piece, encode_table

_MISSING = pa.array(MISSING_TEXTS)
_FLAGS = {
    text: value
    for value, texts in ((True, ("true", "True", "TRUE", "1", "1.0")), (False, ("false", "False", "FALSE", "0", "0.0")))
    for text in texts
}


class CsvFile:
    """Reads a CSV file; see `service.files.source.RecordFile`.

    Columns that are no field are carried along as the text that they are; in those that are one, what
    `bundle.records.MISSING_TEXTS` lists is missing.
    """

    def __init__(self, path: Path, schema: RecordSchema) -> None:
        self._path, self._schema = path, schema
        with self._open(path, {}) as reader:
            self.columns: list[str] = list(reader.schema.names)
        self._numbers = [field.name for field in schema.numeric if field.name in self.columns]
        self._flags = [field.name for field in schema.boolean if field.name in self.columns]

    def pieces(self) -> Iterator[Piece]:
        """See `RecordFile.pieces`."""
        total = max(1, self._path.stat().st_size)
        types = {name: pa.float64() if name in self._numbers else pa.string() for name in self.columns}
        rows = 0
        with pa.OSFile(str(self._path)) as file:
            try:
                for table in self._tables(file, types):
                    yield self._piece(table, rows, min(1.0, file.tell() / total))
                    rows += table.num_rows
            except pa.ArrowInvalid:
                self._name_the_cell()
                raise
        if not rows:
            yield self._piece(pa.schema(types).empty_table(), 0, 1.0)

    def _piece(self, table: pa.Table, before: int, share: float) -> Piece:
        for index, name in enumerate(table.column_names):
            if not self._schema.takes(name) or name in self._numbers:
                continue
            column = pc.if_else(pc.is_in(table[name], _MISSING), pa.scalar(None, pa.string()), table[name])
            if name in self._flags:
                values = [_FLAGS.get(text, text) for text in column.to_pylist()]
                wrong = next((row for row, value in enumerate(values, before + 1) if isinstance(value, str)), None)
                if wrong is not None:
                    raise FileInvalid(f"{self._path}: row {wrong}, column {name!r}: true or false is expected")
                column = pa.chunked_array([pa.array(values, pa.bool_())])
            table = table.set_column(index, name, column)
        return Piece(table, encode_table(self._path, self._schema, table, before + 1), share)

    def _tables(self, file: Any, types: dict[str, pa.DataType]) -> Iterator[pa.Table]:
        with self._open(file, types) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])

    @contextlib.contextmanager
    def _open(self, file: Any, types: dict[str, pa.DataType]) -> Iterator[Any]:
        ragged: list[Any] = []

        def refuse(row: Any) -> str:
            ragged.append(row)
            return "error"

        convert = pyarrow.csv.ConvertOptions(null_values=list(MISSING_TEXTS), column_types=types)
        parse = pyarrow.csv.ParseOptions(invalid_row_handler=refuse)
        # With threads, a row that does not fit would not know its number.
        read = pyarrow.csv.ReadOptions(use_threads=False)
        try:
            with pyarrow.csv.open_csv(file, read, parse, convert) as reader:
                yield reader
        except pa.ArrowInvalid as error:
            if not ragged:
                raise
            line = f"line {ragged[0].number}" if ragged[0].number is not None else "a line"
            found, expected = ragged[0].actual_columns, ragged[0].expected_columns
            raise FileInvalid(f"{self._path}: {line} has {found} cells, the header {expected}") from error

    def _name_the_cell(self) -> None:
        """Read once more, all of it as text, to say which cell is no number: pyarrow says what it holds instead."""
        rows = 0
        with pa.OSFile(str(self._path)) as file:
            for table in self._tables(file, {name: pa.string() for name in self.columns}):
                for name in self._numbers:
                    column = table[name]
                    cells = column.filter(pc.invert(pc.is_in(column, _MISSING)))
                    try:
                        pc.cast(pc.utf8_trim_whitespace(cells), pa.float64())
                    except pa.ArrowInvalid as error:
                        wrong = np.flatnonzero([not _is_number(text) for text in column.to_pylist()])
                        place = f"row {rows + wrong[0] + 1}, " if wrong.size else ""
                        raise FileInvalid(f"{self._path}: {place}column {name!r}: a number is expected") from error
                rows += table.num_rows


def _is_number(text: str) -> bool:
    if text in MISSING_TEXTS:
        return True
    try:
        pa.scalar(text.strip()).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
