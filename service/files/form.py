"""How scored rows become a table: the columns of a file, and the scores after them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bundle.contents import answer_names
from bundle.contents.explanation import Explanations
from bundle.contents.manifest import Manifest
from bundle.record.schema import ImageSchema, RecordSchema
from service.codecs import arrow, explained
from service.engine.question import Question
from service.engine.verdicts import Verdicts
from service.files.scored_rows import ScoredRows
from service.files.selection import Selection
from service.files.target import images_as_text


@dataclass(frozen=True)
class Form:
    """The columns of a file of scored rows.

    Args:
        schema: The bundle's fields.
        carried: Columns of the file that was scored, in order.
        scores: Columns of scores, in order.
        numbered: Whether a column `row` stands before them.
        latent: Whether there are latent means.
        flat: Whether a column of lists is written as several columns.
        text: Whether images are written as text.
    """

    schema: RecordSchema
    carried: tuple[str, ...]
    scores: tuple[str, ...]
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
        said = _with_faults(said, rows.faults)
        found |= {name: said[name] for name in self.scores}
        made = pa.table(found)
        # How a column's text is to be understood stands in its field.
        fields = [
            field.with_metadata(written.field(field.name).metadata) if field.name in written.names else field
            for field in made.schema
        ]
        return made.cast(pa.schema(fields))


def _with_faults(said: dict[str, Any], faults: npt.NDArray[np.object_]) -> dict[str, Any]:
    """What is said of rows, nothing of those that have a fault, and the faults."""
    wrong = np.array([fault is not None for fault in faults], bool)
    if wrong.any():
        places = pa.array(np.arange(len(faults)), mask=wrong)
        said = {name: pa.array(array).take(places) for name, array in said.items()}
    return said | {answer_names.ERROR: pa.array(faults, pa.string())}


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


def scores_written(
    manifest: Manifest, question: Question, selection: Selection, *, flat: bool, faults: bool
) -> tuple[str, ...]:
    """The columns of scores that are written, in order.

    Args:
        manifest: The bundle's.
        question: What is asked of records.
        selection: What is written.
        flat: Whether OUT holds no lists.
        faults: Whether rows without a score are written, too, and say why.

    Raises:
        ColumnsRefused: A column is asked for that this call does not write.
    """
    record, size = manifest.record, manifest.latent_size
    asked = {"latent": selection.latent, "explain": question.explain}
    offered = answer_names.of_scores(record, size, flat=flat, **asked)
    reasons = (name for columns in answer_names.explained(record) for name in columns.values())
    elsewhere = {
        **dict.fromkeys(answer_names.latent_means(size, flat=not flat), _IN_CSV if flat else _AS_A_LIST),
        **dict.fromkeys(answer_names.latent_means(size, flat=flat), "add --latent"),
        **dict.fromkeys(reasons, "add --explain"),
        answer_names.ERROR: "rows without a score are in _surprisal/errors, with the reason",
        answer_names.ROW: "it stands in OUT by itself with --only-flagged or --top",
    }
    return selection.scores([name for name in offered if faults or name != answer_names.ERROR], elsewhere)


_IN_CSV = "CSV holds no lists; name latent_mean_0 and so on, and add --latent"
_AS_A_LIST = "name latent_mean, which is a list, and add --latent"
