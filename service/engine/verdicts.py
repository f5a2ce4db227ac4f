"""From the graph's outputs to what a client is told: score, p-value, verdict."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.contents.answer_names import LATENT_MEAN, VERDICTS
from bundle.contents.calibration import Calibration
from bundle.contents.explanation import Explanations
from bundle.contents.manifest import Manifest
from bundle.contents.scores import Score
from bundle.record.fields import Tensors
from service.engine.question import Question

Table = npt.NDArray[np.float64]

NAMES = VERDICTS
"""Columns of a table of verdicts that are members of an answer. All float64, which holds float32 exactly."""
OTHERS = ("combined", "neighbours", "typicality", "texture", "complexity")
"""Columns after them: scores that can be asked for and are no members of an answer; NaN where a bundle has none."""
COLUMNS = (*NAMES, *OTHERS)
"""All columns but those of the latent mean, which come last."""
_LATENT_MEAN = len(COLUMNS)
"""The first column of the latent mean."""
(
    _PROBABILITY,
    _LOG_PROBABILITY,
    _ELBO,
    _IWAE,
    _LOG_LIKELIHOOD,
    _ANOMALY_SCORE,
    _P_VALUE,
    _IS_ANOMALY,
) = range(len(NAMES))
_COMPUTED = frozenset({_PROBABILITY, _ANOMALY_SCORE, _P_VALUE, _IS_ANOMALY})
"""Columns that the graph does not give."""
_DOUBLE = frozenset({_PROBABILITY, _P_VALUE, _IS_ANOMALY})
"""Columns whose numbers float32 cannot hold, or that become something else."""
_LEAST, _GREATEST = -745.0, 709.0  # beyond these a density in float64 is 0 or infinite


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What is said of B records.

    Args:
        table: (B, 8 + 5 + K) float64, the columns of `COLUMNS` and the latent mean. One array, because that is what the
            batcher joins and cuts for every request.
        explanations: Of the same records, where they were asked for.
    """

    table: Table
    explanations: Explanations | None = None

    @property
    def anomaly_score(self) -> Table:
        """(B,) the score that decides, higher = stranger."""
        return self.table[:, _ANOMALY_SCORE]

    @property
    def p_value(self) -> Table:
        """(B,) share of held-out normal records at least as strange."""
        return self.table[:, _P_VALUE]

    @property
    def is_anomaly(self) -> npt.NDArray[np.bool_]:
        """(B,) bool, p-value at most the bundle's false-alarm rate."""
        flagged: npt.NDArray[np.bool_] = self.table[:, _IS_ANOMALY] == 1.0
        return flagged

    @property
    def latent_size(self) -> int:
        """K, the columns of the latent mean."""
        return int(self.table.shape[1]) - _LATENT_MEAN

    def part(self, first: int, size: int) -> "Verdicts":
        """So many records from one on, none of them explained."""
        return Verdicts(self.table[first : first + size])

    @staticmethod
    def joined(parts: "list[Verdicts]") -> "Verdicts":
        """The records of several, none of them explained, one behind another."""
        return Verdicts(np.concatenate([part.table for part in parts]))

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Everything by its name in the API and in its own dtype; (B,) each, but for the (B, K) latent means."""
        columns: dict[str, npt.NDArray[Any]] = {}
        for index, name in enumerate(NAMES):
            column = self.table[:, index]
            columns[name] = column if index in _DOUBLE else column.astype(np.float32)
        columns["is_anomaly"] = self.is_anomaly
        columns[LATENT_MEAN] = self.table[:, _LATENT_MEAN:].astype(np.float32)
        return columns

    def objects(self) -> list[dict[str, Any]]:
        """An object for each record, as JSON has it; NaN where there is no number."""
        # Written out, because building it from NAMES takes twice as long.
        objects = [
            {
                "reconstruction_probability": row[_PROBABILITY],
                "log_reconstruction_probability": row[_LOG_PROBABILITY],
                "elbo": row[_ELBO],
                "iwae": row[_IWAE],
                "expected_log_likelihood": row[_LOG_LIKELIHOOD],
                "anomaly_score": row[_ANOMALY_SCORE],
                "p_value": row[_P_VALUE],
                "is_anomaly": row[_IS_ANOMALY] == 1.0,
                "latent_mean": row[_LATENT_MEAN:],
            }
            for row in self.table.tolist()
        ]
        if self.explanations is not None:
            for said, explanation in zip(objects, self.explanations.objects(), strict=True):
                said["explanation"] = explanation
        return objects


def judge(manifest: Manifest, calibration: Calibration, outputs: Tensors, samples: int) -> Verdicts:
    """Calibrate the graph's outputs.

    Args:
        manifest: Names the anomaly score and the false-alarm rate.
        calibration: Of the same bundle.
        outputs: The graph's outputs, B rows each.
        samples: Number of draws that they were computed with.

    Returns:
        Of B records; `reconstruction_probability` is NaN where a double cannot hold the density.
    """
    latent_mean = outputs["latent_mean"]
    table = np.empty((len(latent_mean), _LATENT_MEAN + latent_mean.shape[1]))
    density = table[:, _PROBABILITY]
    density[:] = outputs.get("log_reconstruction_probability", np.nan)
    density[(density < _LEAST) | (density > _GREATEST)] = np.nan
    np.exp(density, out=density)
    for index, name in enumerate(COLUMNS):
        if index not in _COMPUTED:
            table[:, index] = outputs.get(name, np.nan)
    table[:, _LATENT_MEAN:] = latent_mean
    _decide(table, manifest.score, calibration, samples, manifest.false_alarm_rate)
    return Verdicts(table)


def answered(verdicts: Verdicts, manifest: Manifest, calibration: Calibration, question: Question) -> Verdicts:
    """The same records by another score, or at another false-alarm rate.

    Args:
        verdicts: Of B records.
        manifest: Of the bundle that gave them.
        calibration: Of the same bundle.
        question: With the number of draws that they were computed with.
    """
    table = verdicts.table.copy()
    score = next(each for each in manifest.scores if each.name == question.score)
    _decide(table, score, calibration, question.samples, question.false_alarm_rate)
    return replace(verdicts, table=table)


def _decide(table: Table, score: Score, calibration: Calibration, samples: int, false_alarm_rate: float) -> None:
    """Fill in the columns that depend on which score decides, from those of the scores themselves."""
    values = score.sign * table[:, COLUMNS.index(score.output)]
    p_value = calibration.p_values(score.name, samples, values.astype(np.float32))
    table[:, _ANOMALY_SCORE] = values
    table[:, _P_VALUE] = p_value
    # A double may miss k / (n + 1) by a hair on either side.
    table[:, _IS_ANOMALY] = p_value <= false_alarm_rate + 1e-12
