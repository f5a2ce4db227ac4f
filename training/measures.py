"""How well a score tells labelled anomalies from held-out normal records."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score


def detection(normal: npt.NDArray[np.float32], anomalies: npt.NDArray[np.float32]) -> dict[str, float]:
    """Area under the ROC curve and average precision.

    Args:
        normal: (n,) anomaly scores of normal records that the model has not seen.
        anomalies: (m,) anomaly scores of labelled anomalies.

    Returns:
        `auroc` and `average_precision`, in [0, 1]; the latter depends on m / n.
    """
    scores = np.concatenate([normal, anomalies])
    labels = np.repeat([0, 1], [normal.size, anomalies.size])
    return {
        "auroc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
    }
