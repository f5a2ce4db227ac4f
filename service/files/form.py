"""How scored rows become a table: the columns of a file, and the scores after them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bundle.contents import answer_names
from bundle.contents.explanation import Explanations
from bundle.record.schema import ImageSchema, RecordSchema
from service.codecs import arrow, explained
from service.engine.verdicts import Verdicts
from service.files.scored_rows import ScoredRows
from service.files.target import images_as_text


@dataclass(frozen=True)
class Form:
    """The columns of a file of scored rows.

    Args:
        schema: The bundle's fields.
        carried: Columns of the file that was scored, in order.
        numbered: Whether a column `row` stands before them.
        latent: Whether there are latent means.
        flat: Whether a column of lists is written as several columns.
        text: Whether images are written as text.
    """

    schema: RecordSchema
    carried: tuple[str, ...]
    numbered: bool
    latent: bool
    flat: bool
    text: bool

    def table(self, rows: ScoredRows, explanations: Explanations | None) -> pa.Table:
        """A table of rows.

        Args:
            rows: n of them.
            explanations: Of the same rows, where they are asked for.
        """
        table = rows.table.select(self.carried)
        written = table.schema
        if isinstance(self.schema, ImageSchema) and self.text:
            table = images_as_text(table, self.schema.field, rows.tensors["image"])
        found: dict[str, Any] = {answer_names.ROW: pa.array(rows.numbers)} if self.numbered else {}
        found |= dict(zip(table.column_names, table.columns, strict=True))
        said = said_columns(rows.verdicts, explanations, rows.table, latent=self.latent, flat=self.flat)
        found |= _with_faults(said, rows.faults)
        made = pa.table(found)
        # How a column's text is to be understood stands in its field.
        fields = [
            field.with_metadata(written.field(field.name).metadata) if field.name in written.names else field
            for field in made.schema
        ]
        return made.cast(pa.schema(fields))


def _with_faults(said: dict[str, Any], faults: npt.NDArray[np.object_]) -> dict[str, Any]:
    """What is said of rows, nothing of those that have a fault, and the faults behind the verdicts."""
    wrong = np.array([fault is not None for fault in faults], bool)
    if wrong.any():
        places = pa.array(np.arange(len(faults)), mask=wrong)
        said = {name: pa.array(array).take(places) for name, array in said.items()}
    error = {answer_names.ERROR: pa.array(faults, pa.string())}
    last = [*said].index(answer_names.VERDICTS[-1]) + 1
    return {**dict([*said.items()][:last]), **error, **dict([*said.items()][last:])}


def said_columns(
    verdicts: Verdicts, explanations: Explanations | None, records: pa.Table, *, latent: bool, flat: bool
) -> dict[str, Any]:
    """What is said of records, as Arrow arrays by name; null where there is no number.

    Args:
        verdicts: Of B records.
        explanations: Of the same records, where they are asked for.
        records: The same records as they were given.
        latent: Whether latent means are among it.
        flat: Whether those are columns of numbers, and not one of lists.
    """
    means = answer_names.latent_means(verdicts.latent_size, flat=flat)
    found = {name: array for name, array in arrow.columns(verdicts, flat).items() if latent or name not in means}
    return found if explanations is None else found | explained.flat(explanations, records)
