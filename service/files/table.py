"""Tables of records in files of any form that `reading` knows."""

import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import orjson
import pyarrow as pa

from bundle.errors import InvalidRecords, Problem
from bundle.record.field_values import Column
from bundle.record.records import NOTHING, encode_what_fits
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from reading.block import Block
from reading.errors import FileInvalid
from reading.formats.ndjson import AS_JSON
from reading.notes import by_note
from reading.opening import TableFile
from reading.options import Options
from reading.values import Forms, Values
from service.codecs import columns
from service.errors import RequestInvalid
from service.files.piece import Piece, fault, first_of_rows, rows_of

_NAMED = 10
"""Rows that do not fit which are named where the file is refused."""


class TableRecords:
    """Reads a table of records; see `service.files.source.RecordFile`.

    Args:
        file: The file, or its parts as one.
        schema: The bundle's fields.
        options: What a person said of how it is written.
        skip: Whether a row that does not fit is answered by its fault, in place of the end of the run. A row that
            holds nothing always is.
        typed: Whether cells of text are given as the numbers and flags that their fields take them for.
        forms: How numbers and timestamps are written, where that was found already.
    """

    def __init__(
        self,
        file: TableFile,
        schema: RecordSchema,
        options: Options,
        skip: bool,
        typed: bool,
        forms: Forms | None = None,
    ) -> None:
        self._schema, self._skip, self._typed = schema, skip, typed
        self._file = file
        self._reader = Values(schema, self._file, options, forms)
        self.columns: list[str] = list(self._file.schema.names)
        # Images are far larger as tensors than in files.
        self._rows = rows_of(schema) if isinstance(schema, ImageSchema) else sys.maxsize

    @property
    def partly(self) -> Sequence[str]:
        """Columns that some of several files lack."""
        return self._file.partly

    @property
    def said(self) -> Sequence[str]:
        """How the file was read where a reader could expect otherwise, in words."""
        return self._file.said

    @property
    def notes(self) -> Sequence[str]:
        """How columns were read where a reader could expect otherwise, in words; complete when all pieces are there."""
        told = by_note({name: [note] for name, note in self._reader.said.items()})
        return [f"{', '.join(names)} read with {note}" for note, names in told.items()]

    @property
    def skipped(self) -> Sequence[str]:
        """Rows that could not be taken apart, in words."""
        return self._file.skipped

    def pieces(self) -> Iterator[Piece]:
        """See `RecordFile.pieces`."""
        empty = True
        for block in self._file.blocks():
            for start in range(0, block.table.num_rows, self._rows):
                empty = False
                yield self._piece(block.part(start, self._rows))
        if empty:
            nothing = pa.Table.from_batches([], self._file.schema)
            yield self._piece(Block(nothing, "", range(0), "row", 1.0))

    def _piece(self, block: Block) -> Piece:
        rows = block.table.num_rows
        table, problems = block.table, list[Problem]()
        given: Mapping[str, Column] = {}
        match self._schema:
            case ImageSchema() as image:
                given = _images(image, block) if rows else {}
            case TableSchema():
                values, problems = self._reader.of(table)
                table = self._reader.with_types(table, values) if self._typed else table
                given = values
        tensors, more = encode_what_fits(self._schema, given, rows, rows)
        faults = self._faults(block, [*problems, *more])
        # The rows of several files are counted through.
        numbers = None if self._file.is_joined else np.asarray(block.numbers, np.int64)
        return Piece(table, tensors, block.share, faults, numbers)

    def _faults(self, block: Block, problems: Sequence[Problem]) -> dict[int, str]:
        """What is wrong with rows, by their position; the row that holds nothing is no reason to refuse a file.

        Raises:
            FileInvalid: Some do not fit, and the file is to be refused then.
        """
        firsts = first_of_rows(problems)
        refused = [
            f"{block.counted} {block.numbers[row]}{': ' if each.field is None else ', '}{fault(each)}"
            for row, each in firsts.items()
            if each.detail != NOTHING
        ]
        if refused and not self._skip:
            more = f"; and {len(refused) - _NAMED} more rows near there" if len(refused) > _NAMED else ""
            way_out = "; --on-error skip scores the others" if len(refused) > 1 else ""
            raise FileInvalid(f"{block.file}: {'; '.join(refused[:_NAMED])}{more}{way_out}")
        return {row: fault(each) for row, each in firsts.items()}


def _images(schema: ImageSchema, block: Block) -> dict[str, Column]:
    """A column of images; those that are nested numbers stand in NDJSON as JSON."""
    name = schema.field.name
    if name not in block.table.column_names:
        return {}
    column = block.table[name]
    if block.table.schema.field(name).metadata == AS_JSON:
        return {name: [None if cell is None else orjson.loads(cell) for cell in column.to_pylist()]}
    try:
        return {name: columns.images(schema.field, column)}
    except RequestInvalid as error:
        fault = error.faults[0]
        raise FileInvalid(f"{block.file}: column {name!r}: {fault.detail}") from error
    except InvalidRecords as error:
        problem = error.problems[0]
        raise FileInvalid(f"{block.place(problem.row)}, column {name!r}: {problem.detail}") from error
