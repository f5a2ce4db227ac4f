"""CSV files of records, with a header row."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from bundle.errors import InvalidRecords
from bundle.record.fields import NumericField
from bundle.record.schema import RecordSchema
from service.codecs import csv
from service.files.piece import FileInvalid, Piece, at_row, encode_table


class CsvFile:
    """Reads a CSV file; see `service.files.source.RecordFile`.

    Columns that are no field are carried along as the text that they are; in those that are one, what
    `bundle.record.records.MISSING_TEXTS` lists is missing.
    """

    def __init__(self, path: Path, schema: RecordSchema) -> None:
        self._path, self._schema = path, schema
        with self._open(path, (), ()) as reader:
            self.columns: list[str] = list(reader.schema.names)
        self._numbers = [
            field.name for field in schema.fields if isinstance(field, NumericField) and field.name in self.columns
        ]

    def pieces(self) -> Iterator[Piece]:
        """See `RecordFile.pieces`."""
        total = max(1, self._path.stat().st_size)
        rows = 0
        with pa.OSFile(str(self._path)) as file:
            try:
                for table in self._tables(file, self._numbers):
                    yield self._piece(table, rows, min(1.0, file.tell() / total))
                    rows += table.num_rows
            except pa.ArrowInvalid:
                self._name_the_cell()
                raise
        if not rows:
            nothing = pa.schema(
                [(name, pa.float64() if name in self._numbers else pa.string()) for name in self.columns]
            )
            yield self._piece(nothing.empty_table(), 0, 1.0)

    def _piece(self, table: pa.Table, before: int, share: float) -> Piece:
        try:
            table = csv.cells(self._schema, table)
        except InvalidRecords as error:
            raise at_row(self._path, error, f"row {before + error.problems[0].row + 1}") from error
        return Piece(table, encode_table(self._path, self._schema, table, before + 1), share)

    def _tables(self, file: Any, numbers: Iterable[str]) -> Iterator[pa.Table]:
        with self._open(file, numbers, self.columns) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])

    @contextlib.contextmanager
    def _open(self, file: Any, numbers: Iterable[str], texts: Iterable[str]) -> Iterator[Any]:
        ragged: list[str] = []
        parse, convert = csv.options(numbers, texts, ragged)
        # With threads, a row that does not fit would not know its number.
        read = pyarrow.csv.ReadOptions(use_threads=False)
        try:
            with pyarrow.csv.open_csv(file, read, parse, convert) as reader:
                yield reader
        except pa.ArrowInvalid as error:
            if not ragged:
                raise
            raise FileInvalid(f"{self._path}: {ragged[0]}") from error

    def _name_the_cell(self) -> None:
        """Read once more, all of it as text, to say which cell is no number: pyarrow says what it holds instead."""
        rows = 0
        with pa.OSFile(str(self._path)) as file:
            for table in self._tables(file, ()):
                for name in self._numbers:
                    wrong = csv.first_wrong_number(table[name])
                    if wrong is not None:
                        raise FileInvalid(
                            f"{self._path}: row {rows + wrong + 1}, column {name!r}: a number is expected"
                        )
                rows += table.num_rows
