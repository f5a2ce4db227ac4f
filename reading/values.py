"""The columns of a file as the fields of a model take them, some rows at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from bundle.errors import Problem
from bundle.record.fields import BooleanField, CategoricalField, NumericField
from bundle.record.records import MISSING_TEXTS
from bundle.record.schema import RecordSchema
from reading import dates, numbers
from reading.formats.ndjson import AS_JSON
from reading.opening import TableFile
from reading.options import Options
from reading.typed import numbered_timestamps, plain, texts_of, without_missing_numbers

_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")
_UNSEEN = numbers.NumberFormat(unseen=True)
_Timestamps = tuple[npt.NDArray[np.datetime64], npt.NDArray[np.bool_]]


class Values:
    """Turns the blocks of one file into what `bundle.record.records.encode_columns` takes.

    How the numbers and timestamps of a column of text are written is found in the first block that tells: of numbers
    without any mark every form is true.

    Args:
        schema: The model's fields, none of which is an image where `of` is called.
        file: The file; its schema and its signs for a decimal comma are looked at.
        options: What a person said of it.
    """

    def __init__(self, schema: RecordSchema, file: TableFile, options: Options) -> None:
        self._schema, self._file, self._options = schema, file, options
        self._numbers: dict[str, numbers.NumberFormat] = {}
        self._dates: dict[str, dates.DateFormat] = {}
        self.said: dict[str, str] = {}

    def of(self, table: pa.Table) -> tuple[dict[str, npt.NDArray[Any]], list[Problem]]:
        """Values by field, and cells of text that are not what their field takes.

        Args:
            table: n rows of the file.

        Returns:
            (n,) values a field, None or NaN where missing or no such value; and problems in no order.
        """
        problems: list[Problem] = []
        fields = {field.name: field for field in self._schema.fields}
        given = {}
        for name in table.column_names:
            if not self._schema.takes(name):
                continue
            column = plain(self._without_json(table[name], name))
            match fields.get(name):
                case NumericField():
                    given[name] = self._numeric(name, column, problems)
                case BooleanField():
                    given[name] = self._boolean(name, column, problems)
                case CategoricalField() as field:
                    # Bundles written before a field said so itself take these of CSV alone.
                    is_old = self._file.is_text and not field.missing_texts
                    given[name] = _category(column, MISSING_TEXTS if is_old else ())
                case _:
                    given[name] = self._timestamp(name, column, problems)
        return given, problems

    def with_types(self, table: pa.Table, given: Mapping[str, npt.NDArray[Any]]) -> pa.Table:
        """The table with numbers and flags where fields that take them stand as text.

        Args:
            table: n rows of the file.
            given: What `of` made of them.
        """
        for field in self._schema.fields:
            if field.name not in given or not types.is_string(table.schema.field(field.name).type):
                continue
            place = table.column_names.index(field.name)
            if isinstance(field, NumericField):
                table = table.set_column(place, field.name, pa.array(given[field.name].astype(float), from_pandas=True))
            elif isinstance(field, BooleanField):
                table = table.set_column(place, field.name, pa.array(given[field.name], pa.bool_(), from_pandas=True))
        return table

    def _without_json(self, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
        return texts_of(column) if self._file.schema.field(name).metadata == AS_JSON else column

    def _numeric(self, name: str, column: pa.ChunkedArray, problems: list[Problem]) -> npt.NDArray[Any]:
        if not types.is_string(column.type):
            if types.is_integer(column.type) or types.is_floating(column.type):
                column = without_missing_numbers(column, self._options)
            return np.asarray(column)
        form = self._numbers.get(name)
        if form is None:
            form = numbers.looked_at(column, self._options, self._file.comma_likely) or _UNSEEN
            if not form.unseen:
                self._numbers[name] = form
            if form.is_said:
                guess = " (a guess; decimal says it)" if form.is_guess else ""
                self.said[name] = f"{form}{guess}"
        read = numbers.parse(column, form, self._options)
        _report(problems, name, read.strangers, "a number is expected")
        return np.asarray(read.values)

    def _boolean(self, name: str, column: pa.ChunkedArray, problems: list[Problem]) -> npt.NDArray[Any]:
        if not types.is_string(column.type):
            return np.asarray(column)
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        missing = pc.is_in(pc.utf8_trim_whitespace(column), pa.array(self._options.missing))
        true, false = pc.is_in(lower, pa.array(_TRUE)), pc.is_in(lower, pa.array(_FALSE))
        strange = pc.invert(pc.or_(pc.or_(true, false), pc.or_(missing, pc.is_null(column))))
        _report(problems, name, np.asarray(strange), "true or false is expected")
        return np.asarray(pc.if_else(pc.or_(true, false), true, pa.scalar(None, pa.bool_())))

    def _timestamp(self, name: str, column: pa.ChunkedArray, problems: list[Problem]) -> npt.NDArray[Any]:
        if types.is_date(column.type):
            column = pc.cast(column, pa.timestamp("us"))
        form = self._date_format(name, column) if types.is_string(column.type) else None
        if form is not None:
            read: _Timestamps | None = dates.parse(column, form, self._options)
        elif types.is_string(column.type) or types.is_integer(column.type) or types.is_floating(column.type):
            read = numbered_timestamps(column, self._options)
        else:
            read = None
        if read is None:
            return np.asarray(column)
        values, strangers = read
        _report(problems, name, strangers, "a timestamp is expected")
        return values

    def _date_format(self, name: str, column: pa.ChunkedArray) -> dates.DateFormat | str | None:
        if self._options.date_format is not None:
            return self._options.date_format
        if name not in self._dates:
            order = self._schema.date_orders.get(name)
            form = dates.looked_at(column, self._options, self._file.comma_likely, order)
            if form is None:
                return None
            self._dates[name] = form
            if form.is_guess:
                self.said[name] = f"{form} (a guess; date_format says it)"
        return self._dates[name]


def _category(column: pa.ChunkedArray, missing: Sequence[str]) -> npt.NDArray[Any]:
    if types.is_string(column.type):
        empty = pc.equal(pc.utf8_trim_whitespace(column), "")
        empty = pc.or_(empty, pc.is_in(column, pa.array(missing, pa.string())))
        column = pc.if_else(empty, pa.scalar(None, pa.string()), column)
    elif types.is_integer(column.type):
        # numpy has no null but NaN, and large ids beside one would lose digits.
        column = pc.cast(column, pa.string())
    return np.asarray(column)


def _report(problems: list[Problem], name: str, strange: npt.NDArray[np.bool_], detail: str) -> None:
    problems += [Problem(int(row), name, detail) for row in np.flatnonzero(strange)]
