"""Which values of a label are normal, in files that are read a block at a time."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bundle.wording import like
from reading.formats.ndjson import AS_JSON
from reading.typed import plain, texts_of
from training.config import DataConfig
from training.data.files import Files
from training.data.read import of_table
from training.data.split import by_label
from training.errors import ConfigInvalid

NORMAL, ANOMALY, NEITHER = 0, 1, 2
_MOST_VALUES = 2**16
"""Different values that a label may have."""
_STAND_FOR = 2**17
"""Rows that stand for all where the meaning of the label's values is looked at, in the shares that these have."""


class Labels:
    """What each row of some files is by its label.

    Without a label, or where no value of it is said to be normal, every row is normal. Else the files are read once for
    the label's values, because their meaning shows in all of them together: whether `1` is a number, or a text beside
    others.

    Args:
        files: The files.
        config: The label's column and its value in normal rows.

    Raises:
        ConfigInvalid: The label is no column, no row has the normal value, or it has too many values.
        DataInvalid: A file has changed.
        FileInvalid: A file is damaged.
    """

    def __init__(self, files: Files, config: DataConfig) -> None:
        self._roles: dict[object, int] | None = None
        nothing = files.schema.empty_table()
        if config.label is None or config.normal is None:
            by_label(nothing, config)  # It refuses what cannot be meant.
            return
        self._name = config.label
        if self._name not in nothing.column_names:
            meant = like(self._name, nothing.column_names)
            raise ConfigInvalid(f"there is no column {self._name!r} to be the label{meant}")
        if pa.types.is_nested(nothing[self._name].type):
            raise ConfigInvalid(
                f"the label {self._name!r} holds lists or objects; text, numbers or booleans can be one"
            )
        self._metadata = files.schema.field(self._name).metadata
        counts: Counter[object] = Counter()
        for piece in files.pieces():
            found = pc.value_counts(self._column(piece.block.table))
            counts.update({each["values"]: each["counts"] for each in found.to_pylist()})
            if len(counts) > _MOST_VALUES:
                raise ConfigInvalid(
                    f"the label {self._name!r} has more than {_MOST_VALUES:,} different values; a label has a few"
                )
        self._counts = counts
        self._roles = _roles(counts, config, files)

    def of(self, table: pa.Table) -> npt.NDArray[np.int8]:
        """(n,) int8 what each row is: `NORMAL`, `ANOMALY`, or `NEITHER` where it has no label.

        Args:
            table: n rows as they stand in the file.
        """
        if self._roles is None:
            return np.zeros(table.num_rows, np.int8)
        found = pc.dictionary_encode(self._column(table), null_encoding="encode").combine_chunks()
        roles = np.array([self._roles[value] for value in found.dictionary.to_pylist()], np.int8)
        of_rows: npt.NDArray[np.int8] = roles[np.asarray(found.indices)]
        return of_rows

    def lines(self, config: DataConfig) -> Iterator[str]:
        """What a person would not expect of the labels, in words; see `split.of_labels`.

        Args:
            config: As before.
        """
        if self._roles is None or config.normal is None:
            return
        by_role = Counter({NORMAL: 0, NEITHER: 0})
        for value, count in self._counts.items():
            by_role[self._roles[value]] += count
        if not config.normal:
            yield f"{by_role[NORMAL]:,} rows have no {self._name!r} and count as normal; the others are anomalies"
        elif by_role[NEITHER]:
            yield f"{by_role[NEITHER]:,} rows have no {self._name!r}: they are neither learnt from nor evaluated"
        wanted = config.normal.casefold().strip()
        texts = [value for value in self._counts if isinstance(value, str) and wanted]
        beside = sorted(text for text in texts if text != config.normal and text.casefold().strip() == wanted)
        if beside and all(self._roles[text] == ANOMALY for text in beside):
            yield (
                f"{sum(self._counts[text] for text in beside):,} rows have {self._name} = "
                f"{', '.join(map(repr, beside))}, which is not {config.normal!r}: they count as anomalies"
            )

    def _column(self, table: pa.Table) -> pa.ChunkedArray:
        column = table[self._name]
        if self._metadata == AS_JSON:
            return plain(texts_of(column))
        if pa.types.is_decimal(column.type) and column.type.scale <= 0:
            return pc.cast(column, pa.string())  # Else its type would depend on how large the values of a block are.
        column = plain(column)
        if pa.types.is_floating(column.type):
            # NaN is how programs without nulls say missing.
            return pc.if_else(pc.fill_null(pc.is_nan(column), False), pa.scalar(None, column.type), column)
        return column


def _roles(counts: Counter[object], config: DataConfig, files: Files) -> dict[object, int]:
    name, rows = config.label, sum(counts.values())
    values = list(counts)
    share = min(1.0, _STAND_FOR / max(1, rows))
    repeated = [max(1, round(share * counts[value])) for value in values]
    column = pa.array(values).take(pa.array(np.repeat(np.arange(len(values)), repeated)))
    typed = of_table("", "", pa.table({name: column}), config.reading, comma_likely=files.table.comma_likely)
    normal, anomalies = by_label(typed.table, config)
    firsts = np.cumsum([0, *repeated[:-1]])
    found = np.full(len(column), NEITHER)
    found[normal], found[anomalies] = NORMAL, ANOMALY
    return dict(zip(values, found[firsts].tolist(), strict=True))
