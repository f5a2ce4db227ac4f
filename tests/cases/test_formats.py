"""The same values have the same fields and the same scores, whatever the file's format."""

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.cases import tables
from tests.cases.conftest import BASE_KINDS, Scores, kinds_of, new_rows, same
from training.data.read import read


@pytest.mark.parametrize("ending", tables.ENDINGS)
def test_every_format_gives_one_schema_and_the_same_scores(
    ending: str, tmp_path: Path, scores: Scores, expected: pa.Table
) -> None:
    path = tables.save(tmp_path / f"in.{ending}", new_rows())
    assert kinds_of(read(path)) == BASE_KINDS
    same(scores(path), expected)


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
)
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_every_kind_of_text_is_text(
    kind: pa.DataType, ending: str, tmp_path: Path, scores: Scores, expected: pa.Table
) -> None:
    table = new_rows()
    if pa.types.is_dictionary(kind):
        encoded = table["channel"].combine_chunks().dictionary_encode()
        channel: pa.Array = pa.DictionaryArray.from_arrays(
            encoded.indices.cast(kind.index_type), encoded.dictionary.cast(kind.value_type)
        )
    else:
        channel = table["channel"].combine_chunks().cast(kind)
    path = tables.save(tmp_path / f"in.{ending}", tables.with_column(table, "channel", channel))
    assert kinds_of(read(path)) == BASE_KINDS
    same(scores(path), expected)


def numbers_as(table: pa.Table, kind: str) -> pa.Table:
    for name in ("amount", "temp", "pressure"):
        values = table[name].to_pylist()
        match kind:
            case "text":
                table = tables.with_column(table, name, [repr(value) for value in values])
            case "decimal":
                table = tables.with_column(
                    table, name, pa.array([Decimal(repr(value)) for value in values], pa.decimal128(38, 18))
                )
    return table


@pytest.mark.parametrize("kind", ["text", "decimal"])
@pytest.mark.parametrize("ending", ["parquet", "ndjson"])
def test_numbers_kept_as_text_or_decimals_are_numbers(
    kind: str, ending: str, tmp_path: Path, scores: Scores, expected: pa.Table
) -> None:
    path = tables.save(tmp_path / f"in.{ending}", numbers_as(new_rows(), kind))
    assert kinds_of(read(path)) == BASE_KINDS
    same(scores(path), expected)


@pytest.mark.parametrize("codes", [["1", "2", "5", "9"], ["true", "false"], ["0", "1"], ["NA", "None", "SE"]])
def test_a_category_has_one_spelling(codes: list[str], tmp_path: Path) -> None:
    """As text, as numbers with and without a point, as flags."""
    from bundle.record.fields import CategoricalField
    from bundle.record.records import encode_columns
    from bundle.record.schema import TableSchema

    field = CategoricalField(name="code", missing_rate=0.1, vocabulary=tuple(sorted(codes)), missing_texts=("", "?"))
    schema = TableSchema(fields=(field,))
    spellings: list[list[object]] = [list(codes)]
    if codes[0].isdigit():
        spellings += [[int(code) for code in codes], [float(code) for code in codes], [f"{code}.0" for code in codes]]
    if set(codes) <= {"0", "1", "true", "false"}:
        flags = [code in ("1", "true") for code in codes]
        spellings += [list(flags), [str(flag) for flag in flags], [str(flag).upper() for flag in flags]]
    for each in spellings:
        found = encode_columns(schema, {"code": each}, len(each))["categorical"][:, 0]
        assert [field.vocabulary[code - 1] for code in found] == codes
    unknown = encode_columns(schema, {"code": ["17.5", "x"]}, 2)["categorical"][:, 0]
    assert unknown.tolist() == [0, 0]
    with pytest.raises(Exception, match="no field is present"):
        encode_columns(schema, {"code": ["?"]}, 1)


