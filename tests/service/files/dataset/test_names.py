"""Names of places and files by which rows would be lost, multiplied, or scored again, or secrets be shown."""

import os
from pathlib import Path

import pytest

from reading.errors import NotRead
from service.files.dataset import source
from service.files.dataset.place import Place, PlaceInvalid, without_secrets


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize("out", ["in/deep/../out", "link/out", "../{name}/in/out"])
def test_an_out_within_in_is_seen_through_other_names(tmp_path: Path, out: str) -> None:
    written(tmp_path / "in" / "deep" / "a.parquet")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    place = Place.of(f"{tmp_path}/{out.format(name=tmp_path.name)}")
    for named in ("in", "link", "in/deep/.."):
        assert source.found(f"{tmp_path}/{named}").holds(place)
    assert not source.found(f"{tmp_path}/in").holds(Place.of(f"{tmp_path}/in/../out"))


def test_a_pattern_holds_an_out_whose_results_have_its_form(tmp_path: Path) -> None:
    written(tmp_path / "in" / "a.parquet")
    written(tmp_path / "in" / "b.csv")
    out = Place.of(f"{tmp_path}/in/out")
    assert source.found(f"{tmp_path}/in/**/*.parquet").holds(out)
    assert not source.found(f"{tmp_path}/in/*.parquet").holds(out)
    assert not source.found(f"{tmp_path}/in/**/*.csv").holds(out)


def test_links_to_folders_are_not_followed_and_are_said(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").symlink_to(tmp_path / "a.parquet")
    (tmp_path / "loop").symlink_to(".")
    found = source.found(str(tmp_path))
    assert [each.path for each in found.entries] == ["a.parquet", "b.parquet"]
    assert found.passed_over == {"loop": 1}
    assert all(found.place.entry(each.path) == each for each in found.entries)


def test_a_link_to_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").symlink_to(tmp_path / "gone.parquet")
    with pytest.raises(NotRead, match=r"b\.parquet: is a link to a file that is not there"):
        source.found(str(tmp_path))


def test_a_number_sign_is_refused_in_a_uri(tmp_path: Path) -> None:
    written(tmp_path / "in" / "a.parquet")
    written(tmp_path / "in#b" / "b.parquet")
    with pytest.raises(PlaceInvalid, match="# is written as %23"):
        source.found(f"file://{tmp_path}/in#b")
    (entry,) = source.found(f"file://{tmp_path}/in%23b").entries
    assert entry.path == "b.parquet"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAXX:abc/defSECRET@bucket/in",
        "s3://AKIAXX:123/defSECRET@bucket/in",
        "s3://AKIAXX:abc#defSECRET@bucket/in",
        "s3://AKIAXX:a@c/defSECRET@bucket/in",
        "s3://AKIAXX:[/SECRET@bucket/in",
        "s3://AKIAXX:a/[SECRET@bucket/in",
    ],
)
def test_keys_with_letters_of_a_uri_are_not_shown(uri: str) -> None:
    assert without_secrets(uri) == "s3://bucket/in"
    with pytest.raises(PlaceInvalid) as refused:
        source.found(uri)
    assert "AKIAXX" not in str(refused.value)
    assert "SECRET" not in str(refused.value)
    assert "%2F" in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://bucket/a@b/in", "s3://bucket/a@b/in"),
        ("s3://bucket/in?region=eu-1&session_token=abc", "s3://bucket/in?region=eu-1"),
        ("s3://[bucket/in", "s3://[bucket/in"),
    ],
)
def test_what_is_no_secret_is_shown(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("x[1.csv*", ["x[1.csv"]),
        ("[d-*", []),
        ("[z-a].csv", []),
        ("[^].csv", ["^.csv"]),
        ("[!]]*.csv", ["^.csv", "a]b.csv", "x[1.csv"]),
        ("a[]]b.csv", ["a]b.csv"]),
    ],
)
def test_brackets_of_patterns_are_read_as_a_shell_reads_them(tmp_path: Path, pattern: str, names: list[str]) -> None:
    for name in ("x[1.csv", "^.csv", "a]b.csv"):
        written(tmp_path / name)
    if names:
        assert [each.path for each in source.found(f"{tmp_path}/{pattern}").entries] == names
    else:
        with pytest.raises(NotRead, match="nothing is there"):
            source.found(f"{tmp_path}/{pattern}")


def test_a_path_that_is_there_is_no_pattern(tmp_path: Path) -> None:
    written(tmp_path / "data [new]" / "a.csv")
    written(tmp_path / "data n" / "b.csv")
    for named in ("data [new]", "data [new]/a.csv"):
        assert [each.path for each in source.found(f"{tmp_path}/{named}").entries] == ["a.csv"]


def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.csv")
    written(tmp_path / os.fsdecode(b"caf\xe9"))
    assert source.found(str(tmp_path)).passed_over == {"caf\\xe9": 1}
    written(tmp_path / os.fsdecode(b"caf\xe9.csv"))
    with pytest.raises(NotRead, match=r"caf\\xe9\.csv: its name is no UTF-8"):
        source.found(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("", b"", "nothing is there"),
        ("a.csv", b"", "are empty"),
        ("_a.csv", b"x", "is hidden"),
        ("a.png", b"x", "name a file for OUT"),
        ("a.npz", b"x", "name a file for OUT"),
        ("a.xlsx", b"x", r"end in \.xlsx"),
    ],
)
def test_it_is_said_what_is_there_in_place_of_records(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    if name:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(NotRead, match=f"there is no file that ends in .*; .*{told}"):
        source.found(str(tmp_path))


def test_notes_beside_records_are_passed_over(tmp_path: Path) -> None:
    written(tmp_path / "README.txt")
    assert [each.path for each in source.found(str(tmp_path)).entries] == ["README.txt"]
    written(tmp_path / "a.parquet")
    found = source.found(str(tmp_path))
    assert [each.path for each in found.entries] == ["a.parquet"]
    assert found.passed_over == {".txt": 1}


def test_an_out_below_a_file_is_named(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv")
    with pytest.raises(OSError, match=r"a\.csv/out"):
        Place.of(f"{file}/out").entries()
