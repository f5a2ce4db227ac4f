"""The order of training records that are on disk: blocks of them in random order, some at a time shuffled together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BLOCK_ROWS = 4096
"""Rows of a block, which lie side by side: of thirty fields about a MiB."""
TOGETHER = 64
"""Blocks that are shuffled together."""


@dataclass(frozen=True)
class Blocks:
    """Rows in blocks that differ by one row at most: how they are dealt to them, and in which order they come.

    Rows are dealt out as they are written: of as many consecutive rows as there are blocks each block gets one, at
    random. So a block is a stratified sample of all rows, in whatever order a file has them (by time, by category), and
    its mean varies about the mean of all no more than that of as many rows drawn at random.

    An epoch visits every row once. Blocks come in random order, and the rows of `TOGETHER` of them, W in all, are
    shuffled. A batch of B rows is then drawn without replacement from W rows that stand for all n: its mean has
    at most the variance of a uniform shuffle's, s^2 / B (1 - B / W) + s^2 / W (1 - W / n) = s^2 / B (1 - B / n). What
    differs from a uniform shuffle is which rows meet: two of one block are in one batch with the probability B / W in
    every epoch, 1 in 512 for B = 512, and two of different blocks seldomer than B / n.

    Args:
        rows: How many there are.
        block_rows: How many a block should have.

    Reference:
        Cochran 1977, "Sampling techniques", sections 5.6 (stratified samples) and 12.3 (samples of samples).
    """

    rows: int
    block_rows: int = BLOCK_ROWS

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return max(1, -(-self.rows // self.block_rows))

    def dealt(self, first: int, rows: int, seed: int) -> npt.NDArray[np.int64]:
        """(rows,) where consecutive rows are to be written.

        Args:
            first: The first one's number among all, from 0.
            rows: How many.
            seed: Of the dealing.
        """
        found = []
        for turn in range(first // self.count, -(-(first + rows) // self.count)):
            start = turn * self.count
            # The last turn has fewer rows than blocks: the first blocks get them.
            of_turn = min(self.count, self.rows - start)
            blocks = np.random.default_rng([seed, turn]).permutation(of_turn)
            places = self._start(blocks) + turn
            found.append(places[max(0, first - start) : first + rows - start])
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def batches(
        self, size: int, generator: torch.Generator, kept: Callable[[Tensor], Tensor] | None = None
    ) -> Iterator[Tensor]:
        """The places of an epoch's rows, (size,) int64 a batch; the last may have fewer.

        Args:
            size: Of a batch.
            generator: Of the order; the places are where it is.
            kept: Says of places (n,) which of them the epoch has, (n,) bool; by default all.
        """
        left = torch.empty(0, dtype=torch.int64, device=generator.device)
        for window in self.windows(generator):
            places = torch.cat([left, window if kept is None else window[kept(window)]])
            whole = len(places) // size * size
            yield from torch.split(places[:whole], size) if whole else ()
            left = places[whole:]
        if len(left):
            yield left

    def windows(self, generator: torch.Generator) -> Iterator[Tensor]:
        """The places of an epoch's rows in random order, those of blocks that are shuffled together at a time.

        Args:
            generator: Of the order; the places are where it is.
        """
        order = torch.randperm(self.count, generator=generator, device=generator.device)
        for some in torch.split(order, TOGETHER):
            bounds = (self._start(np.array([block, block + 1])).tolist() for block in some.tolist())
            window = torch.cat([torch.arange(*each, device=generator.device) for each in bounds])
            yield window[torch.randperm(len(window), generator=generator, device=generator.device)]

    def _start(self, blocks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where blocks begin: each has the same number of rows, and the first ones a row more."""
        each, more = divmod(self.rows, self.count)
        starts: npt.NDArray[np.int64] = blocks * each + np.minimum(blocks, more)
        return starts
