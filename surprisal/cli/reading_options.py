"""`--read NAME=VALUE`: what a person says of how a file is written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surprisal.cli.failure import CALL_WRONG, fail

if TYPE_CHECKING:
    from reading.options import Options

ReadOption = Annotated[
    list[str] | None,
    typer.Option(
        "--read",
        metavar="NAME=VALUE",
        help="How the file is written, where looking at it errs: delimiter, decimal, encoding, header, missing_values "
        "(comma separated) or date_format; may be repeated.",
    ),
]
_EXPECTED = {"delimiter": "one character, or tab", "decimal": "a point or a comma", "header": "a number of lines"}
_MARKS = {"tab": "\t", "\\t": "\t", "comma": ",", "point": "."}


def settings(given: Sequence[str] | None) -> dict[str, Any]:
    """What was said, as `[data]` of a configuration has it; ends the process where it means nothing.

    Args:
        given: `NAME=VALUE` each.
    """
    found: dict[str, Any] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not equals:
            fail(f"--read {each}: NAME=VALUE is expected, as encoding=windows-1252", CALL_WRONG)
        found[name] = _value(name, value)
    return found


def options(given: Sequence[str] | None, kept: "Options") -> "Options":
    """What was said, and else what holds for every file of a model.

    Args:
        given: `NAME=VALUE` each.
        kept: What was said when the model was trained.
    """
    said: Mapping[str, Any] = settings(given)
    return replace(kept, **said)


def _value(name: str, value: str) -> object:
    mark = _MARKS.get(value, value)
    found: object
    match name:
        case "delimiter":
            fits, found, expected = len(mark) == 1, mark, _EXPECTED[name]
        case "decimal":
            fits, found, expected = mark in (".", ","), mark, _EXPECTED[name]
        case "header":
            fits, found, expected = value.isdecimal(), int(value) if value.isdecimal() else 0, _EXPECTED[name]
        case "encoding" | "date_format":
            fits, found, expected = bool(value), value, "a value"
        case "missing_values":
            return tuple(value.split(","))
        case _:
            names = "delimiter, decimal, encoding, header, missing_values and date_format"
            fail(f"--read {name}: there is no such setting; there are {names}", CALL_WRONG)
    if not fits:
        fail(f"--read {name}={value}: {expected} is expected", CALL_WRONG)
    return found
