"""The files of a data set: those that a path, a pattern or a URI names."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path, PurePosixPath

from reading import parts
from reading.errors import NotRead
from service.files.dataset.place import Entry, Place, without_secrets


@dataclass(frozen=True)
class Source:
    """Files to score.

    Args:
        place: The folder that they lie below.
        entries: They, in order.
        passed_over: Files below it that are no records, by their endings.
        is_folder: Whether all that lies in the folder is meant, later files too.
    """

    place: Place
    entries: tuple[Entry, ...]
    passed_over: Counter[str]
    is_folder: bool = False

    def holds(self, out: Place) -> bool:
        """Whether results in OUT would be records of IN the next time.

        Args:
            out: OUT.
        """
        if self.place.filesystem != out.filesystem:
            return False
        within = f"{out.root}/".startswith(f"{self.place.root.rstrip('/')}/")
        below = f"{out.root.rstrip('/')}/"
        return (self.is_folder and within) or any(self.place.at(each.path).startswith(below) for each in self.entries)


def found(text: str) -> Source:
    """The files that IN names.

    Args:
        text: A file, a folder, a pattern as `day-*.parquet`, or the URI of one of these.

    Raises:
        NotRead: There is none, or they are of several kinds.
        PlaceInvalid: The URI names no place.
        OSError: A folder cannot be read.
    """
    scheme, there, rest = text.rpartition("://")
    path, settings = _apart(rest) if there else (Path(text).absolute().as_posix(), "")
    named = PurePosixPath(path)
    pattern = None
    if has_magic(str(named)):
        magic = [has_magic(part) for part in named.parts].index(True)
        pattern = "/".join(named.parts[magic:])
        named = PurePosixPath(*named.parts[:magic])
    shown = without_secrets(text)
    place = Place.of(f"{scheme}{there}{named}{settings}" if there else str(named))
    single = place.entry()
    if single is not None:
        above = Place.of(f"{scheme}{there}{named.parent}{settings}" if there else str(named.parent))
        return _of_records(shown, above, [single._replace(path=named.name)])
    taken = [each for each in place.entries() if pattern is None or _fits(each.path, pattern)]
    return replace(_of_records(shown, place, taken), is_folder=pattern is None)


def _apart(rest: str) -> tuple[str, str]:
    """The path of a URI and its settings: a question mark stands before settings, or for any character of a name."""
    settings = re.search(r"\?\w+=[^?/]*$", rest)
    return (rest, "") if settings is None else (rest[: settings.start()], settings[0])


def _of_records(text: str, place: Place, entries: list[Entry]) -> Source:
    visible = [each for each in entries if not any(map(parts.is_hidden, each.path.split("/")))]
    kinds = {each: parts.kind(Path(each.path)) for each in visible}
    taken = [each for each in visible if kinds[each] is not None and each.size]
    passed_over = Counter(PurePosixPath(each.path).suffix or each.path for each in visible if kinds[each] is None)
    if not taken:
        raise NotRead(f"{text}: there is no file that ends in {', '.join(parts.ENDINGS)}")
    if len({kinds[each] for each in taken}) > 1:
        raise NotRead(f"{text}: holds files of several kinds; name one kind with a pattern, as {text}/**/*.parquet")
    return Source(place, tuple(taken), passed_over)


def _fits(path: str, pattern: str) -> bool:
    """Whether a path below a folder has the form of a pattern, in which `**` stands for any folders."""
    piece = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    form = re.sub(
        r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|[^*?\[]+",
        lambda each: piece.get(each[0]) or (each[0].replace("[!", "[^") if each[0][0] == "[" else re.escape(each[0])),
        pattern,
    )
    return re.fullmatch(form, path) is not None
