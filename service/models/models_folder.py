"""What the models folder says is to be served, looked at without waiting for a disk that does not answer."""

import asyncio
import itertools
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bundle.errors import BundleError
from bundle.folder import serving, store
from service.models import daemon_thread

LOOK_SECONDS = 5.0
"""A folder that has not answered after this long is named, and the others are followed without it."""


@dataclass(frozen=True)
class Look:
    """What one model's folder says.

    Args:
        loaded: Whether it is to be served.
        version: Which version is; 0 where none.
        shadow: Which is to be tried out beside it.
        folders: How the folders of these versions look; None where they cannot be looked at.
        there: All versions.
    """

    loaded: bool
    version: int
    shadow: int | None
    folders: dict[int, object]
    there: frozenset[int]


class Folder:
    """Looks at the models folder, at each model by itself.

    Args:
        root: Where.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._numbers = itertools.count(1)
        self._newest: dict[str, int] = {}
        self._listing: asyncio.Task[list[str]] | None = None
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def names(self) -> list[str] | None:
        """Names of what may be a model, sorted; None where the folder does not answer."""
        if self._listing is None or self._listing.done():
            self._listing = asyncio.create_task(daemon_thread.run(_names, self._root, name="lists-models"))
        listing = self._listing
        done, _ = await asyncio.wait({listing}, timeout=LOOK_SECONDS)
        return listing.result() if done else None

    async def look(self, names: Iterable[str], seen: Callable[[str, Look | Exception | None], None]) -> list[str]:
        """Look at models.

        Args:
            names: Of the models.
            seen: Told what each says, now or once it answers: None where there is no version of it, an error where its
                files are at fault. A look that began before another of the same model tells nothing after it.

        Returns:
            Those that do not answer.
        """
        begun = {}
        silent = []
        for name in names:
            if name in self._looking:
                silent.append(name)
            else:
                begun[asyncio.create_task(self._one(name, next(self._numbers), seen))] = name
        if begun:
            done, late = await asyncio.wait(begun, timeout=LOOK_SECONDS)
            for task in late:
                self._looking[begun[task]] = task
                silent.append(begun[task])
            for task in done:
                task.result()
        return silent

    def close(self) -> None:
        """Leave behind what does not answer."""
        for task in (self._listing, *self._looking.values()):
            if task is not None:
                task.cancel()

    async def _one(self, name: str, number: int, seen: Callable[[str, Look | Exception | None], None]) -> None:
        found: Look | Exception | None
        try:
            found = await daemon_thread.run(_look, self._root, name, name=f"looks-at-{name}")
        except (BundleError, OSError) as error:
            found = error
        finally:
            self._looking.pop(name, None)
        if number > self._newest.get(name, 0):
            self._newest[name] = number
            seen(name, found)


def _names(root: Path) -> list[str]:
    try:
        return sorted(filter(store.valid_name, os.listdir(root)))  # noqa: PTH208 - names are all that is looked at
    except (FileNotFoundError, NotADirectoryError):
        return []


def _look(root: Path, name: str) -> Look | None:
    there = frozenset(store.versions(root, name))
    if not there:
        return None
    wanted = serving.read(root / name)
    if not wanted.loaded:
        return Look(False, 0, None, {}, there)
    version = store.served_version(root, name)
    shadow = None if wanted.shadow == version else wanted.shadow
    folders = {number: _fingerprint(root / name / str(number)) for number in (version, shadow) if number is not None}
    return Look(True, version, shadow, folders, there)


def _fingerprint(folder: Path) -> object:
    """How a folder looks from outside: nothing in it is opened; None where it cannot be looked at."""
    try:
        with os.scandir(folder) as entries:
            return folder.name, tuple(sorted((entry.name, *_facts(entry)) for entry in entries))
    except OSError:
        return None


def _facts(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    try:
        found = entry.stat()
    except OSError:  # a link that leads nowhere, yet
        found = entry.stat(follow_symlinks=False)
    return stat.S_IFMT(found.st_mode), found.st_mtime_ns, found.st_size
