"""Held-out records after every epoch: how good the weights are, which were the best, and whether to go on."""

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from training.errors import NotANumber
from training.fitting.objective import Objective, batch_at, likeliest_records, passes
from training.network.batch import Batch

ADVICE = "a lower fit.learning_rate, or data without extreme values, usually helps"
"""Against a NaN."""


class Measured(NamedTuple):
    """Means over held-out records, in nats.

    Args:
        elbo: The ELBO.
        kl: KL(q(z|x) || p(z)).
        bound: What training maximises once it has warmed up.
    """

    elbo: float
    kl: float
    bound: float


@dataclass(frozen=True)
class Best:
    """The best weights so far.

    Args:
        state: The model's, a copy.
        elbo: Of the held-out records, in nats a record.
        bound: Of the held-out records, in nats a record; decides.
        epoch: After which they were measured; 0 before the first.
    """

    state: dict[str, Tensor]
    elbo: float = -math.inf
    bound: float = -math.inf
    epoch: int = 0


class Validation:
    """The pass over held-out records, and the decision to stop.

    Args:
        objective: What training maximises.
        records: Held-out records.
        generator: Of the noise, which is drawn once; on the model's device.
        warm_up: Epochs in which the KL does not yet have its full weight.
        patience: Epochs without a better bound after which training stops.
        contamination: Share of the records that may be anomalies: those with the lowest ELBO do not count.
    """

    def __init__(
        self,
        objective: Objective,
        records: Batch,
        generator: torch.Generator,
        *,
        warm_up: int,
        patience: int,
        contamination: float,
    ) -> None:
        vae = objective.vae
        self.objective = objective
        self.records = records
        self.warm_up = warm_up
        self.patience = patience
        self.contamination = contamination
        shape = (records.rows, objective.draws_of_bound, vae.latent_size)
        self.noise = torch.randn(*shape, generator=generator, device=generator.device)
        self.best = Best(copy.deepcopy(vae.state_dict()))

    def goes_on(self, epoch: int) -> bool:
        """Whether another epoch may still be better than the best."""
        return epoch - self.best.epoch < self.patience

    def judge(self, epoch: int) -> tuple[Measured, bool]:
        """Measure the weights of an epoch, and keep them where they are the best.

        Returns:
            What was measured, and whether it is the best so far.

        Raises:
            NotANumber: The ELBO is a NaN or infinite.
        """
        found = self._measure(epoch)
        # Until the KL has its full weight, a high ELBO is a matter of chance.
        best = found.bound > self.best.bound or epoch <= self.warm_up
        if best:
            self.best = Best(copy.deepcopy(self.objective.vae.state_dict()), found.elbo, found.bound, epoch)
        return found, best

    def restore_best(self) -> None:
        """Leave the best weights in the model."""
        self.objective.vae.load_state_dict(self.best.state)

    @torch.no_grad()
    def _measure(self, epoch: int) -> Measured:
        vae, ranks, device = self.objective.vae, self.objective.ranks, self.noise.device
        totals = torch.zeros(3, dtype=torch.float64, device=device)
        counted = torch.arange(self.records.rows, device=device)
        if self.contamination:
            counted = likeliest_records(vae, self.records, self.noise, self.contamination, ranks)
        for whole in passes(vae, counted, self.noise.shape[1]):
            places = ranks.share(whole)
            terms = self.objective.terms(batch_at(self.records, places, device), self.noise[places], 1.0)
            totals += torch.stack([term.double().sum() for term in (terms.log_likelihood, terms.kl, terms.bound)])
        log_likelihood, kl, bound = (ranks.sum(totals) / len(counted)).tolist()
        if not math.isfinite(log_likelihood - kl):
            raise NotANumber(f"epoch {epoch}: the ELBO of the validation records is {log_likelihood - kl}; {ADVICE}")
        return Measured(log_likelihood - kl, kl, bound)
