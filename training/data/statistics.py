"""The exact statistics of all training rows, for fields that were decided on a sample of them."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow.compute as pc

from bundle.record import started_log
from bundle.record.categories import category_text
from bundle.record.fields import AnyField, CategoricalField, ImageField, NumericField
from bundle.record.schema import RecordSchema, schema_of
from reading.likeness import Read
from reading.typed import STRANGERS
from training.config import FieldConfig, TrainingConfig
from training.data import schema, transform
from training.data.moments import Moments
from training.data.streamed import Streamed, Typed
from training.errors import DataInvalid

MOST_TEXTS = 2**20
"""Different texts of a column that are counted: of 20 letters each they take a hundred MiB."""
_NAMED = 10


class _Field:
    """What the training rows say of one field, added up a block at a time.

    Args:
        field: As it was decided on the sample.
        source: The column that it comes from.
        said: What a person said of it.
        config: Which texts are missing values.
    """

    def __init__(self, field: AnyField, source: str, said: FieldConfig | None, config: TrainingConfig) -> None:
        self.field, self.source = field, source
        self.said, self.config = said, config
        given = (said and said.vocabulary) or ()
        self.wanted = {None, *given, *config.data.reading.missing} if given else None
        """Texts that are counted; None for all."""
        # Sums of what is left of numbers once the sample's mean is taken off keep digits that 1e9 would take.
        self.away = field.mean if isinstance(field, NumericField) else 0.0
        self.moments = Moments()
        self.smallest = np.inf
        self.counts: Counter[object] = Counter()
        self.missing = 0

    def add(self, part: Typed, streamed: Streamed) -> None:
        column = part.columns[self.source].column
        match self.field:
            case NumericField():
                self._add_numbers(part, streamed)
            case CategoricalField(derived=None):
                found = pc.value_counts(column.take(part.rows)).to_pylist()
                wanted = (each for each in found if self.wanted is None or category_text(each["values"]) in self.wanted)
                self.counts.update({each["values"]: each["counts"] for each in wanted})
                if len(self.counts) > MOST_TEXTS:
                    raise DataInvalid(
                        f"column {self.source!r} has more than {MOST_TEXTS:,} different texts, too many to count in "
                        "memory: exclude it, or give its vocabulary in a [[fields]] table"
                    )
            case _:
                self.missing += column.take(part.rows).null_count

    def _add_numbers(self, part: Typed, streamed: Streamed) -> None:
        assert isinstance(self.field, NumericField)
        values = np.asarray(part.columns[self.source].column).astype(np.float64)[part.rows]
        if (infinite := np.flatnonzero(np.isinf(values))).size:
            place = streamed.place(part.block, int(part.rows[infinite[0]]))
            raise DataInvalid(f"column {self.source!r}, {place}: an infinity; remove the row or leave it empty")
        present = values[~np.isnan(values)]
        self.missing += values.size - present.size
        if present.size:
            self.smallest = min(self.smallest, float(present.min()))
        offset = self.field.offset
        self.moments += Moments.of((present if offset is None else started_log.forward(present, offset)) - self.away)

    def fitted(self, rows: int) -> AnyField:
        """The field with the statistics of all rows."""
        name, known = self.field.name, dict[str, object]()
        match self.field:
            case NumericField():
                sums = self.moments
                if not sums.count:
                    raise DataInvalid(f"column {name!r} has no value in the training rows")
                mean, smallest, largest = (self.away + each for each in (sums.mean, sums.smallest, sums.largest))
                extent = transform.scale(name, mean, sums.deviation, smallest, largest)
                known |= {"mean": mean, "scale": extent, "nonnegative": self.smallest >= 0}
            case CategoricalField(derived=None):
                return self._category(rows)
            case ImageField():
                raise AssertionError("images are read whole")
        known["missing_rate"] = schema.smoothed(self.missing, rows)
        # By its members alone: it keeps besides what it has once computed from them.
        return type(self.field).model_validate(self.field.model_dump() | known)

    def _category(self, rows: int) -> CategoricalField:
        texts: Counter[str | None] = Counter()
        for value, count in self.counts.items():
            texts[category_text(value)] += count
        vocabulary = (self.said and self.said.vocabulary) or schema.common(self.field.name, texts, self.config)
        without = tuple(text for text in self.config.data.reading.missing if text not in vocabulary)
        missing = texts[None] + sum(texts[text] for text in without)
        return CategoricalField(
            name=self.field.name,
            vocabulary=vocabulary,
            missing_texts=without,
            missing_rate=schema.smoothed(missing, rows),
        )


class Strangers:
    """Cells that are not what the sample of their column holds: a few of them are missing values, and more a fault.

    Args:
        streamed: The data set.
        kinds: What a person said that columns are, by name: in a column said to hold numbers any number is missing.
    """

    def __init__(self, streamed: Streamed, kinds: Mapping[str, str]) -> None:
        self._streamed, self._kinds = streamed, kinds
        self._counts: Counter[str] = Counter()
        self._filled: Counter[str] = Counter()
        self._places: dict[str, list[str]] = {}
        self._expected: dict[str, str] = {}

    def add(self, part: Typed) -> None:
        """Count those of a block.

        Raises:
            DataInvalid: One that is a fault wherever it stands, named by file and row.
        """
        for name, read in part.columns.items():
            if read.strangers.size:
                self._add(part, name, read)
            self._filled[name] += len(read.column) - read.column.null_count

    def _add(self, part: Typed, name: str, read: Read) -> None:
        place = self._streamed.place(part.block, int(read.strangers[0]))
        if not read.are_few:
            raise DataInvalid(self._refusal(name, place, read.expected))
        self._counts[name] += read.strangers.size
        places = self._places.setdefault(name, [])
        for row in read.strangers[: _NAMED - len(places)].tolist():
            places.append(self._streamed.place(part.block, row))
        self._expected[name] = read.expected

    def lines(self) -> Iterator[str]:
        """How many cells of which columns are missing, in words.

        Raises:
            DataInvalid: They are too many in a column, as they are where a file is read whole.
        """
        for name, count in self._counts.items():
            if self._kinds.get(name) is None and count > STRANGERS * (count + self._filled[name]):
                raise DataInvalid(self._refusal(name, self._places[name][0], self._expected[name]))
            more = ", …" if count > _NAMED else ""
            cells = "cell is" if count == 1 else "cells are"
            yield f"{name}: {count:,} {cells} missing ({self._expected[name]}: {'; '.join(self._places[name])}{more})"

    def _refusal(self, name: str, place: str, expected: str) -> str:
        return (
            f"{self._streamed.sample.name}: column {name!r}, {place}: {expected}, as the sample of it holds; mend the "
            f"rows, say kind in a [[fields]] table, or leave it out with --exclude {name}"
        )


def exact(
    record: RecordSchema, streamed: Streamed, fields: Mapping[str, FieldConfig], config: TrainingConfig
) -> tuple[RecordSchema, int, tuple[str, ...]]:
    """Read all training rows, and put their statistics in the place of the sample's.

    Means, scales, bounds, missing rates and vocabularies are those of all rows. Which fields there are, of which kind,
    and the offset of a logarithm stay the sample's.

    Args:
        record: The fields with the statistics of the sample's training rows.
        streamed: The data set.
        fields: What the columns are, by name.
        config: Bounds of vocabularies.

    Returns:
        The fields; how many rows they are of; and what is to be said of cells that are missing.

    Raises:
        DataInvalid: A value that does not fit its field, named by file and row.
    """
    sums = [_Field(field, source := _source(field), fields.get(source), config) for field in record.fields]
    strangers = Strangers(streamed, config.kinds)
    rows = 0
    for part in streamed.training(sources(record)):
        strangers.add(part)
        rows += part.rows.size
        for each in sums:
            each.add(part, streamed)
    said = tuple(strangers.lines())
    return schema_of(each.fitted(rows) for each in sums), rows, said


def sources(record: RecordSchema) -> tuple[str, ...]:
    """The columns that the fields come from, once each."""
    return tuple(dict.fromkeys(_source(field) for field in record.fields))


def _source(field: AnyField) -> str:
    return field.derived.source if isinstance(field, CategoricalField) and field.derived else field.name
