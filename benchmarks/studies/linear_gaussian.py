"""The linear-Gaussian model: a decoder that is linear, so that log p(x), posterior and bound are known; float64."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """q(z|x) of n records.

    Args:
        mean: (n, K).
        covariance: (n, K, K), or (1, K, K) where it is the same for all.
    """

    mean: Array
    covariance: Array


@dataclass(frozen=True)
class LinearGaussian:
    """x|z ~ N(W z + b, diag v) with z ~ N(0, I): factor analysis, and with equal v probabilistic PCA.

    Args:
        loadings: W, (D, K).
        mean: b, (D,).
        variances: v, (D,).
        free: (D, K) bool, which loadings may be learnt; the others stay as they are, mostly 0. Where all may, latents
            can be turned without a change of p(x).

    Reference:
        Rubin & Thayer 1982, "EM algorithms for ML factor analysis"; Tipping & Bishop 1999, "Probabilistic principal
        component analysis"; Jöreskog 1969 for loadings that are held at 0.
    """

    loadings: Array
    mean: Array
    variances: Array
    free: npt.NDArray[np.bool_]

    @property
    def precision(self) -> Array:
        """Λ = I + W^T diag(1/v) W of the posterior, (K, K) (Bishop 2006, eq. 12.68)."""
        found: Array = np.eye(self.loadings.shape[1]) + (self.loadings.T / self.variances) @ self.loadings
        return found

    def log_likelihood(self, x: Array) -> Array:
        """log N(x; b, W W^T + diag v) of records (n, D), (n,) nats."""
        covariance = self.loadings @ self.loadings.T + np.diag(self.variances)
        away = x - self.mean
        squares = (away * np.linalg.solve(covariance, away.T).T).sum(axis=1)
        found: Array = -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + squares)
        return found

    def posterior(self, x: Array) -> Gaussian:
        """Exact E step: p(z|x) = N(Λ^-1 W^T diag(1/v) (x - b), Λ^-1) of records (n, D) (Bishop 2006, eq. 12.66)."""
        covariance = np.linalg.inv(self.precision).astype(np.float64)
        return Gaussian((x - self.mean) / self.variances @ self.loadings @ covariance, covariance[None])

    def mean_field(self, x: Array) -> Gaussian:
        """The best q without correlations of records (n, D): the posterior's mean, and the variances 1 / Λ_kk.

        Reference:
            Bishop 2006, eq. 10.10 to 10.15.
        """
        return Gaussian(self.posterior(x).mean, np.diag(1.0 / np.diag(self.precision))[None])

    @property
    def mean_field_gap(self) -> float:
        """log p(x) - bound of any record with `mean_field`: half of (sum_k log Λ_kk - log det Λ), nats."""
        diagonal = np.log(np.diag(self.precision)).sum()
        return 0.5 * float(diagonal - np.linalg.slogdet(self.precision)[1])

    def bound(self, x: Array, q: Gaussian) -> Array:
        """E_q log p(x|z) - KL(q || p(z)) of records (n, D), (n,) nats (Kingma & Welling 2014, eq. 3)."""
        away = x - self.mean - q.mean @ self.loadings.T
        spread = np.einsum("dk,nkl,dl->nd", self.loadings, q.covariance, self.loadings)
        likelihood = -0.5 * (np.log(2 * np.pi * self.variances) + (away**2 + spread) / self.variances).sum(axis=1)
        found: Array = likelihood - _divergence(q, np.zeros_like(q.mean), np.eye(q.mean.shape[1]))
        return found

    def divergence(self, x: Array, q: Gaussian) -> Array:
        """KL(q || p(z|x)) of records (n, D), (n,) nats."""
        return _divergence(q, self.posterior(x).mean, self.precision)

    def maximise(self, x: Array, q: Gaussian) -> "LinearGaussian":
        """M step: the free loadings and the variances with the largest bound of records (n, D) for this q; b stays.

        Reference:
            Bishop 2006, "Pattern recognition and machine learning", eq. 12.69 and 12.70, row by row.
        """
        away = x - self.mean
        crossed = away.T @ q.mean / len(x)
        squared = q.mean.T @ q.mean / len(x) + q.covariance.mean(axis=0)
        loadings = self.loadings.copy()
        for row, free in enumerate(self.free):
            rest = crossed[row, free] - squared[np.ix_(free, ~free)] @ loadings[row, ~free]
            loadings[row, free] = np.linalg.solve(squared[np.ix_(free, free)], rest)
        explained = np.einsum("dk,kl,dl->d", loadings, squared, loadings)
        variances = (away**2).mean(axis=0) - 2 * (loadings * crossed).sum(axis=1) + explained
        return replace(self, loadings=loadings, variances=variances)


def probabilistic_pca(x: Array, latent_size: int, variance: float) -> LinearGaussian:
    """The likeliest model of records (n, D) with that noise in every column.

    Reference:
        Tipping & Bishop 1999, eq. 7, where the variance is given.
    """
    mean = x.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    gain = np.sqrt(np.maximum(values[-latent_size:] - variance, 0.0))
    loadings = vectors[:, -latent_size:] * gain
    return LinearGaussian(loadings, mean, np.full(x.shape[1], variance), np.ones_like(loadings, dtype=bool))


def _divergence(q: Gaussian, mean: Array, precision: Array) -> Array:
    """KL(q || N(mean, precision^-1)), (n,) nats."""
    away = q.mean - mean
    squares = np.einsum("nk,kl,nl->n", away, precision, away)
    traces = np.einsum("kl,nlk->n", precision, q.covariance)
    logs = np.linalg.slogdet(precision)[1] + np.linalg.slogdet(q.covariance)[1]
    found: Array = 0.5 * (traces + squares - q.mean.shape[1] - logs)
    return found
