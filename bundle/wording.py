"""What pydantic and the system find wrong, in our words: what is expected, and what may be meant."""

import difflib
import errno
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bundle.errors import short

_MOST_SHOWN = 12
"""Names that are listed where none is like the one that was written."""
_ALIKE = 0.7
"""How much of a name, from 0 to 1, must be as in another one for that to be meant."""
_WHOLE = "a whole number is expected"
_NUMBER = "a number is expected"
_TEXT = "a text is expected"
_TRUTH = "true or false is expected"
_LIST = "a list is expected"
_SECTION = "several settings are expected, each with its name"
_EXPECTED = {
    "int_parsing": _WHOLE, "int_type": _WHOLE, "int_from_float": _WHOLE, "int_parsing_size": _WHOLE,
    "float_parsing": _NUMBER, "float_type": _NUMBER, "finite_number": "a finite number is expected",
    "bool_parsing": _TRUTH, "bool_type": _TRUTH, "string_type": _TEXT,
    "tuple_type": _LIST, "list_type": _LIST, "dict_type": _SECTION, "model_type": _SECTION,
    "model_attributes_type": _SECTION, "missing": "is missing",
    "path_type": "a path is expected", "json_invalid": "is not JSON",
    "greater_than": "a number above {gt} is expected", "greater_than_equal": "{ge} or more is expected",
    "less_than": "a number below {lt} is expected", "less_than_equal": "{le} or less is expected",
    "string_too_short": "a text of {min_length} characters or more is expected",
    "string_too_long": "a text of {max_length} characters at most is expected",
    "too_short": "{min_length} or more are expected", "too_long": "{max_length} at most are expected",
}  # fmt: skip
_OF_SYSTEM = {
    errno.ENOENT: "there is no such file or folder",
    errno.EACCES: "you may not do this here; look at the permissions",
    errno.EPERM: "you may not do this here; look at the permissions",
    errno.ENOTDIR: "a part of this path is a file, and a folder is expected",
    errno.EISDIR: "is a folder; a file is expected",
    errno.EEXIST: "is there already",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your share of the disk is full",
    errno.EROFS: "can only be read; name another place",
    errno.ENAMETOOLONG: "the name is too long",
}
_SAYS_ALL = ("missing", "json_invalid")


class Unfit(Exception):
    """What somebody wrote does not fit; the message says where, and what is expected."""


def like(name: str, known: Iterable[str]) -> str:
    """A hint at what somebody may have meant.

    Args:
        name: What was written.
        known: What there is.

    Returns:
        `; did you mean ...?`, or all that there is where that is little.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=_ALIKE)
    if near:
        return f"; did you mean {near[0]}?"
    if not names:
        return ""
    more = ", …" if len(names) > _MOST_SHOWN else ""
    return f"; there {'are' if len(names) > 1 else 'is'} {', '.join(map(short, names[:_MOST_SHOWN]))}{more}"


def faults(error: ValidationError, model: type[BaseModel]) -> list[tuple[tuple[int | str, ...], str]]:
    """Everything that is wrong, each with its place.

    Args:
        error: pydantic's.
        model: What was to be built.

    Returns:
        Places as pydantic has them, and what is expected there.
    """
    found = error.errors(include_url=False)
    deeper = [each["loc"] for each in found]
    said = []
    for each in found:
        place = each["loc"]
        follows = each["type"] == "too_short" and any(
            len(it) > len(place) and it[: len(place)] == place for it in deeper
        )
        if not follows:  # A list of which every element is wrong is not short.
            said.append((place, words(each, names_at(model, place[:-1]))))
    return said


def words(error: Any, known: Sequence[str] = ()) -> str:
    """One fault in words that do not name its place.

    Args:
        error: As pydantic has it.
        known: The names that there are where it stands.
    """
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "extra_forbidden":
        return f"there is no such setting{like(str(error['loc'][-1]), known)}"
    if kind == "literal_error":
        return one_of(re.findall(r"'([^']*)'", str(context["expected"])), given)
    if kind == "value_error":
        return str(context["error"])
    if kind == "path_not_file":
        return f"there is no such file: {given}"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return "does not fit"
    if kind == "string_too_long" and context["max_length"] == 1:
        return f"one character is expected{_instead(given)}"
    limits = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
    return expected.format(**limits) + ("" if kind in _SAYS_ALL else _instead(given))


def one_of(choices: Sequence[str], given: object) -> str:
    """What is expected where there is a choice.

    Args:
        choices: What there is.
        given: What was written.
    """
    near = difflib.get_close_matches(str(given), choices, n=1, cutoff=_ALIKE)
    meant = f"; did you mean {near[0]}?" if near else ""
    shown = ", ".join(choice if choice[:1].isalnum() else repr(choice) for choice in choices)
    return f"one of {shown} is expected{_instead(given)}{meant}"


def names_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The names of a model's fields, or of those of a model inside it.

    Args:
        model: The outermost.
        place: Where inside it.
    """
    inside: type[BaseModel] | None = model
    for part in place:
        if inside is not None and isinstance(part, str):
            field = inside.model_fields.get(part)
            inside = None if field is None else _model_of(field.annotation)
    return [] if inside is None else list(inside.model_fields)


def _model_of(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_of(part)) is not None), None)


def _instead(given: object) -> str:
    """What was written in place of what is expected, where that is little."""
    return f", not {given!r}" if isinstance(given, str | int | float) and len(repr(given)) <= 60 else ""


def of_system(error: OSError) -> str:
    """What is wrong, without the place.

    Args:
        error: The system's.
    """
    return _OF_SYSTEM.get(error.errno or 0) or " ".join(str(error.strerror or error).split())
