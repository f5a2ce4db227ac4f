"""Bundles on disk: `models/<name>/<version>/`, written beside, checked, then renamed into place."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from bundle import wording
from bundle.contents import manifest as manifests
from bundle.contents.manifest import Manifest
from bundle.errors import BundleNotFound, BundleRefused, DigestMismatch, FileMissing, FileRefused
from bundle.folder import durable_file, onnx_file, plain_file, serving

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_LONGEST_NAME = 255
"""What file systems take."""
_VERSION = re.compile(r"[1-9][0-9]*")
MOST_BYTES = {
    manifests.FILE_NAME: manifests.MOST_BYTES,
    ".onnx": 2**30,
    ".npz": 256 * 2**20,
    ".npy": 64 * 2**20,
    ".json": 256 * 2**20,
}
"""What a file may have, by its name or its ending. Graphs of VAEs are megabytes, and protobuf itself ends at 2 GiB;
10 000 held-out records make a calibration of 3 MiB; 65 000 latent dimensions make a noise table of 64 MiB; the golden
records of images of 1024 x 1024 in colour hold sixteen of them as levels, in 230 MiB."""
_MOST_OTHER_BYTES = 256 * 2**20
"""What any other file may have: the report, with its pictures."""
MOST_BUNDLE_BYTES = 3 * 2**29
"""What all files of a version may have, which are held at once while it is loaded."""
MOST_FILES = 64
"""Files that a manifest may list; there are eight."""
_NONE: Mapping[str, Callable[[int], bytes]] = MappingProxyType({})


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every byte was compared with its manifest.

    Args:
        name: The model's name.
        version: Its version.
        manifest: What it promises.
        files: Content of every file that the manifest lists.
        document: The bytes of `manifest.json`.
    """

    name: str
    version: int
    manifest: Manifest
    files: Mapping[str, bytes]
    document: bytes


def valid_name(name: str) -> bool:
    """Whether a model may be called that: lower-case letters, digits, `.`, `_` and `-`, the first no sign."""
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None


def names(root: Path) -> list[str]:
    """Models that have at least one version, sorted."""
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if valid_name(path.name) and versions(root, path.name))


def versions(root: Path, name: str) -> list[int]:
    """Versions of a model, lowest first."""
    folder = root / name
    if not valid_name(name) or not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if _VERSION.fullmatch(path.name) and path.is_dir())


def served_version(root: Path, name: str) -> int:
    """The version that `serving.json` pins, else the newest.

    Raises:
        BundleNotFound: No such model, or the pinned version is not there.
        ManifestInvalid: `serving.json` is not what it should be.
    """
    known = versions(root, name)
    if not known:
        raise BundleNotFound(f"there is no model {name!r} in {root}")
    pinned = serving.read(root / name).version
    if pinned is None:
        return known[-1]
    if pinned not in known:
        raise BundleNotFound(f"{root / name / serving.FILE_NAME} pins version {pinned}, which is not there")
    return pinned


def resolve(path: Path) -> tuple[Path, str, int]:
    """Understand `models/<name>` (the served version) or `models/<name>/<version>`.

    Returns:
        The models folder, the name and the version.

    Raises:
        BundleNotFound: No such folder.
    """
    folder = Path(os.path.abspath(path))  # noqa: PTH100 - unlike resolve, it keeps the name that a link was given
    if _VERSION.fullmatch(folder.name) and (folder / manifests.FILE_NAME).exists():
        return folder.parent.parent, folder.parent.name, int(folder.name)
    if not versions(folder.parent, folder.name):
        raise BundleNotFound(
            f"there is no bundle at {path}: models/NAME or models/NAME/VERSION is expected{_near(folder)}"
        )
    return folder.parent, folder.name, served_version(folder.parent, folder.name)


def load(root: Path, name: str, version: int) -> Bundle:
    """Read a bundle and verify every byte of it.

    Raises:
        BundleNotFound: No such version.
        BundleRefused: A file is missing, damaged, too new, or keeps data elsewhere.
    """
    folder = root / name / str(version)
    if not folder.is_dir():
        raise BundleNotFound(f"there is no version {version} of {name!r} in {root}")
    try:
        return _verified(folder, name, version)
    except BundleRefused as error:
        error.folder = folder
        raise


def _near(folder: Path) -> str:
    """Which bundles there are near a folder that is none."""
    for root in (folder, folder.parent, folder.parent.parent):
        if found := names(root):
            return (
                wording.like(folder.name, found) if root == folder.parent else f"; {root.name} has {', '.join(found)}"
            )
    return ""


