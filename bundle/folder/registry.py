"""Changes which version of a model is served, one change at a time. Every service that polls the folder follows."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bundle.errors import BundleNotFound, ManifestInvalid
from bundle.folder import serving, store
from bundle.folder.serving import Serving

LOCK = ".lock"
_DELETED = ".deleted-"


def promote(root: Path, name: str, version: int) -> int:
    """Serve a version from now on; a `serving.json` that cannot be understood is replaced.

    Args:
        root: The models folder.
        name: The model's name.
        version: Verified byte by byte first.

    Returns:
        The version that was served before.

    Raises:
        BundleNotFound: No such model or version.
        BundleRefused: The version is damaged.
        OSError: The folder cannot be written.
    """
    with _alone(root, name):
        try:
            now = serving.read(root / name)
            before = _served(root, name, now)
        except ManifestInvalid:
            now, before = Serving(), None
        _serve(root, name, version, now, before)
    return version if before is None else before


def rollback(root: Path, name: str) -> int:
    """Serve again what was served before, or else the version below.

    Args:
        root: The models folder.
        name: The model's name.

    Returns:
        The version that is served now.

    Raises:
        BundleNotFound: There is none to go back to.
        BundleRefused: The version is damaged.
        ManifestInvalid: `serving.json` is not what it should be, so that nobody knows what was before.
        OSError: The folder cannot be written.
    """
    with _alone(root, name):
        now, known = serving.read(root / name), store.versions(root, name)
        served = now.version or known[-1]
        previous = now.previous
        if previous not in known:
            previous = max((version for version in known if version < served), default=None)
        if previous is None:
            raise BundleNotFound(f"{name} has no version before {served} to go back to")
        _serve(root, name, previous, now, _served(root, name, now))
    return previous


def shadow(root: Path, name: str, version: int | None) -> int | None:
    """Try a version out beside the one that is served, or stop doing so.

    Args:
        root: The models folder.
        name: The model's name.
        version: Verified first; None for none.

    Returns:
        The version that is served, which is pinned from now on where there is a shadow; None where it is gone.

    Raises:
        BundleNotFound: No such model or version, or it is the one that is served.
        BundleRefused: The version is damaged.
        ManifestInvalid: `serving.json` is not what it should be.
        OSError: The folder cannot be written.
    """
    with _alone(root, name):
        now = serving.read(root / name)
        served = _served(root, name, now)
        if version is None:
            serving.write(root / name, now.model_copy(update={"shadow": None}))
            return served
        if version == served:
            raise BundleNotFound(f"version {version} of {name} is the one that is served; a shadow is another")
        store.load(root, name, version)
        # Pinned, or a version that is newer than both would push the served one out.
        pinned = now.version if served is None else served
        serving.write(root / name, now.model_copy(update={"version": pinned, "shadow": version}))
    return served


def unpin(root: Path, name: str) -> int:
    """Serve the newest version, and each that is newer as it comes.

    Returns:
        The version that is served now.

    Raises:
        BundleNotFound: No such model.
        BundleRefused: The newest version is damaged.
        OSError: The folder cannot be written.
    """
    with _alone(root, name):
        try:
            now = serving.read(root / name)
        except ManifestInvalid:
            now = Serving()
        newest = store.versions(root, name)[-1]
        store.load(root, name, newest)
        served = _served(root, name, now)
        previous = now.previous if served in (None, newest) else served
        serving.write(root / name, Serving(previous=previous))
    return newest


def set_loaded(root: Path, name: str, loaded: bool) -> None:
    """Take a model into service, or out of it.

    Raises:
        BundleNotFound: No such model.
        ManifestInvalid: `serving.json` is not what it should be.
        OSError: The folder cannot be written.
    """
    # Nothing is written where nothing changes, so that a folder may be read-only.
    if store.versions(root, name) and serving.read(root / name).loaded == loaded:
        return
    with _alone(root, name):
        now = serving.read(root / name)
        serving.write(root / name, now.model_copy(update={"loaded": loaded}))


def prune(root: Path, name: str, keep: int) -> list[int]:
    """Delete old versions, never one that `serving.json` names or that is served.

    Args:
        root: The models folder.
        name: The model's name.
        keep: How many of the newest stay besides.

    Returns:
        The versions that were deleted.

    Raises:
        BundleNotFound: No such model.
        ManifestInvalid: `serving.json` is not what it should be, so that nothing is deleted.
        OSError: A folder cannot be deleted.
    """
    with _alone(root, name):
        folder = root / name
        for left_over in folder.glob(f"{_DELETED}*"):
            shutil.rmtree(left_over, ignore_errors=True)
        known, now = store.versions(root, name), serving.read(folder)
        wanted = {_served(root, name, now), now.previous, now.shadow, *(known[-keep:] if keep else ())}
        unwanted = [version for version in known if version not in wanted]
        if unwanted:
            # Moved first: a folder that is half deleted would be a version that is refused.
            doomed = Path(tempfile.mkdtemp(prefix=_DELETED, dir=folder))
            for version in unwanted:
                (folder / str(version)).rename(doomed / str(version))
            shutil.rmtree(doomed, ignore_errors=True)
    return unwanted


def _serve(root: Path, name: str, version: int, now: Serving, before: int | None) -> None:
    store.load(root, name, version)
    previous = now.previous if before == version else before
    shadow = None if now.shadow == version else now.shadow
    serving.write(root / name, Serving(version=version, previous=previous, shadow=shadow))


def _served(root: Path, name: str, now: Serving) -> int | None:
    """The version that is served; None where `serving.json` names one that is gone."""
    known = store.versions(root, name)
    if now.version is None:
        return known[-1]
    return now.version if now.version in known else None


@contextlib.contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
    """Nobody else changes which version of this model is served meanwhile.

    Raises:
        BundleNotFound: No such model.
        OSError: The folder cannot be written.
    """
    if not store.versions(root, name):
        raise BundleNotFound(f"there is no model {name!r} in {root}")
    try:
        import fcntl
    except ImportError:  # no Unix, and no such lock
        yield
        return
    handle = os.open(root / name / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    try:
        with contextlib.suppress(PermissionError):  # whoever made it has seen to that
            os.fchmod(handle, 0o666)  # whoever may write the folder, as another user too
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
