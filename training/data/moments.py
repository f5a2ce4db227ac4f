"""Sums of columns of numbers that merge: how many, mean, variance, smallest and largest."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """What is known of some numbers without them.

    Args:
        count: How many.
        mean: Their mean; 0 of none.
        squares: The sum of their squared distances from it.
        smallest: The least of them; infinity of none.
        largest: The largest of them; minus infinity of none.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    smallest: float = np.inf
    largest: float = -np.inf

    @classmethod
    def of(cls, values: Values) -> "Moments":
        """Of (n,) finite numbers; infinite where they are too large for a sum in float64.

        >>> Moments.of(np.array([1.0, 3.0]))
        Moments(count=2, mean=2.0, squares=2.0, smallest=1.0, largest=3.0)
        """
        if not values.size:
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(values.mean())
            squares = float(np.square(values - mean).sum())
        return cls(values.size, mean, squares, float(values.min()), float(values.max()))

    def __add__(self, other: "Moments") -> "Moments":
        """Of both, each number once.

        Reference:
            Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance", eq. 2.1.
        """
        if not (self.count and other.count):
            return self if self.count else other
        count = self.count + other.count
        away = other.mean - self.mean
        return Moments(
            count,
            self.mean + away * (other.count / count),
            self.squares + other.squares + away * away * (self.count / count * other.count),
            min(self.smallest, other.smallest),
            max(self.largest, other.largest),
        )

    @property
    def deviation(self) -> float:
        """The standard deviation, of the numbers as a whole; 0 of none."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0
