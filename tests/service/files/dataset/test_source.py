"""Which files IN names."""

from pathlib import Path

import pytest

from reading.errors import NotRead
from service.files.dataset import source


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder as programs leave it."""
    for name in (
        "2026/day-1.parquet",
        "2026/day-2.parquet",
        "2025/day-1.parquet",
        "day-0.parquet",
        "_SUCCESS",
        ".part.crc",
        "_temporary/x.parquet",
        "notes.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty.parquet").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["2025/day-1.parquet", "2026/day-1.parquet", "2026/day-2.parquet", "day-0.parquet"]),
        ("2026", ["day-1.parquet", "day-2.parquet"]),
        ("2026/day-2.parquet", ["day-2.parquet"]),
        ("*.parquet", ["day-0.parquet"]),
        ("*/day-1.parquet", ["2025/day-1.parquet", "2026/day-1.parquet"]),
        ("**/day-[!1].parquet", ["2026/day-2.parquet", "day-0.parquet"]),
        ("20?6/*", ["2026/day-1.parquet", "2026/day-2.parquet"]),
    ],
)
def test_a_folder_a_file_and_a_pattern(tree: Path, pattern: str, names: list[str]) -> None:
    for text in (f"{tree}/{pattern}", f"file://{tree}/{pattern}"):
        found = source.found(text)
        assert [each.path for each in found.entries] == names
        assert all(found.place.entry(each.path) == each for each in found.entries)


@pytest.mark.parametrize(
    ("rest", "path", "settings"),
    [
        ("bucket/in?region=eu-1", "bucket/in", "?region=eu-1"),
        (
            "bucket/day-?.csv?scheme=http&endpoint_override=127.0.0.1:9",
            "bucket/day-?.csv",
            "?scheme=http&endpoint_override=127.0.0.1:9",
        ),
        ("bucket/day-?.csv", "bucket/day-?.csv", ""),
        ("bucket/a?b=1/x.csv", "bucket/a?b=1/x.csv", ""),
    ],
)
def test_a_question_mark_stands_for_a_character_or_before_settings(rest: str, path: str, settings: str) -> None:
    assert source._apart(rest) == (path, settings)


def test_what_is_passed_over_is_counted(tree: Path) -> None:
    assert source.found(str(tree)).passed_over == {".md": 1}


def test_what_is_not_there_or_mixed_is_refused(tree: Path) -> None:
    with pytest.raises(NotRead, match=r"2024: there is no file that ends in"):
        source.found(f"{tree}/2024")
    (tree / "day-3.csv").write_text("a\n1\n")
    with pytest.raises(NotRead, match="holds files of several kinds"):
        source.found(str(tree))
