"""Calibration rows that may hold anomalies: which of them are kept as normal."""

import math
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from training.data.read import Rows

Values = npt.NDArray[np.float64]

_BODY = 0.3
"""The strangest rows, as a share. The lower part of them tells how fast the scores of normal records thin out."""
_CLEAN = 1.5
"""That part begins below so many times the share of anomalies, counted from the strangest row."""
_NARROWEST = 0.15
"""That part holds at least this share of the rows."""
_SLACK = 8.0
"""Times as many normal rows as the exponential has may be in the tail: tails of real tables are that much heavier."""
_STEPS = 60


def score(names: Collection[str]) -> str:
    """The score to tell by, of those that a model has: `combined`, else an autoencoder's only one."""
    return "combined" if "combined" in names else min(names)


def presumed_normal(scores: npt.NDArray[np.float32], contamination: float) -> Rows:
    """Which of held-out rows to calibrate with when a share of them is anomalies.

    With all of them, fewer normal records are flagged than asked for, and where the anomalies stand out the threshold
    lies among them. Without the highest of that share, every normal record among the anomalies would be lost as well,
    and too many fresh ones flagged, up to six times as many. Between the two, rows go only where they are clearly more
    than normal ones can be. The number of normal rows above a score is carried on from where anomalies are few: the
    tail of `combined`, which is compressed, is taken as exponential, at the rate that the rows below one and a half
    times the share from the top show (a truncated sample, so that it does not matter how many anomalies lie above),
    and may be eight times as heavy. Of the highest rows as many are kept as that leaves, evenly spread among them.

    Args:
        scores: (n,) float32 of one anomaly score, see `score`; the rows are the same for every score.
        contamination: e, the share of anomalies among the rows; 0 keeps all.

    Returns:
        Places of n - round(e n) rows at least, sorted.

    Reference:
        Bashari, Sesia & Romano 2025, "Robust conformal outlier detection under contaminated reference data": all rows
        are conservative, trimming the highest is not valid. Deemer & Votaw 1955, "Estimation of parameters of
        truncated or censored exponential distributions".
    """
    gone = round(contamination * scores.size)
    if not gone:
        return np.arange(scores.size)
    strangest = np.argsort(-scores, kind="stable")
    counts = _normal_from_the_top(scores[strangest].astype(np.float64), contamination, gone)
    # A row is kept where the count of normal rows reaches the next half, so that they are evenly spread.
    whole = np.floor(counts + 0.5)
    return np.sort(strangest[np.diff(whole, prepend=0.0) > 0])


def _normal_from_the_top(descending: Values, contamination: float, gone: int) -> Values:
    """(n,) how many of the first 1, 2, … n rows may be normal: never falls, never rises by more than 1."""
    rows = descending.size
    rank = np.arange(1.0, rows + 1)
    clean = min(max(math.ceil(_CLEAN * contamination * rows), gone + 1), rows - 1)
    body = min(max(math.ceil(_BODY * rows), clean + math.ceil(_NARROWEST * rows)), rows)
    width = float(descending[clean - 1] - descending[body - 1])
    counts = np.zeros(rows)
    if width > 0 and body > clean:
        rate = _truncated_rate(descending[clean:body] - descending[body - 1], width)
        above = (body - clean) / math.expm1(rate * width)
        counts = _SLACK * above * np.exp(-rate * np.maximum(descending - descending[clean - 1], 0.0))
    counts = np.clip(counts, np.maximum(rank - gone, 0.0), rank)
    # Anomalies further down move no threshold.
    counts[clean:] = counts[clean - 1] + rank[: rows - clean]
    rising = np.maximum.accumulate(counts)
    slow: Values = np.minimum.accumulate(rising - rank) + rank
    return slow


def _truncated_rate(values: Values, width: float) -> float:
    """The rate, by maximum likelihood, of an exponential of which only values in [0, width] are seen.

    The mean of what is seen, as a share of the width, is 1 / t - 1 / (exp(t) - 1), where t is rate times width; it
    falls from 1/2 at t = 0. A mean of half and more, which no falling density has, gives the least rate.
    """
    mean = float(values.mean()) / width
    low, high = 1e-3, 500.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if 1 / middle - 1 / math.expm1(middle) > mean:
            low = middle
        else:
            high = middle
    return low / width
