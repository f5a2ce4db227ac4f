"""From the scores of held-out rows to a bundle's calibration, and how far its p-values can be believed."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.contents.calibration import Calibration
from bundle.contents.manifest import SAMPLE_COUNTS, CalibrationSummary
from bundle.contents.scores import Score
from bundle.record.fields import Tensors
from training.config import TrainingConfig
from training.data.split import Split
from training.evaluation import measures
from training.export import runs
from training.fitting import cross_fit, thinning


def calibrate(scores: cross_fit.Scores, config: TrainingConfig) -> Calibration:
    """Of the held-out rows that are presumed normal, the same for every score."""
    by = thinning.score({name for name, _ in scores})
    normal = thinning.presumed_normal(scores[by, config.scoring.samples], config.data.contamination)
    return Calibration({key: values[normal] for key, values in scores.items()})


def presumed_normal(
    held_out: Tensors, scorer: Any, noise: npt.NDArray[np.float32], scores: tuple[Score, ...], config: TrainingConfig
) -> Tensors:
    """Held-out records, without those that the calibration leaves out as well."""
    if not config.data.contamination:
        return held_out
    by_name: dict[str, Score] = {each.name: each for each in scores}
    by = by_name[thinning.score(by_name)]
    outputs = runs.score(scorer, held_out, noise[: config.scoring.samples])
    normal = thinning.presumed_normal(np.float32(by.sign) * outputs[by.output], config.data.contamination)
    return {kind: values[normal] for kind, values in held_out.items()}


def detection(
    scorer: Any,
    scores: tuple[Score, ...],
    anomalies: Tensors,
    noise: npt.NDArray[np.float32],
    calibration: Calibration,
) -> dict[str, float]:
    """How well each score tells labelled anomalies from the rows of the calibration.

    Args:
        scorer: A session of `scorer.onnx`.
        scores: Every score of the bundle.
        anomalies: Labelled.
        noise: eps, (L, K) float32.
        calibration: Of the bundle.

    Returns:
        AUROC and average precision, by the score's name and the measure's.
    """
    outputs = runs.score(scorer, anomalies, noise)
    metrics: dict[str, float] = {}
    for each in scores:
        found = measures.detection(
            calibration.scores(each.name, len(noise)), np.float32(each.sign) * outputs[each.output]
        )
        metrics |= {f"{each.name}_{measure}": value for measure, value in found.items()}
    return metrics


def summary(calibration: Calibration, parts: Split, config: TrainingConfig) -> CalibrationSummary:
    """What the manifest says of it."""
    rate = config.scoring.false_alarm_rate
    thresholds = {str(samples): calibration.threshold(config.anomaly_score, samples, rate) for samples in SAMPLE_COUNTS}
    return CalibrationSummary(
        records=calibration.records, thresholds=thresholds, approximate=_reasons(calibration.records, parts, config)
    )


def _reasons(records: int, parts: Split, config: TrainingConfig) -> tuple[str, ...]:
    """Why p-values are not exactly valid."""
    reasons = []
    if parts.folds:
        reasons.append(
            f"cross-fitted: {parts.normal.size} normal rows were scored by {len(parts.folds)} models, each by one that "
            "has not seen it, and calibrate another that has seen all of them; what is usual in an explanation comes "
            f"from the {parts.validation.size} rows that stopped its training"
        )
    if config.data.contamination:
        held_out = parts.normal.size if parts.folds else parts.calibration.size
        reasons.append(
            f"contamination {config.data.contamination:g}: nobody knows which of the {held_out} held-out rows are "
            f"anomalies, and the calibration leaves out {held_out - records} of them by an estimate"
        )
    return tuple(reasons)
