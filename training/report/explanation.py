"""Which fields make a record strange: the terms of its negative ELBO, beside what is usual of them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from training.objectives import kl_to_prior
from training.preprocess import Standardised
from training.vae import VAE

_LARGEST_RUN = 2**24  # numbers in the widest layer of one run

Nats = npt.NDArray[np.float64]


class Explanation(NamedTuple):
    """What exceeds the usual.

    Args:
        excess: (B, fields + 1) nats above the usual surprisal; the KL is the last.
        share: (B, fields + 1) of the sum of what exceeds, in [0, 1]; NaN for a record of which nothing does.
    """

    excess: Nats
    share: Nats


def explain(surprisal: Nats, usual: Nats) -> Explanation:
    """Excess = surprisal - usual; share = max(0, excess) / sum of max(0, excess).

    Args:
        surprisal: (B, fields + 1) nats, the KL being the last.
        usual: (fields + 1,) nats: the median over held-out normal records.

    >>> explain(np.array([[3.0, 1.0, 0.5]]), np.array([1.0, 0.5, 1.0])).share.tolist()
    [[0.8, 0.2, 0.0]]
    """
    excess = surprisal - usual
    above = np.maximum(excess, 0.0)
    total = above.sum(axis=1, keepdims=True)
    share = np.divide(above, total, out=np.full_like(above, np.nan), where=total > 0)
    return Explanation(excess, share)


@torch.no_grad()
def surprisals(vae: VAE, batch: Standardised, noise: npt.NDArray[np.float32]) -> Nats:
    """-1/L sum_l log p(x_j|z_l) of each field, with the term of being missing or not, and the KL.

    Args:
        vae: The model.
        batch: B records.
        noise: eps, (L, K) float32.

    Returns:
        (B, fields + 1) float64 nats, fields by kind, the KL last; they add up to the negative ELBO.
    """
    widest = max(vae.likelihood.outputs, vae.preprocess.width)
    pieces = []
    for piece in batch.pieces(max(1, _LARGEST_RUN // (widest * len(noise)))):
        posterior = vae.posterior(piece)
        parameters = vae.decode(vae.draw(posterior, torch.from_numpy(noise)))
        fields = -(vae.likelihood.log_prob(piece, parameters).mean(dim=1) + vae.likelihood.log_prob_of_gaps(piece))
        pieces.append(torch.cat([fields, kl_to_prior(posterior).unsqueeze(1)], dim=1))
    found: Nats = torch.cat(pieces).double().numpy()
    return found
