"""The processes of one training: which of them this one is, and what they sum, average and decide together."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed
from torch import Tensor

from training.errors import ConfigInvalid, ProcessLost

_BEGINNING = timedelta(minutes=10)
"""How long one waits for the others to begin."""
_PATIENCE = timedelta(days=1)
"""How long one waits for another: the first exports graphs and scores folds meanwhile. A death is noticed at once."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one model.

    All of them draw the order and the noise of whole batches by one seed, and each computes its share of the rows. So
    the number of processes changes rounding alone, and all of them take as many steps. Alone, a process computes what
    it would without this.

    Args:
        rank: Which one it is, from 0.
        count: How many there are.
        group: All of them, as torch knows them.
    """

    rank: int = 0
    count: int = 1
    group: "torch.distributed.ProcessGroup | None" = None

    @property
    def leads(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    def share(self, places: Tensor) -> Tensor:
        """Of places (n,) those in a row that this process computes; none where there are fewer than processes."""
        rows = len(places)
        return places[rows * self.rank // self.count : rows * (self.rank + 1) // self.count]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of what each process has, values of one shape, without a gradient.

        Raises:
            ProcessLost: Another process has ended.
        """
        return values if self.count == 1 else _summed(values, self.group)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of values (B, …) over the rows of all processes, whose gradient reaches them all.

        Raises:
            ProcessLost: Another process has ended.
        """
        if self.count == 1:
            return values.mean(dim=0)
        own = values.sum(dim=0)
        whole: Tensor = _Sum.apply(torch.cat([own.reshape(-1), own.new_tensor([len(values)])]), self.group)  # type: ignore[no-untyped-call]
        return (whole[:-1] / whole[-1]).reshape(own.shape)

    def gather(self, own: Tensor, rows: int) -> Tensor:
        """All (rows,) values, of which each process has those of its share.

        Raises:
            ProcessLost: Another process has ended.
        """
        if self.count == 1:
            return own
        # The others' zeros change no value.
        every = own.new_zeros(rows)
        every[self.share(torch.arange(rows, device=own.device))] = own
        return _summed(every, self.group)

    def wait(self) -> None:
        """Return once every process has called this.

        Raises:
            ProcessLost: Another process has ended.
        """
        if self.count > 1:
            with _together():
                torch.distributed.barrier(self.group)

    def agree(self, values: list[int], device: torch.device) -> bool:
        """Whether every process has the same numbers, below 2^63.

        Raises:
            ProcessLost: Another process has ended.
        """
        if self.count == 1:
            return True
        every = torch.zeros(self.count, len(values), dtype=torch.int64, device=device)
        every[self.rank] = torch.tensor(values, dtype=torch.int64, device=device)
        return bool((_summed(every, self.group) == every[self.rank]).all())

    def refuse_others(self, values: list[int], device: torch.device) -> None:
        """End the training where not every process has the same numbers, below 2^63.

        Raises:
            ConfigInvalid: They differ in what they train.
            ProcessLost: Another process has ended.
        """
        if not self.agree(values, device):
            raise ConfigInvalid(
                "the processes do not train the same: each needs the same data and configuration, the same --memory, "
                "and with --resume the same checkpoint, so on several machines a models folder that all of them see"
            )


ALONE = Ranks()
"""A process that trains by itself."""


class _Sum(torch.autograd.Function):
    """The sum over processes. Each one's loss depends on it, so its gradient is the sum of their gradients."""

    @staticmethod
    def forward(context: Any, values: Tensor, group: "torch.distributed.ProcessGroup | None") -> Tensor:
        context.group = group
        return _summed(values, group)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _summed(gradient, context.group), None


def _summed(values: Tensor, group: "torch.distributed.ProcessGroup | None") -> Tensor:
    whole = values.detach().clone(memory_format=torch.contiguous_format)
    with _together():
        torch.distributed.all_reduce(whole, group=group)
    return whole


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost("another process of this training has ended, and this one cannot go on alone") from error


def device_of(wanted: Literal["auto", "cpu", "cuda"], ranks: Ranks = ALONE) -> torch.device:
    """Where a process trains: one of several has the GPU of its place on its machine.

    Args:
        wanted: `auto` takes a GPU if there is one.
        ranks: The processes that train together.

    Raises:
        ConfigInvalid: There is no GPU, or there are fewer than processes.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cuda" and not gpus:
        raise ConfigInvalid("--device cuda was asked for, and torch sees no GPU here; use --device cpu")
    if wanted == "cpu" or not gpus:
        return torch.device("cpu")
    if ranks.count == 1:
        return torch.device("cuda")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if here > gpus:
        raise ConfigInvalid(f"{here} processes train here on {gpus} GPUs; take as many, or --device cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def joined(wanted: Literal["auto", "cpu", "cuda"]) -> Iterator[Ranks]:
    """Take part in the training whose processes torchrun has begun, by its environment variables.

    They talk by gloo, or by NCCL where they train on GPUs.

    Args:
        wanted: See `device_of`.

    Raises:
        ConfigInvalid: See `device_of`.
        ProcessLost: The others cannot be reached.
    """
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = device_of(wanted, Ranks(rank, count))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    elif int(os.environ.get("LOCAL_WORLD_SIZE", "0")) == count and sys.platform == "linux":
        # Else gloo looks for the machine's name, which a container without a network cannot resolve.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_BEGINNING)
        group = torch.distributed.new_group(timeout=_PATIENCE)
    except RuntimeError as error:
        raise ProcessLost(f"the {count} processes of this training do not reach each other: {error}") from error
    yield Ranks(rank, count, group)
    # After an error the others are no longer there to take leave of.
    torch.distributed.destroy_process_group()
