"""Whether p-values are what they promise: the false-alarm rate asked for against the one found."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bundle.contents.calibration import Calibration

P_VALUE_BINS = 10
_RATES = 60  # points of a curve, at most
_INTERVAL = (0.025, 0.975)

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Check:
    """p-values of m normal records against n others, and what chance allows.

    Args:
        references: n, records that define the p-values.
        records: m, records that they are of.
        shares: (10,) share of the m in each tenth of (0, 1].
        usual: (10,) what is expected of them: a tenth, as far as multiples of 1 / (n + 1) allow.
        usual_low: (10,) where 95 % of the shares lie if all records are of one kind.
        usual_high: (10,)
        asked: (r,) false-alarm rates, multiples of 1 / (n + 1).
        found: (r,) share of the m with a p-value of at most that.
        low: (r,) where 95 % of what is found lies if all records are of one kind.
        high: (r,)
    """

    references: int
    records: int
    shares: Shares
    usual: Shares
    usual_low: Shares
    usual_high: Shares
    asked: Shares
    found: Shares
    low: Shares
    high: Shares


def check(references: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> Check:
    """Compare some normal records with others, none of them chosen by their scores.

    Args:
        references: (n,) anomaly scores that define the p-values, n >= 1.
        scores: (m,) anomaly scores, m >= 1.

    Returns:
        The shares that were found; if all n + m records are exchangeable, the number with the k lowest p-values is
        beta-binomial with k and n + 1 - k, which the bands are of.

    Reference:
        Angelopoulos & Bates 2023, "Conformal prediction: a gentle introduction", section 3.2 (the rate of a split
        conformal predictor follows a beta distribution).
    """
    n, m = references.size, scores.size
    p_values = Calibration({("score", 1): references}).p_values("score", 1, scores)
    ranks = np.round(p_values * (n + 1)).astype(np.int64)  # 1 to n + 1
    tenths = np.bincount((P_VALUE_BINS * ranks - 1) // (n + 1), minlength=P_VALUE_BINS)
    possible = np.bincount((P_VALUE_BINS * np.arange(1, n + 2) - 1) // (n + 1), minlength=P_VALUE_BINS)
    bands = np.array([count_interval(m, int(count), n) for count in possible])
    lowest = np.unique(np.round(np.geomspace(1, n, _RATES)).astype(np.int64))
    found = np.searchsorted(np.sort(ranks), lowest, side="right")
    intervals = np.array([count_interval(m, int(rank), n) for rank in lowest])
    return Check(
        references=n,
        records=m,
        shares=tenths / m,
        usual=possible / (n + 1),
        usual_low=bands[:, 0] / m,
        usual_high=bands[:, 1] / m,
        asked=lowest / (n + 1),
        found=found / m,
        low=intervals[:, 0] / m,
        high=intervals[:, 1] / m,
    )


def count_interval(records: int, ranks: int, references: int) -> tuple[int, int]:
    """Where the number of records whose rank is among some lies 19 times in 20.

    Args:
        records: m.
        ranks: k of the n + 1 ranks that a record may have.
        references: n.

    Returns:
        The 2.5 % and 97.5 % quantiles of the beta-binomial distribution of m, k and n + 1 - k.

    >>> count_interval(1000, 100, 999)
    (75, 127)
    """
    others = references + 1 - ranks
    if ranks == 0 or others == 0:
        return (0, 0) if ranks == 0 else (records, records)
    count = np.arange(records)
    growth = (records - count) * (ranks + count) / ((count + 1.0) * (others + records - count - 1))
    logarithms = np.concatenate([[0.0], np.log(growth).cumsum()])
    weights = np.exp(logarithms - logarithms.max())
    low, high = np.searchsorted(weights.cumsum() / weights.sum(), _INTERVAL)
    return int(low), int(high)
