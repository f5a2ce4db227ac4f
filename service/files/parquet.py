"""Parquet files of records."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from bundle.record.schema import RecordSchema
from service.files.piece import Piece, encode_table, rows_of


class ParquetFile:
    """Reads a Parquet file; see `service.files.source.RecordFile`."""

    def __init__(self, path: Path, schema: RecordSchema) -> None:
        self._path, self._schema = path, schema
        self._types = pyarrow.parquet.read_schema(path)
        self.columns: list[str] = list(self._types.names)

    def pieces(self) -> Iterator[Piece]:
        """See `RecordFile.pieces`."""
        with pyarrow.parquet.ParquetFile(self._path) as file:
            total = file.metadata.num_rows
            if not total:
                yield self._piece(self._types.empty_table(), 0, 1.0)
            rows = 0
            for batch in file.iter_batches(rows_of(self._schema)):
                yield self._piece(pa.Table.from_batches([batch]), rows, (rows + batch.num_rows) / total)
                rows += batch.num_rows

    def _piece(self, table: pa.Table, before: int, share: float) -> Piece:
        return Piece(table, encode_table(self._path, self._schema, table, before + 1), share)
