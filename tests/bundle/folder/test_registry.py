"""Which version is served: what is chosen, what is gone back to, what is deleted and what never is."""

import errno
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from bundle.contents.manifest import Manifest
from bundle.errors import BundleNotFound, DigestMismatch, ManifestInvalid
from bundle.folder import registry, serving, store
from bundle.folder.serving import Serving

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
    assert sorted(path.name for path in (root / "pay").iterdir()) == [".lock", "1", "2", "3", "4", "5", "serving.json"]


def test_the_file_is_for_people_too_and_others_may_read_it(root: Path) -> None:
    registry.promote(root, "pay", 2)
    file = root / "pay" / "serving.json"
    assert json.loads(file.read_text()) == {"version": 2, "previous": 5}
    assert file.stat().st_mode & 0o777 == 0o644


def test_changes_at_once_lose_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version is promoted while another is being verified as a shadow."""
    registry.promote(root, "pay", 5)
    verifying, begun, verified = threading.Event(), threading.Event(), store.load

    def slow(folder: Path, name: str, version: int) -> store.Bundle:
        if version == 4:
            verifying.set()
            begun.wait(30)
            time.sleep(0.2)  # for as long as the promotion has had to overtake it
        return verified(folder, name, version)

    promoting = threading.Thread(target=registry.promote, args=(root, "pay", 1))
    monkeypatch.setattr(store, "load", slow)
    trying = threading.Thread(target=registry.shadow, args=(root, "pay", 4))
    trying.start()
    verifying.wait(30)
    promoting.start()
    begun.set()
    trying.join()
    promoting.join()
    assert serving.read(root / "pay") == Serving(version=1, previous=5, shadow=4)


def test_a_pin_is_let_go_of(root: Path, manifest: Manifest) -> None:
    registry.promote(root, "pay", 2)
    registry.shadow(root, "pay", 4)
    assert registry.unpin(root, "pay") == 5
    assert serving.read(root / "pay") == Serving(previous=2)
    store.write(root, "pay", manifest, FILES)
    assert served(root) == 6
    assert registry.rollback(root, "pay") == 2


def test_taking_a_shadow_away_pins_nothing(root: Path) -> None:
    registry.shadow(root, "pay", None)
    assert serving.read(root / "pay") == Serving()


@pytest.mark.parametrize("damage", ["{", '{"version": 9}'])
def test_what_is_served_can_be_chosen_whatever_the_file_says(root: Path, damage: str) -> None:
    for mend in (lambda: registry.promote(root, "pay", 3), lambda: registry.unpin(root, "pay")):
        (root / "pay" / "serving.json").write_text(damage)
        mend()
        assert served(root) in (3, 5)


def test_with_a_pin_on_a_version_that_is_gone_the_rest_still_works(root: Path) -> None:
    serving.write(root / "pay", Serving(version=9, previous=3, shadow=4))
    assert registry.shadow(root, "pay", None) is None
    assert registry.prune(root, "pay", 2) == [1, 2]
    assert registry.rollback(root, "pay") == 3


def test_prune_takes_links_and_what_an_interrupted_one_left(root: Path, tmp_path: Path) -> None:
    (root / "pay" / ".deleted-x" / "3").mkdir(parents=True)
    (root / "pay" / "2").rename(tmp_path / "elsewhere")
    (root / "pay" / "2").symlink_to(tmp_path / "elsewhere")
    assert registry.prune(root, "pay", 1) == [1, 2, 3, 4]
    assert {path.name for path in (root / "pay").iterdir()} == {".lock", "5"}
    assert (tmp_path / "elsewhere" / "scorer.onnx").exists()


@pytest.mark.parametrize("name", ["..", ".", "a" * 300, "Pay", ""])
def test_nothing_is_written_beside_the_models(root: Path, name: str) -> None:
    (root.parent / "7").mkdir()
    (root / "7").mkdir()
    with pytest.raises(BundleNotFound):
        registry.set_loaded(root, name, loaded=False)
    assert not (root.parent / "serving.json").exists()
    assert not (root / "serving.json").exists()


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "too large"])
def test_a_serving_json_that_is_no_small_file_is_not_waited_for(root: Path, kind: str) -> None:
    file = root / "pay" / "serving.json"
    match kind:
        case "a pipe":
            os.mkfifo(file)
        case "a folder":
            file.mkdir()
        case _:
            file.write_text(" " * 10**6)
    with pytest.raises(OSError, match=r"no plain file|bytes"):
        serving.read(root / "pay")
