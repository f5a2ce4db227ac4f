"""How well a score tells labelled anomalies from normal records that nothing was fitted on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.floating]

FALSE_ALARM_RATES = (0.001, 0.01, 0.05)
RESAMPLES = 200
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Measure:
    """A figure and where it lies 19 times in 20 when the rows are drawn again.

    Args:
        value: In [0, 1].
        low: Percentile bootstrap, 2.5 %.
        high: 97.5 %.
    """

    value: float
    low: float
    high: float


def detection(normal: Values, anomalies: Values) -> dict[str, float]:
    """Area under the ROC curve and average precision.

    Args:
        normal: (n,) anomaly scores of normal records that the model has not seen.
        anomalies: (m,) anomaly scores of labelled anomalies.

    Returns:
        `auroc` and `average_precision`, in [0, 1]; the latter depends on m / n.
    """
    # Here, as in `training.evaluation.baselines`.
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores = np.concatenate([normal, anomalies])
    labels = np.repeat([0, 1], [normal.size, anomalies.size])
    return {
        "auroc": float(roc_auc_score(labels, scores)),
        "average_precision": min(1.0, float(average_precision_score(labels, scores))),  # its sum may round up
    }


def measures(normal: Values, anomalies: Values, seed: int = 0) -> dict[str, Measure]:
    """Everything that is said of a detector, with bootstrap intervals.

    Args:
        normal: (n,) anomaly scores of normal records, higher = stranger.
        anomalies: (m,) of labelled anomalies.
        seed: Of the resampling, which keeps n and m.

    Returns:
        `auroc`, `average_precision`, `recall at R` for each false-alarm rate that n rows can show, and
        `precision at m`: of the m strangest records, the share of anomalies.

    Reference:
        Efron & Tibshirani 1993, chapter 13 (percentile intervals).
    """
    random = np.random.default_rng(seed)
    found = _figures(normal, anomalies)
    drawn: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(RESAMPLES):
        again = _figures(random.choice(normal, normal.size), random.choice(anomalies, anomalies.size))
        for name, value in again.items():
            drawn[name].append(value)
    intervals = {name: np.percentile(values, _INTERVAL) for name, values in drawn.items()}
    return {name: Measure(value, *map(float, intervals[name])) for name, value in found.items()}


def _figures(normal: Values, anomalies: Values) -> dict[str, float]:
    figures = detection(normal, anomalies)
    highest = np.sort(normal)[::-1]
    for rate in FALSE_ALARM_RATES:
        allowed = int(rate * normal.size)
        if allowed:
            figures[f"recall at {rate:g}"] = float((anomalies > highest[allowed]).mean())
    figures[f"precision at {anomalies.size}"] = _precision(normal, anomalies)
    return figures


def _precision(normal: Values, anomalies: Values) -> float:
    """Of as many records as there are anomalies, the strangest ones, the share that are; ties count by their share."""
    scores = np.concatenate([normal, anomalies])
    threshold = np.partition(scores, -anomalies.size)[-anomalies.size]
    above, at = scores > threshold, scores == threshold
    left = anomalies.size - int(above.sum())
    labels = np.repeat([0.0, 1.0], [normal.size, anomalies.size])
    return float((labels[above].sum() + left * labels[at].mean()) / anomalies.size)
