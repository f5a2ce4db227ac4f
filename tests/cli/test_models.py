"""`surprisal models`, as processes: what is printed, what is changed, what is refused with which exit code."""

import shutil
from pathlib import Path

import pytest

from bundle import store
from tests.cli.test_commands import surprisal
from tests.conftest import NAME


@pytest.fixture(scope="module")
def three_versions(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one bundle in three versions; not to be changed."""
    root = tmp_path_factory.mktemp("versions") / "models"
    shutil.copytree(models, root)
    for version in ("2", "3"):
        shutil.copytree(root / NAME / "1", root / NAME / version)
    return root


@pytest.fixture
def root(three_versions: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(three_versions, tmp_path / "models")
    return tmp_path / "models"


def test_versions_are_promoted_gone_back_from_tried_out_listed_and_pruned(root: Path) -> None:
    promoted = surprisal("models", "promote", root / NAME / "1")
    assert promoted.stdout == f"{NAME} version 1 is served in place of version 3\n"
    assert surprisal("models", "rollback", root / NAME).stdout == f"{NAME} version 3 is served again\n"
    tried = surprisal("models", "shadow", root / NAME / "2")
    assert tried.stdout == f"{NAME} version 2 scores beside version 3\n"
    listed = surprisal("models", "list", root).stdout
    assert [line.split()[-2] for line in listed.splitlines() if NAME in line] == ["before", "shadow", "served"]
    assert surprisal("models", "shadow", root / NAME, "--off").stdout == f"{NAME} has no shadow\n"
    assert surprisal("models", "prune", root / NAME, "--keep", "1").stdout == f"deleted of {NAME}: 2\n"
    assert store.versions(root, NAME) == [1, 3]


def test_verify_names_what_would_be_refused(root: Path) -> None:
    assert surprisal("models", "verify", root / NAME / "2").stdout == f"{NAME} version 2: good\n"
    (root / NAME / "2" / "noise.npy").write_bytes(b"damaged")
    result = surprisal("models", "verify", root)
    assert result.returncode == 1
    assert [line.partition(": ")[2][:9] for line in result.stdout.splitlines()] == ["good", "noise.npy", "good"]
    assert result.stderr == "surprisal: 1 of 3 versions would be refused\n"
    assert "damaged: noise.npy" in surprisal("models", "list", root).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("promote", f"{NAME}/9"), "there is no version at"),
        (("rollback", "nobody"), "there is no model at"),
        (("shadow", f"{NAME}/3"), "is the one that is served"),
        (("verify", "nobody"), "there is no bundle at"),
    ],
)
def test_what_is_not_there_is_a_wrong_call(root: Path, arguments: tuple[str, str], said: str) -> None:
    command, path = arguments
    result = surprisal("models", command, root / path)
    assert result.returncode == 2
    assert said in result.stderr
    assert not (root / NAME / "serving.json").exists()


def test_an_empty_folder_and_a_damaged_choice_are_said(root: Path, tmp_path: Path) -> None:
    empty = surprisal("models", "list", tmp_path)
    assert (empty.returncode, "there is no model" in empty.stderr) == (1, True)
    (root / NAME / "serving.json").write_text("{")
    broken = surprisal("models", "prune", root / NAME)
    assert broken.returncode == 1
    assert "serving.json" in broken.stderr
    assert store.versions(root, NAME) == [1, 2, 3]


def test_a_path_of_the_wrong_kind_is_a_wrong_call(root: Path) -> None:
    for command, path in (("promote", root / NAME), ("rollback", root / NAME / "1"), ("prune", root), ("unpin", root)):
        result = surprisal("models", command, path)
        assert result.returncode == 2, command
        assert "is expected" in result.stderr
    assert not (root / NAME / "serving.json").exists()


def test_what_is_wrong_with_one_model_is_shown_beside_the_others(root: Path) -> None:
    shutil.copytree(root / NAME, root / "other")
    (root / NAME / "serving.json").write_text('{"version": 9}')
    listed = surprisal("models", "list", root)
    assert listed.returncode == 0
    assert "pins version 9" in listed.stdout
    assert "served" in listed.stdout
    assert (
        surprisal("models", "unpin", root / NAME).stdout == f"{NAME} version 3 is served, and newer ones as they come\n"
    )
