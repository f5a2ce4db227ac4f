"""From the graph's outputs to what a client is told: score, p-value, verdict."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.calibration import Calibration
from bundle.fields import Tensors
from bundle.manifest import Manifest


@dataclass(frozen=True)
class Verdicts:
    """What is said of B records.

    Args:
        outputs: The graph's outputs by name, B rows each.
        reconstruction_probability: (B,) float64 density; NaN where a double cannot hold it.
        anomaly_score: (B,) float32, higher = stranger.
        p_value: (B,) float64, share of held-out normal records at least as strange.
        is_anomaly: (B,) bool, p-value at most the bundle's false-alarm rate.
    """

    outputs: Tensors
    reconstruction_probability: npt.NDArray[np.float64]
    anomaly_score: npt.NDArray[np.float32]
    p_value: npt.NDArray[np.float64]
    is_anomaly: npt.NDArray[np.bool_]

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Everything by its name in the API; (B,) each, but for the (B, K) latent means."""
        return {
            "reconstruction_probability": self.reconstruction_probability,
            **self.outputs,
            "anomaly_score": self.anomaly_score,
            "p_value": self.p_value,
            "is_anomaly": self.is_anomaly,
        }


def judge(manifest: Manifest, calibration: Calibration, outputs: Tensors, samples: int) -> Verdicts:
    """Calibrate the graph's outputs.

    Args:
        manifest: Names the anomaly score and the false-alarm rate.
        calibration: Of the same bundle.
        outputs: The graph's outputs, B rows each.
        samples: Number of draws that they were computed with.
    """
    score: npt.NDArray[Any] = manifest.score.sign * outputs[manifest.score.output]
    p_value = calibration.p_values(manifest.anomaly_score, samples, score)
    with np.errstate(over="ignore", under="ignore"):
        density = np.exp(outputs["log_reconstruction_probability"].astype(np.float64))
    density[(density == 0.0) | np.isinf(density)] = np.nan
    # The tolerance is for rates such as 0.29 whose multiple of n + 1 a double misses by a hair.
    return Verdicts(outputs, density, score, p_value, p_value <= manifest.false_alarm_rate + 1e-12)