def test_numeric_codes_with_gaps_are_the_same_categories_in_csv_and_parquet(tmp_path: Path) -> None:
    from training import config
    from training.data import schema

    random = np.random.default_rng(3)
    codes = [
        None if gap else int(code)
        for code, gap in zip(random.choice([1, 2, 5, 9], 300), random.random(300) < 0.1, strict=True)
    ]
    table = pa.table({"code": pa.array(codes, pa.int64()), "temp": random.random(300)})
    floats = tables.with_column(table, "code", pa.array([None if code is None else float(code) for code in codes]))
    paths = [
        tables.save(tmp_path / "a.parquet", table),
        tables.save(tmp_path / "b.csv", floats),
        tables.save(tmp_path / "c.csv", table),
        tables.save(tmp_path / "d.ndjson", floats),
    ]
    settings = config.build({"fields": [{"name": "code", "kind": "categorical"}, {"name": "temp", "kind": "numeric"}]})
    found = []
    for path in paths:
        data = read(path, kinds=settings.kinds)
        record = schema.fit(data, np.arange(300), settings.fields or (), settings)
        found.append((record, schema.tensors(record, data, np.arange(300))["categorical"].tolist()))
    for one, other in pairwise(found):
        assert one == other


WIDE = {
    "nested": pa.array([{"a": 1, "b": "x"}] * tables.NEW_ROWS),
    "list": pa.array([[1, 2]] * tables.NEW_ROWS),
    "unsigned": pa.array(np.arange(tables.NEW_ROWS).astype("uint64") + np.uint64(2**63)),
    "when": pa.array([datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=i) for i in range(tables.NEW_ROWS)]),
    "day": pa.array([date(2026, 1, 1 + i % 28) for i in range(tables.NEW_ROWS)]),
    "clock": pa.array([time(i % 24, 5) for i in range(tables.NEW_ROWS)]),
    "took": pa.array([timedelta(seconds=i) for i in range(tables.NEW_ROWS)]),
    "nothing": pa.nulls(tables.NEW_ROWS),
    "nan": pa.array(np.full(tables.NEW_ROWS, np.nan)),
    "blob": pa.array([b"\x00\xff"] * tables.NEW_ROWS),
    "view": pa.array(["a", "b"] * (tables.NEW_ROWS // 2)).cast(pa.string_view()),
    "exact": pa.array([Decimal("7.10")] * tables.NEW_ROWS),
}


def test_columns_of_every_type_are_left_out_or_taken_and_come_out_as_they_went_in(
    tmp_path: Path, scores: Scores, expected: pa.Table
) -> None:
    table = new_rows()
    for name, values in WIDE.items():
        table = tables.with_column(table, name, values)
    path = tables.save(tmp_path / "in.parquet", table)
    assert BASE_KINDS.items() <= kinds_of(read(path)).items()
    assert (
        not {"nested", "list", "unsigned", "when", "day", "clock", "took", "nothing", "nan", "blob"}
        & kinds_of(read(path)).keys()
    )
    found = scores(path)
    same(found, expected)
    for name, values in WIDE.items():
        assert found[name].to_pylist() == values.to_pylist() or name == "nan", name


def test_whole_numbers_of_any_size_come_out_as_they_went_in(tmp_path: Path, scores: Scores, expected: pa.Table) -> None:
    rows = new_rows().to_pylist()
    ids = {"id53": 2**53 + 1, "id64": 2**64 - 60_000, "id75": 10**22}
    lines = [json.dumps({name: start + 2 * i for name, start in ids.items()} | row) for i, row in enumerate(rows)]
    path = tmp_path / "in.ndjson"
    path.write_text("\n".join(lines))
    assert kinds_of(read(path)) == BASE_KINDS
    same(scores(path), expected)
    scores(path, out="out.ndjson")
    written = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    for i, row in enumerate(written):
        assert {name: row[name] for name in ids} == {name: start + 2 * i for name, start in ids.items()}


def test_a_column_that_is_no_field_never_stops_anything(tmp_path: Path, scores: Scores, expected: pa.Table) -> None:
    odd: list[object] = [7, "A-7", None, 2.5, {"k": 1}, [1], True]
    lines = [json.dumps({**row, "ref": odd[i % 7]}) for i, row in enumerate(new_rows().to_pylist())]
    path = tmp_path / "in.ndjson"
    path.write_text("\n".join(lines))
    assert kinds_of(read(path)) == BASE_KINDS
    same(scores(path), expected)
    scores(path, out="out.ndjson")
    written = [json.loads(line)["ref"] for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    assert written[:7] == odd


def test_columns_that_are_mixed_in_one_part_alone_come_out_as_they_went_in(tmp_path: Path, scores: Scores) -> None:
    """Text in one part, numbers in another, both by turns in a third, in any order."""
    refs: list[list[object]] = [["A-7", '"q"'], [7, 8], ["A-9", 9], [{"k": 1}, None]]
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2), (0, 3, 1, 2), (0, 1), (1, 0)):
        folder = tmp_path / "".join(map(str, order))
        folder.mkdir()
        for place, part in enumerate(order):
            rows = new_rows().slice(0, 2).to_pylist()
            lines = [json.dumps({**row, "ref": ref}) for row, ref in zip(rows, refs[part], strict=True)]
            (folder / f"{place}.ndjson").write_text("\n".join(lines))
        scores(folder, out="out.ndjson")
        written = [json.loads(line)["ref"] for line in (tmp_path / "out.ndjson").read_text().splitlines()]
        assert written == [ref for part in order for ref in refs[part]]


