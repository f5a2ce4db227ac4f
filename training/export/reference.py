"""What a network gives in float64, and what float32 costs it: ONNX Runtime is judged by both."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from training.export.runs import Inputs

Exact = dict[str, npt.NDArray[np.float64]]
"""Outputs by name, B rows each."""

RUNS = 8
"""In float32: one with the weights as they are, the others with each weight moved."""


class Exported(Protocol):
    """A module that a graph is made of."""

    @property
    def names(self) -> Sequence[str]:
        """Of what it gives."""

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        """What it gives of `Inputs.tensors`, in the order of `names`."""


class Reference:
    """A module in float64, and how far float32 takes it from that.

    What float32 rounds is magnified by the network, and where large terms cancel; by how much, depends on the weights
    and on the record. So it is measured: the module computes in float32 with its weights as they are, and again with
    each weight moved by a unit in its last place, up or down at random, so that it rounds otherwise every time.

    Args:
        module: On the CPU.
        numbers: What one record costs in the widest layer, in numbers, by the number of draws.

    Reference:
        Vignes 1993, "A stochastic arithmetic for reliable scientific computation"; Parker 1997, "Monte Carlo
        arithmetic".
    """

    def __init__(self, module: nn.Module, numbers: Callable[[int], int]) -> None:
        self._module = module
        self._exact = copy.deepcopy(module).double()
        self._numbers = numbers

    def __call__(self, inputs: Inputs) -> Exact:
        """What the module gives in float64.

        Args:
            inputs: B rows.
        """
        with _Double():
            return self._outputs(self._exact, inputs, torch.float64)

    def rounded(self, inputs: Inputs, exact: Exact) -> Exact:
        """How far float32 is off at worst in all runs.

        Args:
            inputs: B rows.
            exact: What the module gives of them in float64.

        Returns:
            (B,) by output.
        """
        worst = {name: np.zeros(inputs.rows) for name in exact}
        for module in self._roundings():
            for name, values in self._outputs(module, inputs, torch.float32).items():
                worst[name] = np.maximum(worst[name], distance(values, exact[name]))
        return worst

    def _roundings(self) -> Iterable[nn.Module]:
        yield self._module
        for seed in range(1, RUNS):
            yield _moved(self._module, seed)

    @torch.no_grad()
    def _outputs(self, module: Any, inputs: Inputs, dtype: torch.dtype) -> Exact:
        draws = 1 if inputs.noise is None else len(inputs.noise)
        rows = max(1, _NUMBERS // self._numbers(draws))
        parts = []
        for piece in inputs.pieces(rows):
            outputs = module(*_as(dtype, piece.tensors()))
            assert all(each.dtype is dtype for each in outputs)
            parts.append(outputs)
        joined = (torch.cat(each).double().numpy() for each in zip(*parts, strict=True))
        return dict(zip(module.names, joined, strict=True))


_NUMBERS = 2**20
"""In the widest layer of one pass: more leave the cache."""


def distance(actual: npt.NDArray[np.floating[Any]], expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(B,) the largest distance in each row; infinite or NaN where one of both is."""
    with np.errstate(invalid="ignore"):
        off = np.abs(actual.astype(np.float64) - expected)
    largest: npt.NDArray[np.float64] = off.reshape(len(off), -1).max(axis=1)
    return largest


@torch.no_grad()
def _moved(module: nn.Module, seed: int) -> nn.Module:
    """A copy, each weight of which is moved by a unit in its last place, up or down at random."""
    moved = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    for weights in moved.parameters():
        up = torch.rand(weights.shape, generator=generator) < 0.5
        weights.copy_(torch.nextafter(weights, torch.where(up, torch.inf, -torch.inf)))
    return moved


def _as(dtype: torch.dtype, given: Any) -> Any:
    """Arguments of a module, those in float32 as another type."""
    match given:
        case Tensor():
            return given.to(dtype) if given.dtype is torch.float32 else given
        case dict():
            return {name: _as(dtype, each) for name, each in given.items()}
        case _:
            return tuple(_as(dtype, each) for each in given)


class _Double(TorchFunctionMode):
    """Turns casts to float32 into casts to float64, so that a module's own casts do not round."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(_wide, args), **{name: _wide(each) for name, each in (kwargs or {}).items()})


def _wide(argument: Any) -> Any:
    return torch.float64 if argument is torch.float32 else argument
