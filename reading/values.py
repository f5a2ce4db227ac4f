"""The columns of a file as the fields of a model take them, some rows at a time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from reading.typed import Counted, counted, numbered_timestamps, plain, texts_of, without_missing_numbers

_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")
_UNSEEN = numbers.NumberFormat(unseen=True)
_MARK = r"\d[.,]\d"


@dataclass(frozen=True)
class Forms:
    """How the numbers and timestamps of a whole file are written, for whoever reads a section of it.

    Args:
        numbers: By column of text that holds numbers.
        timestamps: By column that holds timestamps.
    """

    numbers: dict[str, numbers.NumberFormat]
    timestamps: dict[str, dates.DateFormat | Counted]


class Values:
    """Turns the blocks of one file into what `bundle.record.records.encode_columns` takes.

    How the numbers and timestamps of a column of text are written is found in the first block that tells: of numbers
    without any mark every form is true.

    Args:
        schema: The model's fields, none of which is an image where `of` is called.
        file: The file; its schema and its signs for a decimal comma are looked at.
        options: What a person said of it.
        forms: How they are written, where that was found already; nothing is looked for then.
    """

    def __init__(self, schema: RecordSchema, file: TableFile, options: Options, forms: Forms | None = None) -> None:
        self._schema, self._file, self._options, self._forms = schema, file, options, forms
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

    def look(self, tables: Iterable[pa.Table]) -> Forms:
        """How numbers and timestamps are written: of each column the first of some tables decides that tells.

        Args:
            tables: Rows of the file; no more of them are taken once all columns have told.
        """
        fields, forms = {each.name: each for each in self._schema.fields}, Forms({}, {})
        for table in tables:
            told = True
            for name in filter(self._schema.takes, table.column_names):
                column = plain(self._without_json(table[name], name))
                match fields.get(name):
                    case NumericField():
                        told &= self._tells_numbers(name, column, forms)
                    case None:
                        told &= self._tells_timestamps(name, column, forms)
            if told:
                break
        return forms

    def _tells_numbers(self, name: str, column: pa.ChunkedArray, forms: Forms) -> bool:
        if not types.is_string(column.type):
            return True
        before = forms.numbers.get(name)
        if before is None or before.unseen:
            found = numbers.looked_at(column, self._options, self._file.comma_likely)
            forms.numbers[name] = found or before or self._likely
        return not forms.numbers[name].unseen

    def _tells_timestamps(self, name: str, column: pa.ChunkedArray, forms: Forms) -> bool:
        is_text = types.is_string(column.type)
        if not _may_be_timestamps(column.type) or (is_text and self._options.date_format is not None):
            return True
        if name not in forms.timestamps:
            found = (self._date_format(name, column) if is_text else None) or counted(column, self._options)
            if found is not None:
                forms.timestamps[name] = found
        return name in forms.timestamps

    @property
    def _likely(self) -> numbers.NumberFormat:
        """How numbers are written of which none was seen."""
        comma = self._file.comma_likely if self._options.decimal is None else self._options.decimal == ","
        return numbers.NumberFormat(",", ".", unseen=True) if comma else _UNSEEN

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
        read = numbers.parse(column, self._number_format(name, column), self._options)
        _report(problems, name, read.strangers, "a number is expected")
        return np.asarray(read.values)

    def _number_format(self, name: str, column: pa.ChunkedArray) -> numbers.NumberFormat:
        form = self._numbers.get(name)
        if form is not None:
            return form
        if self._forms is None:
            form = numbers.looked_at(column, self._options, self._file.comma_likely) or _UNSEEN
        else:
            form = self._forms.numbers.get(name, self._likely)
            if form.unseen and pc.any(pc.match_substring_regex(column, _MARK)).as_py():
                form = replace(form, unseen=False, is_guess=True)
        if not form.unseen:
            self._numbers[name] = form
        if form.is_said:
            guess = " (a guess; decimal says it)" if form.is_guess else ""
            self.said[name] = f"{form}{guess}"
        return form

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
        is_text = types.is_string(column.type)
        if not _may_be_timestamps(column.type):
            return np.asarray(column)
        form: dates.DateFormat | Counted | str | None
        if is_text and self._options.date_format is not None:
            form = self._options.date_format
        elif self._forms is not None and name in self._forms.timestamps:
            form = self._forms.timestamps[name]
            if isinstance(form, dates.DateFormat):
                self._say_guess(name, form)
        else:
            form = (self._date_format(name, column) if is_text else None) or counted(column, self._options)
        if form is None:
            return np.asarray(column)
        if isinstance(form, Counted):
            values, strangers = numbered_timestamps(column, form, self._options)
        else:
            values, strangers = dates.parse(column, form, self._options)
        _report(problems, name, strangers, "a timestamp is expected")
        return values

    def _date_format(self, name: str, column: pa.ChunkedArray) -> dates.DateFormat | None:
        if name not in self._dates:
            order = self._schema.date_orders.get(name)
            form = dates.looked_at(column, self._options, self._file.comma_likely, order)
            if form is None:
                return None
            self._dates[name] = form
            self._say_guess(name, form)
        return self._dates[name]

    def _say_guess(self, name: str, form: dates.DateFormat) -> None:
        if form.is_guess:
            self.said[name] = f"{form} (a guess; date_format says it)"


def _may_be_timestamps(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_integer(kind) or types.is_floating(kind))


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