def test_a_number_that_is_text_here_and_there_is_a_number(tmp_path: Path, scores: Scores, expected: pa.Table) -> None:
    rows = new_rows().to_pylist()
    rows[200]["temp"] = repr(rows[200]["temp"])
    path = tmp_path / "in.ndjson"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert kinds_of(read(path)) == BASE_KINDS
    same(scores(path), expected)


def test_nan_in_ndjson_is_missing_in_training_and_scoring(tmp_path: Path, scores: Scores) -> None:
    rows = new_rows().to_pylist()
    rows[3]["temp"] = float("nan")
    (tmp_path / "in.ndjson").write_text("\n".join(map(json.dumps, rows)))
    rows[3]["temp"] = None
    (tmp_path / "null.ndjson").write_text("\n".join(map(json.dumps, rows)))
    assert kinds_of(read(tmp_path / "in.ndjson")) == BASE_KINDS
    same(scores(tmp_path / "in.ndjson"), scores(tmp_path / "null.ndjson"))


@pytest.mark.parametrize("ending", ["parquet", "csv", "ndjson", "arrow"])
def test_folders_of_parts_and_patterns_are_one_file(
    ending: str, tmp_path: Path, scores: Scores, expected: pa.Table
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for part in range(4):
        tables.save(folder / f"part-{part}.{ending}", new_rows().slice(part * 100, 100))
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.crc").write_bytes(b"x")
    for path in (folder, folder / f"part-*.{ending}"):
        assert kinds_of(read(path)) == BASE_KINDS
        same(scores(path), expected)


def test_partitioned_folders_have_the_columns_that_their_folders_name(
    tmp_path: Path, scores: Scores, expected: pa.Table
) -> None:
    table = new_rows()
    channels = np.asarray(table["channel"])
    order = []
    for channel in sorted(set(channels)):
        places = np.flatnonzero(channels == channel)
        order.append(places)
        folder = tmp_path / "parts" / f"channel={channel}"
        folder.mkdir(parents=True)
        tables.save(folder / "part-0.parquet", table.take(pa.array(places)).drop_columns("channel"))
    assert kinds_of(read(tmp_path / "parts")) == BASE_KINDS
    same(scores(tmp_path / "parts"), expected.take(pa.array(np.concatenate(order))), reordered=True)


def test_damaged_parquet_names_its_file_and_row_group(tmp_path: Path, scores: Scores) -> None:
    path = tmp_path / "in.parquet"
    pyarrow.parquet.write_table(new_rows(), path, row_group_size=100, compression="none", write_page_checksum=True)
    content = bytearray(path.read_bytes())
    place = pyarrow.parquet.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    content[place : place + 40] = b"\xff" * 40
    path.write_bytes(content)
    for refused in (scores, read):
        with pytest.raises(Exception, match=r"in\.parquet: damaged, row group 3 of 4"):
            refused(path)
