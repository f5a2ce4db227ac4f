"""Changes which version of a model is served. Every service that polls the folder follows."""

import shutil
from pathlib import Path

from bundle import serving, store
from bundle.errors import BundleNotFound
from bundle.serving import Serving


def promote(root: Path, name: str, version: int) -> int:
    """Serve a version from now on.

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
    store.load(root, name, version)
    before = _served(root, name)
    now = serving.read(root / name)
    previous = now.previous if before == version else before
    shadow = None if now.shadow == version else now.shadow
    serving.write(root / name, Serving(version=version, previous=previous, shadow=shadow))
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
        OSError: The folder cannot be written.
    """
    known, served = store.versions(root, name), store.served_version(root, name)
    previous = serving.read(root / name).previous
    if previous not in known:
        previous = max((version for version in known if version < served), default=None)
    if previous is None:
        raise BundleNotFound(f"{name} has no version before {served} to go back to")
    promote(root, name, previous)
    return previous


def shadow(root: Path, name: str, version: int | None) -> None:
    """Try a version out beside the one that is served, or stop doing so.

    Args:
        root: The models folder.
        name: The model's name.
        version: Verified first; None for none.

    Raises:
        BundleNotFound: No such model or version, or it is the one that is served.
        BundleRefused: The version is damaged.
        OSError: The folder cannot be written.
    """
    served = store.served_version(root, name)
    if version == served:
        raise BundleNotFound(f"version {version} of {name} is the one that is served; a shadow is another")
    if version is not None:
        store.load(root, name, version)
    now = serving.read(root / name)
    # Pinned, or a version that is newer than both would push the served one out.
    serving.write(root / name, now.model_copy(update={"version": served, "shadow": version}))


def set_loaded(root: Path, name: str, loaded: bool) -> None:
    """Take a model into service, or out of it.

    Raises:
        BundleNotFound: No such model.
        ManifestInvalid: `serving.json` is not what it should be.
        OSError: The folder cannot be written.
    """
    if not store.versions(root, name):
        raise BundleNotFound(f"there is no model {name!r} in {root}")
    now = serving.read(root / name)
    if now.loaded != loaded:
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
    known, served = store.versions(root, name), store.served_version(root, name)
    now = serving.read(root / name)
    wanted = {served, now.previous, now.shadow, *(known[-keep:] if keep else ())}
    unwanted = [version for version in known if version not in wanted]
    for version in unwanted:
        # Renamed first: a folder that is half deleted would be a version that is refused.
        doomed = (root / name / str(version)).rename(root / name / f".deleted-{version}")
        shutil.rmtree(doomed)
    return unwanted


def _served(root: Path, name: str) -> int | None:
    """The version that is served now; None where `serving.json` names one that is gone."""
    try:
        return store.served_version(root, name)
    except BundleNotFound:
        return None
