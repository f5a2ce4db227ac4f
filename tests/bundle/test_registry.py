"""Which version is served: what is chosen, what is gone back to, what is deleted and what never is."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from bundle import registry, serving, store
from bundle.errors import BundleNotFound, DigestMismatch, ManifestInvalid
from bundle.manifest import Manifest
from bundle.serving import Serving

FILES = {"scorer.onnx": b"\x08\x0a", "golden.json": b'{"cases": []}'}


@pytest.fixture
def root(tmp_path: Path, manifest: Manifest) -> Path:
    """A models folder that holds `pay` in versions 1 to 5."""
    for _ in range(5):
        store.write(tmp_path / "models", "pay", manifest, FILES)
    return tmp_path / "models"


def served(root: Path) -> int:
    return store.served_version(root, "pay")


def test_a_version_is_promoted_and_gone_back_from(root: Path) -> None:
    assert registry.promote(root, "pay", 3) == 5
    assert served(root) == 3
    assert registry.promote(root, "pay", 4) == 3
    assert registry.rollback(root, "pay") == 3
    assert registry.rollback(root, "pay") == 4, "back and forth"
    assert registry.promote(root, "pay", 4) == 4, "again, which changes nothing"
    assert serving.read(root / "pay") == Serving(version=4, previous=3)


def test_without_a_history_it_is_the_version_below(root: Path) -> None:
    assert registry.rollback(root, "pay") == 4
    shutil.rmtree(root / "pay" / "5")  # that was served before
    assert registry.rollback(root, "pay") == 3


def test_there_is_nothing_below_the_first(root: Path) -> None:
    for version in range(2, 6):
        shutil.rmtree(root / "pay" / str(version))
    with pytest.raises(BundleNotFound, match="no version before 1 to go back to"):
        registry.rollback(root, "pay")
    assert not (root / "pay" / "serving.json").exists()


def test_a_pin_on_a_version_that_is_gone_can_be_mended(root: Path) -> None:
    registry.promote(root, "pay", 2)
    shutil.rmtree(root / "pay" / "2")
    with pytest.raises(BundleNotFound):
        served(root)
    registry.promote(root, "pay", 3)
    assert served(root) == 3


def test_what_is_damaged_or_not_there_is_not_promoted(root: Path) -> None:
    (root / "pay" / "3" / "scorer.onnx").write_bytes(b"other")
    for change in (registry.promote, registry.shadow):
        with pytest.raises(DigestMismatch):
            change(root, "pay", 3)
        with pytest.raises(BundleNotFound):
            change(root, "pay", 9)
        with pytest.raises(BundleNotFound):
            change(root, "nobody", 1)
    assert served(root) == 5


def test_a_shadow_pins_what_is_served_and_ends_when_it_is_promoted(root: Path) -> None:
    registry.promote(root, "pay", 2)
    registry.shadow(root, "pay", 4)
    assert serving.read(root / "pay") == Serving(version=2, previous=5, shadow=4)
    registry.promote(root, "pay", 3)
    assert serving.read(root / "pay").shadow == 4
    registry.promote(root, "pay", 4)
    assert serving.read(root / "pay") == Serving(version=4, previous=3)
    with pytest.raises(BundleNotFound, match="is the one that is served"):
        registry.shadow(root, "pay", 4)
    registry.shadow(root, "pay", 5)
    registry.shadow(root, "pay", None)
    assert serving.read(root / "pay").shadow is None


def test_a_shadow_of_the_newest_keeps_serving_it(root: Path) -> None:
    registry.shadow(root, "pay", 4)
    assert served(root) == 5


def test_a_model_goes_out_of_service_and_comes_back_as_it_was(root: Path) -> None:
    registry.promote(root, "pay", 2)
    registry.set_loaded(root, "pay", loaded=False)
    assert serving.read(root / "pay") == Serving(version=2, previous=5, loaded=False)
    registry.set_loaded(root, "pay", loaded=True)
    assert serving.read(root / "pay") == Serving(version=2, previous=5)
    with pytest.raises(BundleNotFound):
        registry.set_loaded(root, "nobody", loaded=True)


def test_promoting_takes_a_model_back_into_service(root: Path) -> None:
    registry.set_loaded(root, "pay", loaded=False)
    registry.promote(root, "pay", 2)
    assert serving.read(root / "pay").loaded


@pytest.mark.parametrize(("keep", "deleted"), [(0, [3, 5]), (1, [3]), (2, [3]), (3, []), (9, [])])
def test_prune_deletes_no_version_that_is_of_use(root: Path, keep: int, deleted: list[int]) -> None:
    registry.promote(root, "pay", 1)
    registry.promote(root, "pay", 2)
    registry.shadow(root, "pay", 4)
    assert registry.prune(root, "pay", keep) == deleted
    assert store.versions(root, "pay") == [version for version in range(1, 6) if version not in deleted]
    assert not [path for path in (root / "pay").iterdir() if path.name.startswith(".deleted")]


def test_nothing_is_deleted_where_it_is_not_known_what_is_of_use(root: Path) -> None:
    (root / "pay" / "serving.json").write_text("{")
    with pytest.raises(ManifestInvalid):
        registry.prune(root, "pay", 0)
    assert store.versions(root, "pay") == [1, 2, 3, 4, 5]


def test_a_choice_is_written_whole_or_not_at_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.promote(root, "pay", 2)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        registry.promote(root, "pay", 3)
    assert served(root) == 2
    assert sorted(path.name for path in (root / "pay").iterdir()) == ["1", "2", "3", "4", "5", "serving.json"]


def test_the_file_is_for_people_too_and_others_may_read_it(root: Path) -> None:
    registry.promote(root, "pay", 2)
    file = root / "pay" / "serving.json"
    assert json.loads(file.read_text()) == {"version": 2, "previous": 5}
    assert file.stat().st_mode & 0o777 == 0o644
