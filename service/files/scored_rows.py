"""Rows of a file that were scored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bundle.record.fields import Tensors
from service.engine.verdicts import Verdicts

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ScoredRows:
    """Some rows of a file and what is said of them.

    Args:
        numbers: (n,) int64, each one's number in the file, from 1.
        table: n rows, as they stand in the file.
        tensors: The same rows as the graph's inputs.
        verdicts: Of the same rows; they mean nothing where a row has a fault.
        faults: (n,) why a row has no score, as text; None where it has one.
    """

    numbers: Places
    table: pa.Table
    tensors: Tensors
    verdicts: Verdicts
    faults: npt.NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, places: Places) -> "ScoredRows":
        """Some of them, in any order.

        Args:
            places: (m,) int64, from 0.
        """
        return ScoredRows(
            self.numbers[places],
            self.table.take(pa.array(places)),
            {name: values[places] for name, values in self.tensors.items()},
            Verdicts(self.verdicts.table[places]),
            self.faults[places],
        )

    @staticmethod
    def joined(parts: "Sequence[ScoredRows]") -> "ScoredRows":
        """Rows of one file, one part behind another; at least one part."""
        if len(parts) == 1:
            return parts[0]
        return ScoredRows(
            np.concatenate([part.numbers for part in parts]),
            pa.concat_tables([part.table for part in parts]).combine_chunks(),
            {name: np.concatenate([part.tensors[name] for part in parts]) for name in parts[0].tensors},
            Verdicts.joined([part.verdicts for part in parts]),
            np.concatenate([part.faults for part in parts]),
        )


def strangest_first(rows: ScoredRows) -> Places:
    """Places of rows in the order of their strangeness.

    By p-value; of equal ones the higher anomaly score comes first, of equal ones the row that does in the file. What is
    no number comes last.

    Args:
        rows: n of them.

    Returns:
        (n,) int64.
    """
    order: Places = np.lexsort((rows.numbers, -rows.verdicts.anomaly_score, rows.verdicts.p_value))
    return order
