"""Files opened: several as one, what of them is held, and what of them is damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from reading import opening
from reading.errors import FileInvalid

ROWS = 20_000
NUMBERS = pa.table({"a": np.arange(ROWS)})


def _file(path: Path, table: pa.Table, rows: int) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, rows)


def _stream(path: Path, table: pa.Table, rows: int) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, rows)


def _parquet(path: Path, table: pa.Table, rows: int) -> None:
    pyarrow.parquet.write_table(table, path, row_group_size=rows)


WRITERS: dict[str, Callable[[Path, pa.Table, int], None]] = {
    "a.arrow": _file,
    "b.arrows": _stream,
    "c.parquet": _parquet,
}


@pytest.mark.parametrize("rows", [1000, ROWS])
@pytest.mark.parametrize("name", WRITERS)
def test_columnar_files_come_in_small_blocks_that_say_how_far_they_are(name: str, rows: int, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, NUMBERS, rows)
    blocks = list(opening.opened(tmp_path / name).blocks())
    assert max(block.table.num_rows for block in blocks) <= 8192
    assert [number for block in blocks for number in block.numbers] == list(range(1, ROWS + 1))
    assert np.concatenate([block.table["a"] for block in blocks]).tolist() == list(range(ROWS))
    shares = [block.share for block in blocks]
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1]
    assert shares[-1] == pytest.approx(1, abs=0.01)


def test_a_stream_that_is_cut_off_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "in.arrows"
    _stream(path, NUMBERS, 1000)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(FileInvalid, match=r"in\.arrows: damaged, after row 12000"):
        opening.read(opening.opened(path))


def test_nothing_but_the_table_is_held(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("a,b\n" + "".join(f"{row},{'x' * 500}\n" for row in range(ROWS)))
    table, blocks = opening.read(opening.opened(path))
    assert sum(len(block.numbers) for block in blocks) == table.num_rows == ROWS
    assert sum(block.table.get_total_buffer_size() for block in blocks) < 100


def test_a_pattern_means_what_its_folder_means(tmp_path: Path) -> None:
    for day, text in ("1", "a\n1\n"), ("2", "a\n2\n"), ("3", ""):
        (tmp_path / "data" / f"day={day}").mkdir(parents=True)
        (tmp_path / "data" / f"day={day}" / "part.csv").write_text(text)
    expected = {"a": ["1", "2"], "day": ["1", "2"]}
    for path in (tmp_path / "data", tmp_path / "data" / "day=*" / "*.csv", tmp_path / "data" / "**" / "*.csv"):
        assert opening.read(opening.opened(path))[0].to_pydict() == expected
    assert opening.opened(tmp_path / "data" / "day=1" / "*.csv").schema.names == ["a"]


def test_utf8_that_is_cut_off_or_damaged_is_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    good = "name,n\n" + "Zürich,1\n" * 30
    for content in (good.encode() + "ü".encode()[:1], good.encode() + b"Z\xfcrich,1\n" + good[7:].encode()):
        path.write_bytes(content)
        with pytest.raises(FileInvalid, match=r"in\.csv: is UTF-8, but for bytes as 0x"):
            opening.opened(path)
    path.write_bytes(good.encode("windows-1252"))
    assert opening.opened(path).said == ("windows-1252 (a guess)",)
    path.write_bytes("a,b\nä,1\nä,1\n".encode() + b"\xc3,2\n")
    file = opening.opened(path)
    assert "utf-16" not in "".join(file.said)
    assert opening.read(file)[0].num_rows == 3


def test_what_is_passed_over_is_told_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "2.csv").write_text("a,b,c\n1,2\n1,2,3\n")
    file = opening.opened(tmp_path, skip=True)
    opening.read(file)
    assert file.skipped == ["2.csv: row 1 has 2 cells, and there are 3 columns ('1,2')"]


@pytest.mark.parametrize("other", [pa.array([1.5]), pa.array([2**64 - 1], pa.uint64())])
def test_a_value_that_the_type_of_another_file_does_not_hold_is_refused(other: pa.Array, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"a": [-(2**60) - 1]}), tmp_path / "1.parquet")
    pyarrow.parquet.write_table(pa.table({"a": other}), tmp_path / "2.parquet")
    with pytest.raises(FileInvalid, match=r"\d\.parquet: column 'a' holds u?int64, in other files it is read as"):
        opening.read(opening.opened(tmp_path))


@pytest.mark.parametrize("line", ['{"a": "\\ud83d"}', '{"\\ud83d": 1}', '{"b": 1234567890123456789, "a": "\\ud83d"}'])
def test_half_a_sign_is_refused_with_its_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "in.ndjson"
    path.write_text('{"a": "\\ud83d\\ude00"}\n' + line + "\n")
    with pytest.raises(FileInvalid, match=r"in\.ndjson: line 2 is not JSON: a sign of two halves"):
        opening.opened(path)
    table, _ = opening.read(opening.opened(path, skip=True))
    assert table["a"].to_pylist() == ["😀"]


def test_cells_of_json_are_json(tmp_path: Path) -> None:
    path = tmp_path / "in.ndjson"
    lines = ['{"a": NaN}', '{"a": "NaN"}', '{"a": [1, NaN, -Infinity]}', '{"a": Infinity}', '{"a": null}']
    path.write_text("\n".join(lines))
    table, _ = opening.read(opening.opened(path))

    def refuse(mark: str) -> None:
        raise AssertionError(mark)

    cells = [cell and json.loads(cell, parse_constant=refuse) for cell in table["a"].to_pylist()]
    assert cells == [None, "NaN", [1, None, "-Infinity"], "Infinity", None]
