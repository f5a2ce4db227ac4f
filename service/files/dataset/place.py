"""A folder on this machine or in object storage, by its path or its URI."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.fs

from bundle.folder import durable_file
from reading.errors import NotRead

_SECRET = re.compile(r"(?i)(key|secret|token|password|sig)")


class PlaceInvalid(NotRead):
    """A path or URI that names no place; the message names it without its secrets."""


class Entry(NamedTuple):
    """A file of a place.

    Args:
        path: Below the place, parts joined by `/`.
        size: Bytes.
        changed: When it was written, in nanoseconds since 1970, as its file system says; 0 where it does not.
    """

    path: str
    size: int
    changed: int


@dataclass(frozen=True)
class Place:
    """A folder, which need not be there yet.

    Args:
        filesystem: Where it is.
        root: Its path there.
        shown: How it is called in messages and plans: the text it was named by, without its secrets.
    """

    filesystem: Any
    root: str
    shown: str

    @classmethod
    def of(cls, text: str) -> "Place":
        """The folder that a path or a URI names, as `s3://bucket/folder`.

        Raises:
            PlaceInvalid: No such kind of place can be reached from here.
        """
        if "://" not in text:
            return cls(pyarrow.fs.LocalFileSystem(), Path(text).absolute().as_posix(), text)
        shown = without_secrets(text)
        require_escapes(text)
        # What is small is put in one request then: of an upload in parts that fails the parts stay, and are paid for.
        whole = f"{text}{'&' if '?' in text else '?'}allow_delayed_open=true" if text.startswith("s3://") else text
        try:
            filesystem, root = pyarrow.fs.FileSystem.from_uri(whole)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).replace(whole, shown).replace(text, shown).split())
            if shown != text:  # it may quote a part of what is secret
                raise PlaceInvalid(f"{shown}: cannot be reached; in keys / is written as %2F and @ as %40") from None
            raise PlaceInvalid(f"{shown}: cannot be reached: {reason}") from error
        return cls(filesystem, root.rstrip("/"), shown)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.filesystem, pyarrow.fs.LocalFileSystem)

    def at(self, path: str) -> str:
        """Where a file lies, as its file system calls it.

        Args:
            path: Below the place.
        """
        return f"{self.root}/{path}" if path else self.root

    def named(self, path: str) -> str:
        """How a file is called in messages.

        Args:
            path: Below the place.
        """
        folder, query, settings = self.shown.partition("?")
        return f"{folder.rstrip('/')}/{path}{query}{settings}" if path else self.shown

    def entries(self, below: str = "") -> list[Entry]:
        """All files, sorted by path; none where there is no such folder.

        On this machine links to folders are not followed: they, and links to nothing, are files without a byte.

        Args:
            below: A folder of the place.

        Raises:
            OSError: The folder cannot be read.
        """
        if self.is_local:
            return sorted(_walked(self.root, self.at(below)))
        selector = pyarrow.fs.FileSelector(self.at(below), allow_not_found=True, recursive=True)
        found = [each for each in self.filesystem.get_file_info(selector) if each.is_file]
        start = len(PurePosixPath(self.root).as_posix().rstrip("/")) + 1
        return sorted(Entry(each.path[start:], each.size or 0, each.mtime_ns or 0) for each in found)

    def entry(self, path: str = "") -> Entry | None:
        """A file; None where there is no such file.

        Args:
            path: Below the place; empty for the place itself.
        """
        found = self.filesystem.get_file_info(self.at(path))
        return Entry(path, found.size or 0, found.mtime_ns or 0) if found.is_file else None

    def read(self, path: str) -> bytes:
        """The bytes of a file.

        Raises:
            OSError: It cannot be read, or is not there.
        """
        with self.filesystem.open_input_stream(self.at(path)) as stream:
            content: bytes = stream.read()
        return content

    def publish(self, path: str, content: bytes) -> None:
        """Write a file that is seen whole or not at all; one of that name is replaced.

        Args:
            path: Below the place.
            content: All of it, in one piece: object storage then takes it as one upload, which no failure completes.

        Raises:
            OSError: It cannot be written.
        """
        at = self.at(path)
        if self.is_local:
            Path(at).parent.mkdir(parents=True, exist_ok=True)
            durable_file.replace(Path(at), content)
            return
        with self.filesystem.open_output_stream(at) as stream:
            stream.write(content)

    def remove(self, path: str) -> None:
        """Delete a file.

        Raises:
            OSError: It cannot be deleted.
        """
        self.filesystem.delete_file(self.at(path))


def without_secrets(text: str) -> str:
    """A URI without the name, the password and the keys that may stand in it; a path as it is.

    >>> without_secrets("s3://KEY:SECRET@bucket/in?region=eu-1&session_token=abc")
    's3://bucket/in?region=eu-1'
    """
    if "://" not in text:
        return text
    scheme, there, rest = text.partition("://")
    if ":" in (authority := _authority(rest)) or "@" in authority:
        rest = rest.rpartition("@")[2]  # keys may hold any letter
    path, asked, query = rest.partition("#")[0].partition("?")
    kept = [pair for pair in query.split("&") if pair and not _SECRET.search(pair.partition("=")[0])]
    return f"{scheme}{there}{path}{asked if kept else ''}{'&'.join(kept)}"


def _authority(rest: str) -> str:
    """Of a URI behind its scheme all before its path."""
    return re.split(r"[/?#]", rest, maxsplit=1)[0]


def require_escapes(text: str) -> None:
    """Check that a URI holds no letter that ends its keys or its path before it is meant to.

    Raises:
        PlaceInvalid: It does; a bucket has no port, so that a colon stands before a secret key.
    """
    rest = text.partition("://")[2]
    authority = _authority(rest)
    is_cut = text.startswith("s3://") and "@" in rest and ":" in authority and "@" not in authority
    if "#" in rest or is_cut:
        escapes = "in a URI # is written as %23, and in its keys / as %2F and @ as %40"
        raise PlaceInvalid(f"{without_secrets(text)}: {escapes}")


def _walked(root: str, folder: str) -> Iterator[Entry]:
    """The files of a folder of this machine, by their paths below its root."""
    for above, folders, files in os.walk(folder, onerror=_raise):
        for name in (*files, *(each for each in folders if os.path.islink(f"{above}/{each}"))):  # noqa: PTH114
            path = f"{above.rstrip('/')}/{name}"
            try:
                found = os.stat(path)  # noqa: PTH116
            except OSError:
                if not os.path.islink(path):  # noqa: PTH114
                    continue  # another run has removed it
                found = None
            inside = path[len(root.rstrip("/")) + 1 :]
            if found is None or stat.S_ISDIR(found.st_mode):
                yield Entry(inside, 0, 0)
            elif stat.S_ISREG(found.st_mode):
                yield Entry(inside, found.st_size, found.st_mtime_ns)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def writable(place: Place) -> bool:
    """Whether files can be made in a folder of this machine; of object storage nobody knows before."""
    folder = Path(place.root)
    while not folder.exists():
        folder = folder.parent
    return not place.is_local or os.access(folder, os.W_OK)
