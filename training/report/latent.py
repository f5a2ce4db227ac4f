"""The latent space in two dimensions."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ACTIVE = 0.01
"""A latent dimension is used if its mean varies by more than this over records (Burda et al. 2016, section 5)."""

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """Latent means as points.

    Args:
        normal: (n, d) of held-out normal records; d is 2, or 1 where there is but one latent dimension.
        anomalies: (m, d) of labelled anomalies, in the same coordinates.
        axes: What each coordinate is.
        active: How many of the K latent dimensions are used.
    """

    normal: Points
    anomalies: Points
    axes: tuple[str, ...]
    active: int


def plane(normal: npt.NDArray[np.float32], anomalies: npt.NDArray[np.float32]) -> Plane:
    """Latent means as they are where there are one or two dimensions, else on their principal components.

    Args:
        normal: (n, K) latent means that the components are of.
        anomalies: (m, K)

    Reference:
        Jolliffe 2002, chapter 1 (principal components of a covariance matrix).
    """
    usual, strange = normal.astype(np.float64), anomalies.astype(np.float64)
    variances = usual.var(axis=0)
    active = int((variances > ACTIVE).sum())
    size = usual.shape[1]
    if size <= 2:
        return Plane(usual, strange, tuple(f"latent dimension {index + 1}" for index in range(size)), active)
    centre = usual.mean(axis=0)
    centred = usual - centre
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred / len(usual))
    chosen = vectors[:, [-1, -2]]
    # A component's sign is arbitrary; the same data should give the same picture on every machine.
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), [0, 1]])
    total = max(float(eigenvalues.sum()), np.finfo(np.float64).tiny)
    axes = tuple(
        f"principal component {place} ({max(0.0, share) / total:.0%})"
        for place, share in enumerate(eigenvalues[[-1, -2]], start=1)
    )
    return Plane(centred @ chosen, (strange - centre) @ chosen, axes, active)
