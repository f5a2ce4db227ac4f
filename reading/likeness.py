"""Later rows of a table by what the values of a sample of it mean, so that all its blocks are read alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from bundle.record.fields import DateOrder
from reading import dates, numbers
from reading.formats.ndjson import AS_JSON
from reading.options import Options
from reading.typed import Counted, counted, numbered_timestamps, plain, texts_of, without_missing_numbers

_TRUE, _FALSE = "true", "false"
_EXACT = (
    "a whole number beyond 2^53, of which float64 does not hold every digit: exclude the column, or write it as text"
)


@dataclass(frozen=True)
class Read:
    """Some rows of a column, read as its sample was.

    Args:
        column: (n,) of the sample's type, but that whole numbers may be float64; null where a cell is none such.
        strangers: Positions of the cells that are filled and none such.
        expected: What they should be.
        are_few: Whether few of them are missing values and no fault, as where a whole column is looked at.
    """

    column: pa.ChunkedArray
    strangers: npt.NDArray[np.int64]
    expected: str = ""
    are_few: bool = False


_Reader = Callable[[pa.ChunkedArray], Read]
_NONE = np.empty(0, np.int64)


class Likeness:
    """Reads the columns of a table's blocks as those of a sample of it.

    Args:
        raw: The sample, as it stands in the file.
        typed: The sample by what its values mean; see `reading.typed.typed`.
        options: What a person said of the file.
        comma_likely: Whether the file speaks for a decimal comma.
        orders: In which a column's timestamps that were text have year, month and day, where only one fits.
    """

    def __init__(
        self,
        raw: pa.Table,
        typed: pa.Table,
        options: Options,
        comma_likely: bool = False,
        orders: Mapping[str, DateOrder] | None = None,
    ) -> None:
        self._options, self._comma_likely, self._orders = options, comma_likely, orders or {}
        self._json = {field.name for field in raw.schema if field.metadata == AS_JSON}
        self._texts = {name for name in raw.column_names if name and types.is_string(self._plain(raw, name).type)}
        self._readers = {
            name: self._reader(name, self._plain(raw, name), typed[name].type)
            for name in typed.column_names
            if name and not types.is_nested(raw.schema.field(name).type)
        }

    def of(self, table: pa.Table, names: Sequence[str]) -> dict[str, Read]:
        """Some rows of some columns.

        Args:
            table: n rows as they stand in the file.
            names: Of columns that are neither nested nor without a name.
        """
        return {name: self._readers[name](self._alike(table, name)) for name in names}

    def _alike(self, table: pa.Table, name: str) -> pa.ChunkedArray:
        # Whole decimals are numbers or text by how large those of a block are.
        column = self._plain(table, name)
        return pc.cast(column, pa.string()) if name in self._texts else column

    def _plain(self, table: pa.Table, name: str) -> pa.ChunkedArray:
        return plain(texts_of(table[name]) if name in self._json else table[name])

    def _reader(self, name: str, column: pa.ChunkedArray, kind: pa.DataType) -> _Reader:
        is_number = types.is_integer(kind) or types.is_floating(kind)
        if types.is_string(column.type):
            column = _filled(column)
            if types.is_boolean(kind):
                return self._flags
            if is_number:
                form = numbers.looked_at(column, self._options, self._comma_likely)
                assert form is not None, "its sample holds numbers"
                return partial(self._numbers, form, types.is_integer(kind))
            if types.is_timestamp(kind):
                return self._timestamp_reader(name, column)
            return lambda texts: Read(_filled(texts), _NONE)
        if types.is_integer(column.type) or types.is_floating(column.type):
            if types.is_timestamp(kind):
                return partial(self._numbered, counted(column, self._options))
            if types.is_string(kind):
                return lambda whole: Read(pc.cast(without_missing_numbers(whole, self._options), pa.string()), _NONE)
            return self._typed_numbers
        return lambda values: Read(values, _NONE)

    def _numbers(self, form: numbers.NumberFormat, are_whole: bool, texts: pa.ChunkedArray) -> Read:
        read = numbers.parse(_filled(texts), form, self._options)
        if are_whole and read.are_codes:
            return Read(read.values, _beyond(read.values), _EXACT)
        return Read(read.values, np.flatnonzero(read.strangers), "a number is expected", are_few=True)

    def _typed_numbers(self, column: pa.ChunkedArray) -> Read:
        if types.is_string(column.type):  # Whole decimals beyond int64.
            values = without_missing_numbers(pc.cast(column, pa.float64()), self._options)
            return Read(values, _beyond(values), _EXACT)
        column = without_missing_numbers(column, self._options)
        if types.is_floating(column.type):
            return Read(pc.if_else(pc.fill_null(pc.is_nan(column), False), pa.scalar(None, column.type), column), _NONE)
        if not numbers.are_exact(column):
            return Read(column, _beyond(column), _EXACT)
        return Read(pc.cast(column, pa.int64()), _NONE)

    def _flags(self, texts: pa.ChunkedArray) -> Read:
        trimmed = pc.utf8_trim_whitespace(_filled(texts))
        lower = pc.utf8_lower(trimmed)
        true, false = pc.equal(lower, _TRUE), pc.equal(lower, _FALSE)
        flags = pc.fill_null(pc.or_(true, false), False)
        missing = pc.or_(pc.is_null(trimmed), pc.is_in(trimmed, pa.array(self._options.missing)))
        strange = np.flatnonzero(np.asarray(pc.invert(pc.or_(flags, missing))))
        return Read(pc.if_else(flags, true, pa.scalar(None, pa.bool_())), strange, "true or false is expected")

    def _timestamp_reader(self, name: str, column: pa.ChunkedArray) -> _Reader:
        if self._options.date_format is not None:
            return partial(self._dates, self._options.date_format)
        form = dates.looked_at(column, self._options, self._comma_likely, self._orders.get(name))
        return partial(self._numbered, counted(column, self._options)) if form is None else partial(self._dates, form)

    def _dates(self, form: dates.DateFormat | str, texts: pa.ChunkedArray) -> Read:
        values, wrong = dates.parse(_filled(texts), form, self._options)
        expected = f"a timestamp as {form} is expected"
        return Read(_moments(values), np.flatnonzero(wrong), expected, are_few=isinstance(form, str))

    def _numbered(self, how: Counted | None, column: pa.ChunkedArray) -> Read:
        filled = ~np.asarray(pc.is_null(_without_missing(column, self._options)))
        if how is None or not filled.any():
            nothing = np.full(len(column), np.datetime64("NaT"), "datetime64[us]")
            return Read(_moments(nothing), np.flatnonzero(filled), "a timestamp is expected")
        values, wrong = numbered_timestamps(column, how, self._options)
        return Read(_moments(values), np.flatnonzero(wrong), "a timestamp is expected", are_few=True)


def _without_missing(column: pa.ChunkedArray, options: Options) -> pa.ChunkedArray:
    if not types.is_string(column.type):
        return without_missing_numbers(column, options)
    missing = pc.is_in(pc.utf8_trim_whitespace(column), pa.array(options.missing))
    return pc.if_else(pc.fill_null(missing, True), pa.scalar(None, column.type), column)


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, pa.string()), column)


def _moments(values: npt.NDArray[np.datetime64]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.timestamp("us"))])


def _beyond(values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    # As floats the next two above 2^53 are one and the same.
    large = pc.greater_equal(pc.abs(pc.cast(values, pa.float64(), safe=False)), float(numbers.LARGEST_EXACT))
    return np.flatnonzero(np.asarray(pc.fill_null(large, False)))
