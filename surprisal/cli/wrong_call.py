"""What is wrong with a call that no command took, in one sentence: the option or argument, and what is expected."""

import re
from typing import Any

from pydantic import ValidationError

from bundle import wording

_EXTRA = re.compile(r"unexpected extra argument.*\((.*)\)")
_COMMAND = re.compile(r"No such command '(.*?)'")
_CHOICES = re.compile(r"is not one of (.*)\.$")


def said(error: Any, commands: list[str]) -> str:
    """A fault of a call in words.

    Args:
        error: What the parser raised: its class says what is wrong.
        commands: The names of the commands that there are where the call went wrong.
    """
    context = getattr(error, "ctx", None)
    path = str(context.command_path) if context is not None else "surprisal"
    return f"{_fault(error, path.removeprefix('surprisal').strip(), commands)}; `{path} --help` says more"


def _fault(error: Any, path: str, commands: list[str]) -> str:
    match type(error).__name__:
        case "NoSuchOption":
            meant = next(iter(error.possibilities or ()), None)
            return f"{error.option_name}: there is no such option" + (f"; did you mean {meant}?" if meant else "")
        case "MissingParameter":
            name = error.param.opts[0]
            kind = "option" if name.startswith("-") else "argument"
            return f"{path}: the {kind} {error.param.metavar or name} is missing"
        case "BadParameter":
            return _value(error)
        case "BadOptionUsage":
            return f"{error.option_name}: a value is expected after it"
        case _:
            return _other(str(error.message), path, commands)


def _other(message: str, path: str, commands: list[str]) -> str:
    if (extra := _EXTRA.search(message)) is not None:
        return f"{path}: {extra[1]!r} is one argument too many"
    if (named := _COMMAND.search(message)) is not None:
        return f"{named[1]}: there is no such command{wording.like(named[1], commands)}"
    return f"{path or 'surprisal'}: the call cannot be understood"


def _value(error: Any) -> str:
    """The option with its value, and what is expected."""
    name = "a value" if error.param is None else error.param.opts[0]
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return f"{name}: does not fit"
    fault = cause.errors(include_url=False)[0]
    choices = _CHOICES.search(fault["msg"])
    if choices is None:
        return f"{name}: {wording.words(fault)}"
    names = re.findall(r"'([^']*)'", choices[1])
    return f"{name}: {wording.one_of(names, fault['input'])}"