def _verified(folder: Path, name: str, version: int) -> Bundle:
    document = _read(folder, manifests.FILE_NAME, MOST_BUNDLE_BYTES)
    manifest = Manifest.from_bytes(document)
    if len(manifest.files) > MOST_FILES:
        raise FileRefused(manifests.FILE_NAME, f"lists {len(manifest.files)} files; {MOST_FILES} at most are read")
    files, left = {}, MOST_BUNDLE_BYTES - len(document)
    for file, digest in manifest.files.items():
        # Read once: what is compared, walked and run later are the same bytes.
        files[file] = content = _read(folder, file, left)
        left -= len(content)
        if hashlib.sha256(content).hexdigest() != digest:
            raise DigestMismatch(file, "its bytes are not those that were written; restore it or train again")
        if file.endswith(".onnx"):
            onnx_file.refuse_external_data(file, content)
    return Bundle(name, version, manifest, files, document)


def most_bytes(file: str) -> int:
    """What a file of a bundle may have."""
    return MOST_BYTES.get(file) or MOST_BYTES.get(Path(file).suffix, _MOST_OTHER_BYTES)


def _read(folder: Path, file: str, left: int) -> bytes:
    """A file of a bundle, of which no more than `left` bytes may be read."""
    path = folder / file
    try:
        target = path.resolve()
        if path.is_symlink() and target.parent != folder.resolve():
            raise FileMissing(file, "is a link that leaves the bundle's folder")
        content = plain_file.read(target, min(most_bytes(file), left), follow=False)
    except RuntimeError as error:
        raise FileMissing(file, "is a link that leads to itself") from error
    except FileNotFoundError as error:
        raise FileMissing(file, "is not there; restore it or train again") from error
    except plain_file.Unsuitable as error:
        # Not from it: what the file system refuses is tried again, and this is of the bundle's own.
        raise FileRefused(file, f"cannot be read: {error.strerror}; write the bundle again") from None
    except OSError as error:
        raise FileMissing(file, f"cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise FileRefused(file, "is larger than the memory that there is") from error
    return content


def write(
    root: Path,
    name: str,
    manifest: Manifest,
    files: Mapping[str, bytes],
    numbered: Mapping[str, Callable[[int], bytes]] = _NONE,
) -> int:
    """Write a new version, whole or not at all.

    Args:
        root: The models folder; made if need be.
        name: The model's name.
        manifest: Its `files` and `digest` are filled in here.
        files: Content by file name.
        numbered: Of files that name the version, how their content is made with it.

    Returns:
        The version: one above the newest, or above whichever another writer took meanwhile.

    Raises:
        ValueError: Not a model's name.
        FileRefused: A file is larger than what would be read again.
        OSError: The disk is full, or the folder cannot be written.
    """
    if not valid_name(name):
        raise ValueError(f"{name!r} is no model name: lower-case letters, digits, '.', '_' and '-' are")
    if manifests.FILE_NAME in {*files, *numbered}:
        raise ValueError(f"{manifests.FILE_NAME} is written here")
    _refuse_large(files)
    manifest = Manifest.model_validate(manifest.model_dump() | {"files": dict.fromkeys([*files, *numbered], "")})
    (root / name).mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=root / name))
    visible = staging
    try:
        staging.chmod(0o755)
        for file, content in files.items():
            durable_file.write(staging / file, content)
        version = (versions(root, name) or [0])[-1] + 1
        while True:
            _write_numbered(staging, version, manifest, files, numbered)
            try:
                visible = staging.rename(root / name / str(version))
                break
            except OSError:
                if not (root / name / str(version)).exists():
                    raise
                version += 1
        durable_file.sync_folder(root / name)
    except BaseException:
        shutil.rmtree(visible, ignore_errors=True)
        raise
    return version


def _write_numbered(
    staging: Path,
    version: int,
    manifest: Manifest,
    files: Mapping[str, bytes],
    numbered: Mapping[str, Callable[[int], bytes]],
) -> None:
    """The files that name the version, and the manifest, which lists them all."""
    made = {file: content(version) for file, content in numbered.items()}
    _refuse_large(made)
    digests = {file: hashlib.sha256(content).hexdigest() for file, content in sorted({**files, **made}.items())}
    complete = manifest.model_copy(update={"files": digests})
    for file, content in {**made, manifests.FILE_NAME: complete.to_bytes()}.items():
        durable_file.write(staging / file, content)
    durable_file.sync_folder(staging)


def _refuse_large(files: Mapping[str, bytes]) -> None:
    for file, content in files.items():
        if len(content) > most_bytes(file):
            raise FileRefused(file, f"has {len(content):,} bytes; {most_bytes(file):,} at most are read")
