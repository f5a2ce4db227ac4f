"""What a run says in the terminal of its rows, its folds and its draws."""

from collections.abc import Mapping, Sequence

from bundle.record.schema import RecordSchema
from training.config import ScoringConfig, TrainingConfig
from training.data.split import Split
from training.fitting.progress import Progress

_FEW_SAMPLES, _FEW_OF_DRAWS = 1.5, 0.05
"""Effective samples, and their share of the draws, below which a weighted objective is warned about."""


def of_rows(record: RecordSchema, parts: Split, rows: Mapping[str, int]) -> str:
    """Which rows serve what, and what for; `rows` has those of `train` and `validation`, and those `left_out`."""
    left_out = rows["left_out"]
    calibrating = f", {parts.calibration.size} held out for the p-values" if parts.calibration.size else ""
    trimmed = f", {left_out} left out as the likeliest anomalies" if left_out else ""
    anomalies = f", {parts.anomalies.size} labelled anomalies for evaluation" if parts.anomalies.size else ""
    return (
        f"{len(record.fields)} fields; {rows['train']} rows to train on, {rows['validation']} for validation (they end "
        f"the training){trimmed}{calibrating}{anomalies}"
    )


def of_weights(last: Progress, config: TrainingConfig) -> str:
    """A warning where hardly any draw carries weight, else nothing."""
    draws = config.objective.draws
    if config.objective.kind in ("elbo", "autoencoder") or last.effective_samples >= max(
        _FEW_SAMPLES, _FEW_OF_DRAWS * draws
    ):
        return ""
    return (
        f"of {draws} draws a record, {last.effective_samples:.1f} carry the weight at the end of training (effective "
        f"samples): what {config.objective.kind} rests on is hardly more than the best draw; more objective.draws, or "
        "fewer latent dimensions, help"
    )


def of_end(history: Sequence[Progress], patience: int) -> str:
    """Which weights are kept, and why training ended."""
    last, best = history[-1], max(epoch.epoch for epoch in history if epoch.best)
    kept = f"the weights of epoch {best} are kept, with the best validation bound"
    if last.epoch == last.epochs:
        return f"all {last.epochs} epochs are over; {kept}"
    return f"training ends early, after epoch {last.epoch} of {last.epochs}: {patience} in a row were no better; {kept}"


def of_rate(config: TrainingConfig) -> str:
    """That rows are too few for the default false-alarm rate.

    Args:
        config: With the rate that they allow.
    """
    return (
        f"the normal rows are too few for the default false-alarm rate of {ScoringConfig().false_alarm_rate:g}: it is "
        f"{config.scoring.false_alarm_rate:g}, the least that they allow; scoring.false_alarm_rate sets another"
    )


def of_folds(parts: Split) -> str:
    """How few rows are calibrated with."""
    return (
        f"{parts.normal.size} normal rows are too few to put any aside: each is scored by one of {len(parts.folds)} "
        "models that have not seen it"
    )
