"""The objective that is configured, of one model; and records in passes that fit the memory."""

import torch
from torch import Tensor

from training.config import ObjectiveConfig
from training.fitting.ranks import ALONE, Ranks
from training.fitting.trimming import likeliest
from training.network.batch import Batch
from training.network.importance import doubly_reparameterised, forward_kl, importance_weighted
from training.network.inference import records_a_pass
from training.network.objectives import Terms, elbo
from training.network.vae import VAE

_ROWS, _NUMBERS = 4096, 2**26
"""Records in one pass, and numbers in the widest layer of it: 256 MiB."""


class Objective:
    """What the optimiser maximises, of one model.

    Args:
        vae: The model.
        config: Kind, draws, weights and warm-up.
        ranks: The processes that share each batch.
    """

    def __init__(self, vae: VAE, config: ObjectiveConfig, ranks: Ranks = ALONE) -> None:
        self.vae = vae
        self.config = config
        self.ranks = ranks

    @property
    def draws_of_bound(self) -> int:
        """Draws a record that its bound is of: a bound of several is one of as many where it stops the training."""
        return 1 if self.config.kind in ("elbo", "autoencoder") else self.config.draws

    def terms(self, batch: Batch, noise: Tensor, warmth: float) -> Terms:
        """The terms of B records.

        Args:
            batch: B records, this process's share of a batch.
            noise: eps, (B, L, K) float32.
            warmth: Share of its weight that the KL has; grows to 1 while it warms up.
        """
        match self.config.kind:
            case "elbo":
                beta, capacity, mean = self.config.beta, self.config.capacity, self.ranks.mean
                if capacity is None:
                    return elbo(self.vae, batch, noise, beta * warmth, self.config.free_nats, mean=mean)
                return elbo(self.vae, batch, noise, beta, capacity=capacity * warmth, mean=mean)
            case "autoencoder":
                return elbo(self.vae, batch, noise)
            case "importance-weighted":
                return importance_weighted(self.vae, batch, noise, warmth)
            case "doubly-reparameterised":
                return doubly_reparameterised(self.vae, batch, noise, warmth)
            case "forward-kl":
                return forward_kl(self.vae, batch, noise, warmth)


def passes(vae: VAE, places: Tensor, draws: int) -> tuple[Tensor, ...]:
    """Places of records (n,), cut into those of one pass each with so many draws a record."""
    pieces: tuple[Tensor, ...] = torch.split(places, min(_ROWS, records_a_pass(vae, draws, _NUMBERS)))
    return pieces


def batch_at(records: Batch, places: Tensor, device: torch.device) -> Batch:
    """The records at some places (B,), on a device."""
    return records.take(places.to(records.device)).to(device)


@torch.no_grad()
def bounds(vae: VAE, records: Batch, places: Tensor, noise: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """(n,) the ELBO of the records at some places, in nats.

    Args:
        vae: The model.
        records: Among which they are.
        places: (n,), where the model is.
        noise: eps, (n, L, K) float32, where the model is.
        ranks: The processes that share the places; all of them get every ELBO.
    """
    own = ranks.share(torch.arange(len(places), device=noise.device))
    found = [
        elbo(vae, batch_at(records, places[some], noise.device), noise[some]).bound for some in passes(vae, own, 1)
    ]
    return ranks.gather(torch.cat(found), len(places))


@torch.no_grad()
def likeliest_records(vae: VAE, records: Batch, noise: Tensor, left_out: float, ranks: Ranks = ALONE) -> Tensor:
    """Places, in order, of all but the given share of records, those whose ELBO is the lowest.

    Args:
        vae: The model.
        records: n records.
        noise: eps, (n, L, K) float32, where the model is.
        left_out: The share.
        ranks: The processes that share the records; all of them get the places.
    """
    every = torch.arange(records.rows, device=noise.device)
    return likeliest(bounds(vae, records, every, noise, ranks), left_out)
