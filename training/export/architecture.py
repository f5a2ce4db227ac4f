"""What an exported graph depends on: all of a module but the values of its weights."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_EXPORTERS = ("onnx", "onnx-ir", "onnxscript", "torch")
_OURS = ("bundle", "training")
_OF_MODULES = frozenset(vars(nn.Module()))
"""Attributes that every module has: hooks, flags, and the weights and children, which are described by themselves."""


class Undescribed(Exception):
    """Something that a graph may depend on, and whose value is not told by what is known of it."""


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their names, in order."""
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return {name: tensor.detach() for name, tensor in named}


def free_axes(module: nn.Module) -> dict[str, int]:
    """Weights of which a graph takes any number along one axis, by name, and that axis.

    A module says so of its own weights as `free_axes`. One alone is left out: torch would take its axis for fixed.
    """
    named = weights(module)
    axes = {
        f"{prefix}.{name}" if prefix else name: axis
        for prefix, part in module.named_modules(remove_duplicate=False)
        for name, axis in getattr(part, "free_axes", {}).items()
    }
    return {name: axis for name, axis in axes.items() if named[name].shape[axis] > 1}


def digest(module: nn.Module, given: Mapping[str, Any], outputs: Sequence[str], dynamic: Mapping[str, Any]) -> str:
    """A name for everything that the graph of a module depends on, the values of its weights left out.

    It covers the module's attributes, the shapes of its weights but for `free_axes`, the source code of `bundle` and
    `training`, and the releases of what exports.

    Args:
        module: Of this project's classes and of torch's.
        given: Arguments to trace it with.
        outputs: Names of what it gives.
        dynamic: Which dimensions of the arguments stay free.

    Returns:
        64 hexadecimal digits.

    Raises:
        Undescribed: The module holds something else, a class of somebody else's for one.
    """
    free_of = free_axes(module)
    shapes = {name: _shape(tensor, free_of.get(name)) for name, tensor in weights(module).items()}
    free = {name: str(dimensions) for name, dimensions in dynamic.items()}
    said = [_module(module), shapes, _plain(given, shape_only=True), list(outputs), free, _releases(), _source()]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _module(module: nn.Module) -> list[Any]:
    kind = type(module)
    if kind.__module__.split(".")[0] not in ("torch", "training"):
        raise Undescribed(f"{kind.__module__}.{kind.__qualname__}")
    attributes = {name: _plain(value) for name, value in vars(module).items() if name not in _OF_MODULES}
    children = [[name, _module(child)] for name, child in module.named_children()]
    return [kind.__module__, kind.__qualname__, attributes, children]


def _plain(value: Any, *, shape_only: bool = False) -> Any:
    """A value as JSON has it."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Tensor() if shape_only:
            return _shape(value)
        case torch.dtype():
            return str(value)
        case tuple() | list():
            return [_plain(each, shape_only=shape_only) for each in value]
        case dict():
            return {str(key): _plain(each, shape_only=shape_only) for key, each in value.items()}
        case _:
            raise Undescribed(type(value).__qualname__)


def _shape(tensor: Tensor, free: int | None = None) -> list[Any]:
    return [str(tensor.dtype), *("free" if axis == free else size for axis, size in enumerate(tensor.shape))]


def _releases() -> dict[str, str]:
    return {package: version(package) for package in _EXPORTERS}


@cache
def _source() -> str:
    """Digest of all modules of the packages that a graph's code may come from."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[2]
    for path in sorted(path for package in _OURS for path in (root / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\0".encode() + content)
    return digest.hexdigest()
