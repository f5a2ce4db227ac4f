"""Writing bundles: whole or not at all, on disk before it can be seen, and never over another writer's."""

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bundle.contents.manifest import Manifest
from bundle.folder import store

FILES = {"golden.json": b'{"cases": []}', "noise.npy": bytes(range(256))}
WRITERS = 8


@pytest.fixture
def root(tmp_path: Path, manifest: Manifest) -> Path:
    """A models folder that holds `pay` in version 1."""
    folder = tmp_path / "models"
    store.write(folder, "pay", manifest, FILES)
    return folder


class Disk:
    """Stands in for `os.fsync`: remembers what was made durable, and fails at one of its calls."""

    def __init__(self, fail_at: int | None = None, look: Callable[[], None] = lambda: None) -> None:
        self.fail_at, self.look = fail_at, look
        self.calls = 0
        self.durable: set[int] = set()

    def __call__(self, handle: int) -> None:
        self.look()
        if self.calls == self.fail_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.calls += 1
        self.durable.add(os.fstat(handle).st_ino)


STEPS = len(FILES) + 3  # every file, the manifest, the folder while staged, the folder of versions


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_as_many_steps_are_made_durable_as_these_tests_think(
    root: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk)
    store.write(root, "pay", manifest, FILES)
    assert disk.calls == STEPS


@pytest.mark.parametrize("step", range(STEPS))
def test_a_disk_that_fails_at_any_step_leaves_no_version_and_nothing_else(
    root: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    before = everything(root)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Disk(fail_at=step))
        with pytest.raises(OSError, match="No space left on device"):
            store.write(root, "pay", manifest, FILES)
    assert everything(root) == before
    assert store.write(root, "pay", manifest, FILES) == 2


def test_a_failed_first_write_leaves_no_model(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", Disk(fail_at=1))
    with pytest.raises(OSError, match="No space left on device"):
        store.write(tmp_path, "pay", manifest, FILES)
    assert store.names(tmp_path) == []
    assert [path for path in tmp_path.rglob("*") if path != tmp_path / "pay"] == []


def test_an_interrupted_write_leaves_nothing(root: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    before = everything(root)
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.write(root, "pay", manifest, FILES)
    assert everything(root) == before


def test_a_name_too_long_for_the_disk_leaves_nothing(root: Path, manifest: Manifest) -> None:
    before = everything(root)
    with pytest.raises(OSError, match="too long"):
        store.write(root, "pay", manifest, FILES | {"x" * 300: b""})
    assert everything(root) == before


def test_a_rename_that_fails_for_another_reason_is_no_endless_loop(
    root: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    before = everything(root)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        store.write(root, "pay", manifest, FILES)
    assert everything(root) == before


def test_at_every_step_only_whole_versions_are_seen(
    root: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look() -> None:
        versions = store.versions(root, "pay")
        seen.append(versions)
        for version in versions:
            assert store.load(root, "pay", version).files == FILES
        staged = {path.name for path in (root / "pay").iterdir()} - {str(version) for version in versions}
        assert all(name.startswith(".") for name in staged)
        assert len(staged) == (versions == [1])

    monkeypatch.setattr(os, "fsync", Disk(look=look))
    store.write(root, "pay", manifest, FILES)
    assert seen == [[1]] * (STEPS - 1) + [[1, 2]]


def test_every_byte_is_durable_before_the_version_is_seen_and_the_name_before_write_returns(
    root: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, rename = Disk(), os.rename

    def check(source: Path, target: Path) -> None:
        assert {path.stat().st_ino for path in (source, *source.iterdir())} == disk.durable
        rename(source, target)

    monkeypatch.setattr(os, "fsync", disk)
    monkeypatch.setattr(os, "rename", check)
    store.write(root, "pay", manifest, FILES)
    assert {path.stat().st_ino for path in (root / "pay", root / "pay" / "2")} < disk.durable


def test_writers_at_once_all_get_a_version_of_their_own(root: Path, manifest: Manifest) -> None:
    together = threading.Barrier(WRITERS)

    def write(writer: int) -> int:
        together.wait()
        return store.write(root, "pay", manifest, FILES | {"writer": b"%d" % writer})

    with ThreadPoolExecutor(WRITERS) as pool:
        versions = list(pool.map(write, range(WRITERS)))
    assert sorted(versions) == list(range(2, WRITERS + 2))
    for writer, version in enumerate(versions):
        assert store.load(root, "pay", version).files["writer"] == b"%d" % writer
    assert {path.name for path in (root / "pay").iterdir()} == {str(version) for version in (1, *versions)}


def test_a_writer_that_loses_the_rename_takes_the_next_number(
    root: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every writer believes that no version is there yet, as if all had looked at the same moment."""
    with monkeypatch.context() as patch:
        patch.setattr(store, "versions", lambda root, name: [])
        written = [store.write(root, "pay", manifest, FILES | {"writer": b"%d" % n}) for n in range(WRITERS)]
    assert written == list(range(2, WRITERS + 2))
    assert "writer" not in store.load(root, "pay", 1).files
    for writer, version in enumerate(written):
        assert store.load(root, "pay", version).files["writer"] == b"%d" % writer


def test_what_a_killed_writer_left_is_ignored(root: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed cleans up nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Disk(fail_at=2))
        patch.setattr("shutil.rmtree", lambda *args, **options: None)
        with pytest.raises(OSError, match="No space left on device"):
            store.write(root, "pay", manifest, FILES)
    assert len(list((root / "pay").iterdir())) == 2
    assert store.versions(root, "pay") == [1]
    assert store.names(root) == ["pay"]
    assert store.resolve(root / "pay") == (root, "pay", 1)
    assert store.write(root, "pay", manifest, FILES) == 2
