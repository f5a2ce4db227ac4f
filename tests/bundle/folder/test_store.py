"""Bundles on disk: what was written is what is loaded, and nothing half-written or damaged ever is."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from pydantic import ValidationError

from bundle.contents.manifest import Manifest
from bundle.errors import (
    BundleNotFound,
    DigestMismatch,
    ExternalData,
    FileMissing,
    FileRefused,
    ManifestInvalid,
    OnnxNotCanonical,
    SchemaTooNew,
)
from bundle.folder import store

FILES = {
    "scorer.onnx": b"\x08\x0a",
    "golden.json": b'{"cases": []}',
    "noise.npy": bytes(range(256)),
    "report.html": b"<p>\n",
}
BAD_NAMES = ["", ".", "..", ".hidden", "-x", "_x", "X", "paY", "a b", "a/b", "../x", "/x", "a\n", "a\\b", "é", "a\0"]
NAMES = ["pay", "7", "a", "0-0", "fraud.v2_eu-west", "a..b"]


@pytest.fixture
def root(tmp_path: Path, manifest: Manifest) -> Path:
    """A models folder that holds `pay` in version 1."""
    folder = tmp_path / "models"
    assert store.write(folder, "pay", manifest, FILES) == 1
    return folder


def test_what_was_written_is_loaded(tmp_path: Path, manifest: Manifest) -> None:
    root = tmp_path / "deep" / "models"
    version = store.write(root, "pay", manifest, FILES)
    bundle = store.load(root, "pay", version)
    assert (bundle.name, bundle.version, bundle.files) == ("pay", 1, FILES)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    assert bundle.manifest == manifest.model_copy(update={"files": digests, "digest": bundle.manifest.digest})
    assert bundle.manifest == Manifest.from_bytes((root / "pay" / "1" / "manifest.json").read_bytes())
    assert {path.name for path in (root / "pay" / "1").iterdir()} == {*FILES, "manifest.json"}


def test_others_may_read_what_was_written(root: Path) -> None:
    assert (root / "pay" / "1").stat().st_mode & 0o777 == 0o755


def test_the_next_version_is_one_above_the_newest_as_a_number(root: Path, manifest: Manifest) -> None:
    for version in range(2, 12):
        assert store.write(root, "pay", manifest, FILES) == version
    assert store.versions(root, "pay") == list(range(1, 12))
    assert store.served_version(root, "pay") == 11
    (root / "pay" / "3").rename(root / "pay" / "100")
    assert store.write(root, "pay", manifest, FILES) == 101
    assert store.write(root, "other", manifest, FILES) == 1


def test_only_folders_named_by_a_positive_number_are_versions(root: Path) -> None:
    for name in (".writing-x", ".2", "0", "02", "-2", "+2", "2a", "v2", "2.0", "٢", "2 ", "tmp"):
        (root / "pay" / name).mkdir()
    (root / "pay" / "5").write_text("a file")
    assert store.versions(root, "pay") == [1]


def test_a_file_named_like_the_next_version_is_stepped_over(root: Path, manifest: Manifest) -> None:
    (root / "pay" / "2").write_text("a file")
    files = {file: content for file, content in FILES.items() if file != "report.html"}
    asked: list[int] = []

    def report(version: int) -> bytes:
        asked.append(version)
        return f"<p>version {version}".encode()

    assert store.write(root, "pay", manifest, files, {"report.html": report}) == 3
    assert asked == [2, 3]
    assert store.load(root, "pay", 3).files == files | {"report.html": b"<p>version 3"}


def test_models_are_the_folders_with_a_good_name_and_a_version(root: Path, manifest: Manifest) -> None:
    store.write(root, "a-first", manifest, FILES)
    for name in (".hidden", "Upper", "empty"):
        (root / name).mkdir()
    (root / ".hidden" / "1").mkdir()
    (root / "Upper" / "1").mkdir()
    (root / "empty" / ".writing-1").mkdir()
    (root / "file").write_text("x")
    assert store.names(root) == ["a-first", "pay"]


def test_an_absent_folder_holds_no_models(tmp_path: Path) -> None:
    assert store.names(tmp_path / "none") == []
    assert store.versions(tmp_path / "none", "pay") == []
    with pytest.raises(BundleNotFound, match="there is no model 'pay'"):
        store.served_version(tmp_path / "none", "pay")
    for version in (1, 2):
        with pytest.raises(BundleNotFound, match=f"there is no version {version} of 'pay'"):
            store.load(tmp_path, "pay", version)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused_before_anything_is_written(tmp_path: Path, manifest: Manifest, name: str) -> None:
    assert not store.valid_name(name)
    with pytest.raises(ValueError, match="is no model name"):
        store.write(tmp_path / "models", name, manifest, FILES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_good_names_are_written_and_found(tmp_path: Path, manifest: Manifest, name: str) -> None:
    assert store.valid_name(name)
    store.write(tmp_path, name, manifest, FILES)
    assert store.names(tmp_path) == [name]
    assert store.resolve(tmp_path / name) == store.resolve(tmp_path / name / "1") == (tmp_path, name, 1)


@pytest.mark.parametrize("file", ["../x", "a/b", "", ".hidden", "/x", "a\\b"])
def test_files_outside_the_folder_are_refused_before_anything_is_written(
    tmp_path: Path, manifest: Manifest, file: str
) -> None:
    with pytest.raises(ValidationError, match="must not leave the bundle's folder"):
        store.write(tmp_path / "models", "pay", manifest, FILES | {file: b"x"})
    assert list(tmp_path.iterdir()) == []


def test_no_file_can_take_the_place_of_the_manifest(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(ValueError, match=r"manifest\.json"):
        store.write(tmp_path, "pay", manifest, FILES | {"manifest.json": b"{}"})
    assert store.names(tmp_path) == []


@pytest.mark.parametrize("file", FILES)
def test_a_flipped_byte_is_a_digest_mismatch_that_names_the_file(root: Path, file: str) -> None:
    path = root / "pay" / "1" / file
    content = path.read_bytes()
    for position in (0, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(DigestMismatch, match=f"^{file}: its bytes are not those that were written") as error:
            store.load(root, "pay", 1)
        assert error.value.file == file
    path.write_bytes(content)
    store.load(root, "pay", 1)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("change", [lambda content: content + b"\n", lambda content: content[:-1]])
def test_a_longer_or_shorter_file_is_a_digest_mismatch(root: Path, file: str, change: Callable[[bytes], bytes]) -> None:
    path = root / "pay" / "1" / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DigestMismatch, match=f"^{file}: "):
        store.load(root, "pay", 1)


def test_a_damaged_or_newer_manifest_is_refused(root: Path) -> None:
    path = root / "pay" / "1" / "manifest.json"
    document = path.read_bytes()
    path.write_bytes(document.replace(b"payments", b"payment5"))
    with pytest.raises(ManifestInvalid, match="does not match its own digest"):
        store.load(root, "pay", 1)
    path.write_bytes(document.replace(b'"schema_version": 4', b'"schema_version": 5'))
    with pytest.raises(SchemaTooNew):
        store.load(root, "pay", 1)


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(root: Path, file: str) -> None:
    (root / "pay" / "1" / file).unlink()
    with pytest.raises(FileMissing, match=f"^{file}: is not there; restore it or train again") as error:
        store.load(root, "pay", 1)
    assert error.value.file == file


@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_a_link_that_leaves_the_folder_is_refused_even_to_the_right_bytes(
    root: Path, tmp_path: Path, file: str
) -> None:
    path = root / "pay" / "1" / file
    for target in (tmp_path / "elsewhere", root / "pay" / file, root / "pay" / "1" / "folder" / file):
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
        path.unlink()
        path.symlink_to(os.path.relpath(target, path.parent))
        with pytest.raises(FileMissing, match=f"^{file}: is a link that leaves the bundle's folder"):
            store.load(root, "pay", 1)


def test_a_link_inside_the_folder_is_followed(root: Path) -> None:
    path = root / "pay" / "1" / "noise.npy"
    path.rename(path.with_name("noise-table"))
    path.symlink_to("noise-table")
    assert store.load(root, "pay", 1).files == FILES


@pytest.mark.parametrize("target", ["noise.npy", "absent", "."])
def test_a_link_to_itself_to_nothing_or_to_a_folder_is_refused(root: Path, target: str) -> None:
    path = root / "pay" / "1" / "noise.npy"
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(FileMissing, match=r"^noise.npy: "):
        store.load(root, "pay", 1)


def test_a_folder_in_place_of_a_file_is_refused(root: Path) -> None:
    (root / "pay" / "1" / "noise.npy").unlink()
    (root / "pay" / "1" / "noise.npy").mkdir()
    with pytest.raises(FileRefused, match=r"^noise.npy: cannot be read: it is no plain file but a folder"):
        store.load(root, "pay", 1)


def test_a_graph_with_data_elsewhere_is_refused_in_spite_of_its_digest(root: Path, manifest: Manifest) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../secret")
    graph = helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString()
    for file in ("scorer.onnx", "decoder.onnx"):
        version = store.write(root, "pay", manifest, FILES | {file: graph})
        with pytest.raises(ExternalData, match=f"^{file}: "):
            store.load(root, "pay", version)
    version = store.write(root, "pay", manifest, FILES | {"scorer.onnx": b"no graph"})
    with pytest.raises(OnnxNotCanonical, match=r"^scorer.onnx: is not an ONNX model"):
        store.load(root, "pay", version)


def pin(root: Path, content: object) -> None:
    document = content if isinstance(content, bytes) else json.dumps(content).encode()
    (root / "pay" / "serving.json").write_bytes(document)


def test_serving_json_pins_the_version(root: Path, manifest: Manifest) -> None:
    for _ in range(2):
        store.write(root, "pay", manifest, FILES)
    assert store.served_version(root, "pay") == 3
    for version in (2, 1, 3):
        pin(root, {"version": version})
        assert store.served_version(root, "pay") == version
        assert store.resolve(root / "pay") == (root, "pay", version)
        assert store.resolve(root / "pay" / "3") == (root, "pay", 3)
    assert store.versions(root, "pay") == [1, 2, 3]


@pytest.mark.parametrize("version", [2, 10**18])
def test_a_pinned_version_that_is_not_there_is_not_found(root: Path, version: int) -> None:
    pin(root, {"version": version})
    with pytest.raises(BundleNotFound, match=rf"serving.json pins version {version}, which is not there"):
        store.served_version(root, "pay")


@pytest.mark.parametrize(
    "content",
    [
        *[[], 1, None, "1", {"Version": 1}, [{"version": 1}]],
        *[{"version": "1"}, {"version": 1.5}, {"version": True}, {"version": [1]}, {"version": {}}],
        *[{"version": 0}, {"version": -1}],
        *[b"", b"{", b"\xff\xfe", b'{"version": 1}}', b"[" * 60_000],
    ],
    ids=lambda content: repr(content)[:20],
)
def test_a_serving_json_of_another_form_is_refused(root: Path, content: object) -> None:
    pin(root, content)
    with pytest.raises(ManifestInvalid, match=r'^serving.json: is not {"version": N}') as error:
        store.served_version(root, "pay")
    assert error.value.file == "serving.json"


def test_a_path_names_a_model_or_a_version(root: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(root, "pay", manifest, FILES)
    assert store.resolve(root / "pay") == (root, "pay", 2)
    assert store.resolve(root / "pay" / "1") == (root, "pay", 1)
    monkeypatch.chdir(root)
    assert store.resolve(Path("pay")) == (root, "pay", 2)
    assert store.resolve(Path("pay/1")) == (root, "pay", 1)
    monkeypatch.chdir(root / "pay")
    assert store.resolve(Path()) == (root, "pay", 2)
    assert store.resolve(Path("1")) == (root, "pay", 1)


@pytest.mark.parametrize("path", ["pay/1/../2", "pay/1/..", "other/../pay", "pay/../pay/2"])
def test_dots_in_a_path_do_not_become_the_name(root: Path, manifest: Manifest, path: str) -> None:
    store.write(root, "pay", manifest, FILES)
    store.write(root, "other", manifest, FILES)
    assert store.resolve(root / path)[1:] == ("pay", 2)


@pytest.mark.parametrize("path", ["", "none", "pay/3", "pay/1/scorer.onnx", "pay/1/manifest.json", "pay/one", "none/1"])
def test_a_path_to_anything_else_is_not_found(root: Path, path: str) -> None:
    with pytest.raises(BundleNotFound, match="models/NAME or models/NAME/VERSION is expected"):
        store.resolve(root / path)
