"""A simulator of fields that depend on each other, and of one that breaks the dependence while it looks usual itself.

Categories first, each given those before it, then numbers that are Gaussian given the categories (a conditional
Gaussian distribution, Lauritzen & Wermuth 1989), with three factors in common: so every field's distribution given all
others is known exactly. Some of the numbers may be amounts: exponentials of such Gaussians.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

NUMBERS, FACTORS = 10, 3
CATEGORIES = {"plant": ("north", "south", "east", "west"), "product": ("bolt", "nut", "ring"), "rush": (False, True)}
NAMES = (*(f"m{index}" for index in range(NUMBERS)), *CATEGORIES)
_SIZES = tuple(map(len, CATEGORIES.values()))
_MOVED = (4.0, 8.0)  # conditional standard deviations
_INSIDE = (1.0, 99.0)  # percentiles of the field by itself
_IMPROBABLE = 0.01  # conditional probability of another category

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


class Records(NamedTuple):
    """Codes of the categories (n, 3) and standardised numbers (n, 10)."""

    codes: Codes
    numbers: Array


class Corrupted(NamedTuple):
    """Records of which one field each was corrupted.

    Args:
        before: As they were.
        after: As they are.
        field: Which of `NAMES`, (n,).
        direction: `high`, `low` or `unusual category`, (n,).
    """

    before: Records
    after: Records
    field: Codes
    direction: npt.NDArray[np.str_]


class Simulator:
    """One distribution over records.

    Args:
        seed: Which one.
        amounts: How many of the numbers, the first ones, are amounts.
    """

    def __init__(self, seed: int, amounts: int = 0) -> None:
        random = np.random.default_rng([1, seed])
        self._seed = seed
        self._amounts = amounts
        self._plant = random.dirichlet(np.full(_SIZES[0], 6.0))
        self._product = random.dirichlet(np.full(_SIZES[1], 1.5), _SIZES[0])
        self._rush = random.uniform(0.15, 0.6, _SIZES[:2])
        self._effects = [random.normal(0, 0.7, (size, NUMBERS)) for size in _SIZES]
        self._loadings = random.normal(0, 0.7, (NUMBERS, FACTORS))
        self._noise = random.uniform(0.2, 0.45, NUMBERS)
        self._unit = 10 ** random.uniform(-2, 4, NUMBERS)
        self._offset = random.normal(0, 5, NUMBERS) * self._unit
        covariance = self._loadings @ self._loadings.T + np.diag(self._noise**2)
        self._precision = np.linalg.inv(covariance)
        self._deviation = 1 / np.sqrt(np.diagonal(self._precision))

    def draw(self, rows: int, part: int) -> Records:
        """Draw records; another `part` gives others."""
        random = np.random.default_rng([2, self._seed, part])
        codes = np.empty((rows, len(_SIZES)), np.int64)
        codes[:, 0] = random.choice(_SIZES[0], rows, p=self._plant)
        bounds = self._product[codes[:, 0]].cumsum(axis=1)
        codes[:, 1] = (random.random((rows, 1)) > bounds).sum(axis=1).clip(max=_SIZES[1] - 1)
        codes[:, 2] = random.random(rows) < self._rush[codes[:, 0], codes[:, 1]]
        common = random.normal(size=(rows, FACTORS)) @ self._loadings.T
        return Records(codes, self._mean(codes) + common + random.normal(size=(rows, NUMBERS)) * self._noise)

    def table(self, records: Records) -> pa.Table:
        """The records as columns, numbers each in a unit of its own."""
        columns: dict[str, Any] = {
            f"m{index}": np.exp(records.numbers[:, index]) * self._unit[index]
            if index < self._amounts
            else records.numbers[:, index] * self._unit[index] + self._offset[index]
            for index in range(NUMBERS)
        }
        for column, (name, values) in enumerate(CATEGORIES.items()):
            columns[name] = np.array(values)[records.codes[:, column]]
        return pa.table(columns)

    def corrupt(self, records: Records, part: int) -> Corrupted:
        """Corrupt one field of each record, as far as its own distribution leaves room; other records are left out.

        Numbers are moved by 4 to 8 conditional standard deviations and stay between the 1st and the 99th percentile
        of their field; categories are replaced by one whose probability given all other fields is under 1 %.
        """
        random = np.random.default_rng([3, self._seed, part])
        rows = len(records.numbers)
        low, high = np.percentile(self.draw(50_000, part + 1).numbers, _INSIDE, axis=0)
        field = random.integers(0, len(NAMES), rows)
        codes, numbers = records.codes.copy(), records.numbers.copy()
        direction = np.full(rows, "", "<U16")
        for row in np.flatnonzero(field < NUMBERS):
            column = field[row]
            step = random.uniform(*_MOVED) * self._deviation[column]
            for sign in random.permutation([-1.0, 1.0]):
                moved = numbers[row, column] + sign * step
                if not direction[row] and low[column] <= moved <= high[column]:
                    numbers[row, column], direction[row] = moved, "high" if sign > 0 else "low"
        for column, size in enumerate(_SIZES):
            chosen = np.flatnonzero(field == NUMBERS + column)
            probability = self._given_others(Records(records.codes[chosen], records.numbers[chosen]), column, size)
            for row, each in zip(chosen, probability, strict=True):
                improbable = [code for code in np.flatnonzero(each < _IMPROBABLE) if code != codes[row, column]]
                if improbable:
                    codes[row, column], direction[row] = random.choice(improbable), "unusual category"
        kept = direction != ""
        before = Records(records.codes[kept], records.numbers[kept])
        return Corrupted(before, Records(codes[kept], numbers[kept]), field[kept], direction[kept])

    def _mean(self, codes: Codes) -> Array:
        mean: Array = sum(effect[codes[:, column]] for column, effect in enumerate(self._effects))  # type: ignore[assignment]
        return mean

    def _given_others(self, records: Records, column: int, size: int) -> Array:
        """(n, size) probability of each category given all other fields."""
        every = []
        for code in range(size):
            codes = records.codes.copy()
            codes[:, column] = code
            every.append(self._log_density(Records(codes, records.numbers)))
        joint = np.stack(every, axis=1)
        odds: Array = np.exp(joint - joint.max(axis=1, keepdims=True))
        shares: Array = odds / odds.sum(axis=1, keepdims=True)
        return shares

    def _log_density(self, records: Records) -> Array:
        """Up to a constant."""
        plant, product, rush = records.codes.T
        difference = records.numbers - self._mean(records.codes)
        square = np.einsum("nf,fg,ng->n", difference, self._precision, difference)
        rushed = self._rush[plant, product]
        density: Array = (
            np.log(self._plant[plant])
            + np.log(self._product[plant, product])
            + np.log(np.where(rush == 1, rushed, 1 - rushed))
            - 0.5 * square
        )
        return density
