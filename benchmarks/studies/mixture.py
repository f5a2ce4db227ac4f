"""A mixture of Gaussians, whose hidden variable is the component: log p(x), bound and both steps of EM, float64."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, xlogy

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """p(x) = sum_m weight_m N(x; mean_m, covariance_m).

    Args:
        weights: (M,), 1 in all.
        means: (M, D).
        covariances: (M, D, D).

    Reference:
        Bishop 2006, "Pattern recognition and machine learning", section 9.2.
    """

    weights: Array
    means: Array
    covariances: Array

    def log_joint(self, x: Array) -> Array:
        """log p(x, m) of records (n, D), (n, M) nats."""
        away = x[:, None] - self.means
        squares = np.einsum("nmd,mde,nme->nm", away, np.linalg.inv(self.covariances), away)
        normaliser = np.linalg.slogdet(2 * np.pi * self.covariances)[1]
        found: Array = np.log(self.weights) - 0.5 * (normaliser + squares)
        return found

    def log_likelihood(self, x: Array) -> Array:
        """log p(x) of records (n, D), (n,) nats."""
        found: Array = logsumexp(self.log_joint(x), axis=1)
        return found

    def posterior(self, x: Array) -> Array:
        """E step: p(m|x) of records (n, D), (n, M) (Bishop 2006, eq. 9.23)."""
        joint = self.log_joint(x)
        found: Array = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        return found

    def bound(self, x: Array, q: Array) -> Array:
        """sum_m q_m (log p(x, m) - log q_m) of records (n, D) and q (n, M), (n,) nats (Bishop 2006, eq. 9.71)."""
        found: Array = (q * self.log_joint(x) - xlogy(q, q)).sum(axis=1)
        return found

    def divergence(self, x: Array, q: Array) -> Array:
        """KL(q || p(m|x)) of records (n, D) and q (n, M), (n,) nats."""
        log_posterior = self.log_joint(x) - self.log_likelihood(x)[:, None]
        found: Array = (xlogy(q, q) - q * log_posterior).sum(axis=1)
        return found

    def maximise(self, x: Array, q: Array) -> "Mixture":
        """M step: the mixture with the largest bound of records (n, D) for this q (n, M).

        Reference:
            Bishop 2006, eq. 9.24 to 9.26.
        """
        counts = q.sum(axis=0)
        means = q.T @ x / counts[:, None]
        away = x[:, None] - means
        covariances = np.einsum("nm,nmd,nme->mde", q, away, away) / counts[:, None, None]
        return Mixture(counts / len(x), means, covariances)
