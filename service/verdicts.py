"""From the graph's outputs to what a client is told: score, p-value, verdict."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.calibration import Calibration
from bundle.fields import Tensors
from bundle.manifest import Manifest

_LEAST, _GREATEST = -745.0, 709.0  # beyond these a density in float64 is 0 or infinite


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What is said of B records.

    Args:
        said: Everything by its name in the API; see `judge`.
    """

    said: Tensors

    def columns(self) -> Tensors:
        """Everything by its name in the API; (B,) each, but for the (B, K) latent means."""
        return self.said

    @property
    def p_value(self) -> npt.NDArray[np.float64]:
        """(B,) float64, share of held-out normal records at least as strange."""
        return self.said["p_value"]

    @property
    def is_anomaly(self) -> npt.NDArray[np.bool_]:
        """(B,) bool, p-value at most the bundle's false-alarm rate."""
        return self.said["is_anomaly"]


def judge(manifest: Manifest, calibration: Calibration, outputs: Tensors, samples: int) -> Verdicts:
    """Calibrate the graph's outputs.

    Args:
        manifest: Names the anomaly score and the false-alarm rate.
        calibration: Of the same bundle.
        outputs: The graph's outputs, B rows each.
        samples: Number of draws that they were computed with.

    Returns:
        The outputs; before them `reconstruction_probability` (B,) float64, NaN where a double cannot hold the density;
        after them `anomaly_score` (B,) float32, higher = stranger, `p_value` and `is_anomaly`.
    """
    score: npt.NDArray[Any] = manifest.score.sign * outputs[manifest.score.output]
    p_value = calibration.p_values(manifest.anomaly_score, samples, score)
    log_density = outputs["log_reconstruction_probability"].astype(np.float64)
    density = np.exp(np.clip(log_density, _LEAST, _GREATEST))
    density[(log_density < _LEAST) | (log_density > _GREATEST)] = np.nan
    # The tolerance is for rates such as 0.29 whose multiple of n + 1 a double misses by a hair.
    is_anomaly = p_value <= manifest.false_alarm_rate + 1e-12
    return Verdicts(
        {
            "reconstruction_probability": density,
            **outputs,
            "anomaly_score": score,
            "p_value": p_value,
            "is_anomaly": is_anomaly,
        }
    )
