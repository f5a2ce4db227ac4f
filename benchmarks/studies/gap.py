"""Which pieces the gap of a trained linear encoder has, where the posterior is known."""

from dataclasses import astuple, dataclass

import numpy as np

from benchmarks.studies.linear_gaussian import Array, Gaussian, LinearGaussian


@dataclass(frozen=True)
class Gap:
    """log p(x) - bound in four pieces, none of them below 0; means over records, nats.

    Args:
        shape: That the best q without correlations has.
        inputs: That the best mean has which is linear in what the encoder sees.
        mean: Of the learned mean beyond that.
        variances: Of the learned variances beyond 1 / Λ_kk.

    Reference:
        Cremer et al. 2018, "Inference suboptimality in variational autoencoders": the first is the approximation gap,
        the others are the amortisation gap.
    """

    shape: float
    inputs: float
    mean: float
    variances: float

    @classmethod
    def of(cls, model: LinearGaussian, x: Array, inputs: Array, q: Gaussian) -> "Gap":
        """The pieces of a q whose mean is linear in its inputs.

        Args:
            model: The decoder with its prior.
            x: Records (n, D).
            inputs: What the encoder sees of them, (n, width).
            q: Of these records; its covariances are diagonal.

        Returns:
            The KL of two Gaussians sorted into what each deviation of q adds. The two of the mean add up as they are,
            because what least squares leave is orthogonal to all that is linear in the inputs.
        """
        wanted = model.posterior(x).mean
        columns = np.column_stack([inputs, np.ones(len(x))])
        best = columns @ np.linalg.lstsq(columns, wanted, rcond=None)[0]
        shares = np.einsum("nkk,kk->nk", q.covariance, model.precision)
        variances = 0.5 * (shares - 1.0 - np.log(shares)).sum(axis=1).mean()
        missed, learned = _squares(model, best - wanted), _squares(model, q.mean - best)
        return cls(model.mean_field_gap, missed, learned, float(variances))

    @property
    def total(self) -> float:
        """Their sum."""
        return float(sum(astuple(self)))


def _squares(model: LinearGaussian, away: Array) -> float:
    """½ a^T Λ a, the mean over (n, K)."""
    return 0.5 * float(np.einsum("nk,kl,nl->n", away, model.precision, away).mean())
