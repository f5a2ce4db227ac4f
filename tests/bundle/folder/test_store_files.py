"""Files of a bundle that are no plain files, or larger than one may be: refused before anything is allocated."""

import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.contents.manifest import Manifest
from bundle.errors import BundleRefused, FileMissing, FileRefused, ManifestInvalid
from bundle.folder import plain_file, store
from tests.bundle.folder.test_store import FILES

ALL = ["manifest.json", *FILES]


@pytest.fixture
def folder(tmp_path: Path, manifest: Manifest) -> Path:
    """Of version 1 of `pay`."""
    store.write(tmp_path, "pay", manifest, FILES)
    return tmp_path / "pay" / "1"


def load(folder: Path) -> store.Bundle:
    return store.load(folder.parents[1], "pay", 1)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


SPECIAL: dict[str, Callable[[Path], None]] = {"pipe": os.mkfifo, "folder": os.mkdir, "socket": a_socket}


@pytest.mark.parametrize("file", ALL)
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(folder: Path, kind: str, file: str, linked: bool) -> None:
    (folder / file).unlink()
    if linked:
        (folder / file).symlink_to("other")
    SPECIAL[kind](folder / ("other" if linked else file))
    with pytest.raises(FileRefused, match=f"^{file}: cannot be read: it is no plain file but a {kind}") as refusal:
        load(folder)
    # What is an error of the file system may pass, and is tried again each second.
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty", "/dev/stdin"])
def test_a_device_is_refused(folder: Path, device: str) -> None:
    if Path(device).is_char_device():
        with pytest.raises(plain_file.Unsuitable, match="no plain file but a device"):
            plain_file.read(Path(device), 10)
    (folder / "noise.npy").unlink()
    (folder / "noise.npy").symlink_to(device)
    with pytest.raises(BundleRefused, match=r"^noise\.npy: "):
        load(folder)


@pytest.mark.parametrize("file", ALL)
def test_a_file_that_says_it_is_large_takes_no_memory(folder: Path, file: str) -> None:
    limit = store.most_bytes(file)
    with (folder / file).open("r+b") as content:
        content.truncate(limit + 1)
    tracemalloc.start()
    with pytest.raises(FileRefused, match=f"^{file}: cannot be read: it has {limit + 1:,} bytes, more than {limit:,}"):
        load(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_every_kind_of_file_has_its_limit_and_may_reach_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(FILES["noise.npy"])
    monkeypatch.setitem(store.MOST_BYTES, ".npy", size)
    assert load(folder).files == FILES
    monkeypatch.setitem(store.MOST_BYTES, ".npy", size - 1)
    with pytest.raises(FileRefused, match=r"^noise\.npy"):
        load(folder)


def test_a_version_as_a_whole_has_a_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum((folder / file).stat().st_size for file in ALL)
    monkeypatch.setattr(store, "MOST_BUNDLE_BYTES", size)
    assert load(folder).files == FILES
    monkeypatch.setattr(store, "MOST_BUNDLE_BYTES", size - 1)
    with pytest.raises(FileRefused, match=r"bytes, more than"):
        load(folder)


def test_a_manifest_of_very_many_files_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    for count, good in ((store.MOST_FILES, True), (store.MOST_FILES + 1, False)):
        version = store.write(tmp_path, "many", manifest, {f"f{index}": b"" for index in range(count)})
        if good:
            assert len(store.load(tmp_path, "many", version).files) == count
        else:
            with pytest.raises(FileRefused, match=r"^manifest\.json: lists 65 files"):
                store.load(tmp_path, "many", version)


def test_nothing_is_written_that_would_not_be_read(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store.MOST_BYTES, ".npy", 10)
    with pytest.raises(FileRefused, match=r"^noise\.npy: has 11 bytes; 10 at most"):
        store.write(tmp_path, "pay", manifest, {"noise.npy": bytes(11)})
    assert list(tmp_path.iterdir()) == []


def test_the_signature_and_the_manifest_are_no_files_that_a_manifest_lists(tmp_path: Path, manifest: Manifest) -> None:
    for file in ("manifest.sig", "manifest.json"):
        with pytest.raises(ValueError, match=rf"{file}"):
            store.write(tmp_path, "pay", manifest, {file: b""})


@pytest.mark.parametrize("content", [b"[" * 3_000_000, b"[" * 900_000, b"[]," * 900_000, b'{"a":' * 900_000])
def test_a_manifest_of_brackets_is_refused_at_once(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestInvalid):
        load(folder)


def test_a_file_is_read_once_so_that_what_is_compared_is_what_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[str, bytes]] = []
    read = plain_file.read

    def counted(path: Path, most: int, **options: bool) -> bytes:
        content = read(path, most, **options)
        reads.append((path.name, content))
        path.write_bytes(b"exchanged as soon as it was read")
        return content

    monkeypatch.setattr(plain_file, "read", counted)
    bundle = load(folder)
    assert sorted(name for name, _ in reads) == sorted(ALL)
    for name, content in reads:
        assert content is (bundle.document if name == "manifest.json" else bundle.files[name])


def test_a_link_that_is_put_there_meanwhile_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "link").symlink_to("secret")
    assert plain_file.read(tmp_path / "link", 10) == b"x"
    with pytest.raises(OSError, match="symbolic link"):
        plain_file.read(tmp_path / "link", 10, follow=False)


def test_a_file_that_grows_while_it_is_read_is_no_file_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What /proc gives says that it has nothing, as a file that is just being written may."""
    with pytest.raises(OSError, match="changed while it was read"):
        plain_file.read(Path("/proc/self/status"), 2**20)
    (tmp_path / "f").write_bytes(b"abc")
    stat = os.stat_result((*os.stat_result((tmp_path / "f").stat())[:6], 5, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda handle: stat)
    with pytest.raises(OSError, match="changed while it was read"):
        plain_file.read(tmp_path / "f", 10)


def test_what_the_memory_does_not_hold_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(plain_file, "read", none)
    with pytest.raises(FileRefused, match=r"^manifest\.json: is larger than the memory"):
        load(folder)


def test_a_file_in_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(bytes(range(256)) * 10)
    read = os.read
    monkeypatch.setattr(os, "read", lambda handle, size: read(handle, min(size, 100)))
    assert plain_file.read(tmp_path / "f", 2560) == bytes(range(256)) * 10
    with pytest.raises(FileNotFoundError):
        plain_file.read(tmp_path / "g", 10)


def test_a_missing_file_may_come(folder: Path) -> None:
    (folder / "noise.npy").unlink()
    with pytest.raises(FileMissing) as refusal:
        load(folder)
    assert isinstance(refusal.value.__cause__, OSError)
