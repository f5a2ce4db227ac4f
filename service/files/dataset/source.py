"""The files of a data set: those that a path, a pattern or a URI names."""

import fnmatch
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path, PurePosixPath

from bundle.record import image_folder
from reading import parts
from reading.errors import NotRead
from reading.formats import raw
from service.files.dataset.place import Entry, Place, require_escapes, without_secrets

_RESULT = f".{'0' * 5}-{'0' * 16}.parquet"
"""What stands behind a file's name in that of its results; see `shard.Shard.target`."""
_END = r")\Z"
"""Of what `fnmatch.translate` gives."""


@dataclass(frozen=True)
class Source:
    """Files to score.

    Args:
        place: The folder that they lie below.
        entries: They, in order.
        passed_over: Files below it that are no records, by their endings.
        is_folder: Whether all that lies in the folder is meant, later files too.
        pattern: Which files of the folder are meant, later ones too; None where it is no pattern.
    """

    place: Place
    entries: tuple[Entry, ...]
    passed_over: Counter[str]
    is_folder: bool = False
    pattern: str | None = None

    def holds(self, out: Place) -> bool:
        """Whether results in OUT would be records of IN the next time.

        Args:
            out: OUT.
        """
        if self.place.filesystem != out.filesystem:
            return False
        root, below = _resolved(self.place, self.place.root), _resolved(out, out.root)
        if any(f"{root}{each.path}".startswith(below) for each in self.entries):
            return True
        if not below.startswith(root) or not (self.is_folder or self.pattern):
            return False
        if self.pattern is None:
            return True
        results = [f"{below[len(root) :]}{each.path}{_RESULT}" for each in self.entries]
        return any(_fits(each, self.pattern) and not _is_hidden(each) for each in results)


def found(text: str) -> Source:
    """The files that IN names.

    Args:
        text: A file, a folder, a pattern as `day-*.parquet`, or the URI of one of these.

    Raises:
        NotRead: There is none, or they are of several kinds.
        PlaceInvalid: The URI names no place.
        OSError: A folder cannot be read.
    """
    require_escapes(text)
    scheme, there, rest = text.partition("://") if "://" in text else ("", "", text)
    path, settings = _apart(rest) if there else (Path(text).absolute().as_posix(), "")
    named = PurePosixPath(path)
    pattern = None
    whole = 1 if there else 0  # no pattern stands for buckets, and keys may hold any letter
    magic = next((at for at, part in enumerate(named.parts) if at >= whole and has_magic(part)), None)
    if magic is not None and (there or not Path(path).exists()):
        pattern = "/".join(named.parts[magic:])
        named = PurePosixPath(*named.parts[:magic])
    shown = without_secrets(text)
    place = Place.of(f"{scheme}{there}{named}{settings}" if there else str(named))
    single = place.entry()
    if single is not None:
        above = Place.of(f"{scheme}{there}{named.parent}{settings}" if there else str(named.parent))
        return _of_records(shown, above, [single._replace(path=named.name)])
    taken = [each for each in place.entries() if pattern is None or _fits(each.path, pattern)]
    return replace(_of_records(shown, place, taken), is_folder=pattern is None, pattern=pattern)


def _resolved(place: Place, path: str) -> str:
    """A path as no other name leads to it, with a slash at its end."""
    return f"{Path(path).resolve() if place.is_local else path}".rstrip("/") + "/"


def _is_hidden(path: str) -> bool:
    return any(map(parts.is_hidden, path.split("/")))


def _apart(rest: str) -> tuple[str, str]:
    """The path of a URI and its settings: a question mark stands before settings, or for any character of a name."""
    settings = re.search(r"\?\w+=[^?/]*$", rest)
    return (rest, "") if settings is None else (rest[: settings.start()], settings[0])


def _of_records(text: str, place: Place, entries: list[Entry]) -> Source:
    visible = [each for each in entries if not _is_hidden(each.path)]
    kinds = {each: None if _is_link(place, each) else parts.kind(Path(each.path)) for each in visible}
    taken = [each for each in visible if kinds[each] is not None and each.size]
    named = [each for each in taken if PurePosixPath(each.path).suffix.lower() not in parts.LOOSE]
    taken = named or taken
    notes = [each for each in visible if kinds[each] is None or (each.size and each not in taken)]
    passed_over = Counter(_printable(PurePosixPath(each.path).suffix or each.path) for each in notes)
    if not taken:
        raise NotRead(f"{text}: there is no file that ends in {', '.join(parts.ENDINGS)}{_why(entries, visible)}")
    for each in taken:
        if _printable(each.path) != each.path:
            raise NotRead(f"{text}: {_printable(each.path)}: its name is no UTF-8; rename the file")
    if len({kinds[each] for each in taken}) > 1:
        raise NotRead(f"{text}: holds files of several kinds; name one kind with a pattern, as {text}/**/*.parquet")
    return Source(place, tuple(taken), passed_over)


def _is_link(place: Place, entry: Entry) -> bool:
    """Whether it is a link to a folder.

    Raises:
        NotRead: It is a link to a file that is not there.
    """
    path = Path(place.at(entry.path))
    if entry.size or not place.is_local or not path.is_symlink():
        return False
    if not path.exists():
        raise NotRead(f"{_printable(place.named(entry.path))}: is a link to a file that is not there; remove the link")
    return path.is_dir()


def _printable(text: str) -> str:
    """A name, with the bytes that are no UTF-8 by their numbers."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _why(entries: list[Entry], visible: list[Entry]) -> str:
    """What is there in place of records."""
    endings = {PurePosixPath(each.path).suffix.lower() for each in visible}
    if not entries:
        return "; nothing is there"
    if not visible:
        return "; all that is there is hidden, by names that begin with . or _"
    if endings & {".npz", *image_folder.SUFFIXES}:
        return "; images and npz are scored into one file: name a file for OUT, as scores.parquet"
    if endings & {*parts.ENDINGS, *raw.PACKED}:
        return "; those that are there are empty"
    return f"; those that are there end in {', '.join(sorted(map(_printable, endings)))}"


def _fits(path: str, pattern: str) -> bool:
    """Whether a path below a folder has the form of a pattern, in which `**` stands for any folders."""
    piece = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    form = re.sub(
        r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|\[|[^*?\[]+",
        lambda each: piece.get(each[0]) or (_one_of(each[0]) if each[0][0] == "[" else re.escape(each[0])),
        pattern,
    )
    return re.fullmatch(form, path) is not None


def _one_of(letters: str) -> str:
    """The form of letters in brackets; of a bracket without its end the bracket."""
    return f"(?!/){fnmatch.translate(letters)[: -len(_END)]})"
