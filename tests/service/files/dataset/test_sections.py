"""Sections of a file are read as the whole file is: columns that folders name, and timestamps that tell late."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bundle.record.fields import CategoricalField, Derived, NumericField
from bundle.record.schema import TableSchema
from bundle.record.timestamps import HOURS
from reading import parts
from reading.opening import opened_part
from reading.options import Options
from reading.values import Values
from service.files.dataset import text
from service.files.dataset.place import Place

SCHEMA = TableSchema(
    fields=(
        NumericField(name="amount", mean=0.0, scale=1.0, missing_rate=0.1),
        CategoricalField(name="hour", missing_rate=0.1, vocabulary=HOURS, derived=Derived(source="when", part="hour")),
    )
)


def values_of(root: Path, path: str, size: int, is_found: bool | None = None) -> tuple[dict[str, list[Any]], list[str]]:
    """Values by column, joined of all sections, and what is said of any, where a form of timestamps is found or not."""
    place, options = Place.of(str(root)), Options()
    entry = place.entry(path)
    assert entry is not None
    found: dict[str, list[Any]] = {}
    said: list[str] = []
    sections = text.cut(place, entry, SCHEMA, options, size)
    assert len(sections) > 2
    assert is_found is None or ("when" in sections[0].forms.timestamps) == is_found
    for each in sections:
        part = each.part(root / path, "delimited", place)
        constants = parts.constants(Path(path).parent.parts)
        file = opened_part(replace(part, constants=constants), options, True)
        values = Values(SCHEMA, file, options, each.forms)
        for block in file.blocks():
            given, problems = values.of(block.table)
            assert not problems
            for name, column in given.items():
                found.setdefault(name, []).extend(column.tolist())
        said += values.said.values()
    return found, said


def written(path: Path, header: str, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")


def test_numbers_and_timestamps_of_folders_are_read_by_their_own_form(tmp_path: Path) -> None:
    rows = [f"{row},5;note {row}" for row in range(400)]
    written(tmp_path / "amount=1.5" / "when=01.11.2026 14%3A00" / "a.csv", "distance;note", rows)
    found, _ = values_of(tmp_path, "amount=1.5/when=01.11.2026 14%3A00/a.csv", 1000)
    assert set(found["amount"]) == {1.5}
    moments = {np.datetime64(moment, "m") for moment in np.array(found["when"], "datetime64[us]")}
    assert moments == {np.datetime64("2026-11-01T14:00", "m")}


def test_a_guessed_order_of_day_and_month_is_said_of_every_section(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "amount,when", [f"{row},03/04/2026 14:{row % 60:02d}" for row in range(400)])
    _, said = values_of(tmp_path, "a.csv", 1000, is_found=True)
    assert len(said) > 2
    assert len(set(said)) == 1
    assert "a guess; date_format says it" in said[0]


def test_timestamps_that_no_section_looked_at_holds_are_read(tmp_path: Path) -> None:
    rows = [f"{row},{'25.11.2026 14:07' if row == 520 else ''}" for row in range(600)]
    written(tmp_path / "a.csv", "amount,when", rows)
    found, _ = values_of(tmp_path, "a.csv", 60, is_found=False)
    assert np.datetime64(np.array(found["when"], "datetime64[us]")[520], "m") == np.datetime64("2026-11-25T14:07", "m")
