"""Counters and histograms kept in plain Python, handed to prometheus_client about once a second.

An increment of its own takes a lock and, where several workers share their counts, a write to a mapped file: 300 of
them cost 360 us. All of this is touched on the event loop alone.
"""

from bisect import bisect_left
from typing import Protocol

import numpy as np
import numpy.typing as npt
from prometheus_client import Counter, Histogram


class Tally(Protocol):
    """Something that is flushed."""

    def flush(self) -> None:
        """Hand over what was counted since the last time."""


class TallyCounter:
    """A counter with labels.

    Args:
        counter: Where the counts go.
    """

    class Child:
        """The count of one set of labels."""

        __slots__ = ("_counter", "_pending")

        def __init__(self, counter: Counter) -> None:
            self._counter = counter
            self._pending = 0.0

        def inc(self, amount: float = 1.0) -> None:
            """Count."""
            self._pending += amount

        def flush(self) -> None:
            """See `Tally.flush`."""
            if self._pending:
                self._counter.inc(self._pending)
                self._pending = 0.0

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._children: dict[tuple[str, ...], TallyCounter.Child] = {}

    def labels(self, *values: str) -> "TallyCounter.Child":
        """The count of these labels' values, which starts at 0."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self.Child(self._counter.labels(*values))
        return child

    def flush(self) -> None:
        """See `Tally.flush`."""
        for child in self._children.values():
            child.flush()


class TallyHistogram:
    """A histogram, with or without labels.

    Args:
        histogram: Where the counts go.
        bounds: Its upper bounds, without infinity.
    """

    class Child:
        """The distribution of one set of labels."""

        __slots__ = ("_bounds", "_histogram", "_pending", "_total")

        def __init__(self, histogram: Histogram, bounds: tuple[float, ...]) -> None:
            self._histogram = histogram
            self._bounds = bounds
            self._pending = [0] * (len(bounds) + 1)
            self._total = 0.0

        def observe(self, value: float) -> None:
            """Count one value."""
            self._pending[bisect_left(self._bounds, value)] += 1
            self._total += value

        def observe_all(self, values: npt.NDArray[np.float64]) -> None:
            """Count (n,) values."""
            if values.size == 1:
                self.observe(values.item())
                return
            counts = np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._pending))
            self._pending = [old + new for old, new in zip(self._pending, counts.tolist(), strict=True)]
            self._total += float(values.sum())

        def flush(self) -> None:
            """See `Tally.flush`."""
            if not any(self._pending):
                return
            # The library has no way to add many values at once; these are what its `observe` adds to.
            for bucket, count in zip(self._histogram._buckets, self._pending, strict=True):
                if count:
                    bucket.inc(count)
            self._histogram._sum.inc(self._total)
            self._pending = [0] * len(self._pending)
            self._total = 0.0

    def __init__(self, histogram: Histogram, bounds: tuple[float, ...]) -> None:
        self._histogram = histogram
        self._bounds = bounds
        self._children: dict[tuple[str, ...], TallyHistogram.Child] = {}

    def labels(self, *values: str) -> "TallyHistogram.Child":
        """The distribution of these labels' values, which starts empty."""
        child = self._children.get(values)
        if child is None:
            histogram = self._histogram.labels(*values) if values else self._histogram
            child = self._children[values] = self.Child(histogram, self._bounds)
        return child

    def flush(self) -> None:
        """See `Tally.flush`."""
        for child in self._children.values():
            child.flush()
