"""Some rows of a file, and where in it they stand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa


@dataclass(frozen=True)
class Block:
    """Some rows of a file, in order.

    Args:
        table: All their columns, as they stand in the file.
        file: Which file, of those that are read as one.
        numbers: The number of each row as a person counts them in that file: a range, or a line for each.
        counted: What is counted, `row` (the first behind the names is 1) or `line`.
        share: How much of the file has been read, 0 to 1.
    """

    table: pa.Table
    file: str
    numbers: Sequence[int]
    counted: str
    share: float

    def part(self, start: int, rows: int) -> "Block":
        """Some of these rows.

        Args:
            start: The first one's position in the block, from 0.
            rows: How many at most.
        """
        return replace(self, table=self.table.slice(start, rows), numbers=self.numbers[start : start + rows])

    def place(self, row: int) -> str:
        """Where a row stands, in words.

        Args:
            row: Its position in the block, from 0.
        """
        return f"{self.file}: {self.counted} {self.numbers[row]}"
