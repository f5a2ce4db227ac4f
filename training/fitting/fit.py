"""The optimisation loop: batches, gradients and schedule; the only place that averages over a batch."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, replace

import torch
from torch import Tensor

from training.config import FitConfig, ObjectiveConfig
from training.errors import ConfigInvalid, NotANumber
from training.fitting.checkpoint import Checkpoint, State
from training.fitting.objective import Objective, batch_at, bounds, likeliest_records
from training.fitting.progress import EpochCallback, Progress
from training.fitting.ranks import ALONE, Ranks
from training.fitting.trimming import likeliest
from training.fitting.validation import ADVICE, Best, Validation
from training.network.batch import Batch
from training.network.objectives import Terms
from training.network.order import Blocks
from training.network.vae import VAE

_STEPS = 5000
_UNTRIMMED, _UNTRIMMED_SHARE = 2, 0.05
"""Epochs, and share of them, before the bound tells which records are the least likely."""


@dataclass(frozen=True)
class Plan:
    """How long to train, decided from the number of rows."""

    epochs: int
    batch_size: int
    batches: int

    @classmethod
    def of(cls, rows: int, config: FitConfig, *, large: bool = False) -> "Plan":
        """Complete what the configuration leaves open.

        Args:
            rows: Training rows.
            config: The optimiser's settings.
            large: Whether each costs as much as many rows of a table.
        """
        largest, fewest, most = (64, 5, 60) if large else (512, 10, 200)
        batch_size = min(config.batch_size or min(largest, max(16, rows // 20)), rows)
        batches = math.ceil(rows / batch_size)
        return cls(config.epochs or min(most, max(fewest, _STEPS // batches)), batch_size, batches)


class Fit:
    """Trains a VAE on records that are already standardised and in memory.

    Args:
        vae: The model; trained in place.
        train: Training records; where they are on another device than the model, batches are brought to it.
        validation: Held-out records that stop the training.
        objective: Draws and warm-up.
        config: The optimiser's settings.
        names: Of the fields by kind, for what stops a training.
        seed: Seed of the order of batches and of the noise.
        checkpoint: Where the state is kept between epochs; by default nowhere.
        contamination: Share of the records, of both kinds, that may be anomalies: after the first epochs each epoch
            leaves out as many, those with the lowest bound, and so does validation.
        order: Of training records that are on disk; by default a new permutation of all for each epoch.
        ranks: The processes that train together, each with all the records; the first writes the checkpoint.

    `history` holds every epoch so far, those before an interruption included.

    Reference:
        Shen & Sanghavi 2019, "Learning with bad training data via iterative trimmed loss minimization", Algorithm 1.
    """

    def __init__(
        self,
        vae: VAE,
        train: Batch,
        validation: Batch,
        objective: ObjectiveConfig,
        config: FitConfig,
        *,
        names: Sequence[str],
        seed: int,
        checkpoint: Checkpoint | None = None,
        contamination: float = 0.0,
        order: Blocks | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.vae = vae
        self.train = train
        self.order = order
        self.names = names
        self.ranks = ranks
        self.objective = Objective(vae, objective, ranks)
        self.config = config
        self.checkpoint = checkpoint or Checkpoint()
        self.contamination = contamination
        self.rows = train.rows
        self.plan = Plan.of(self.rows, config, large=vae.large)
        if self.plan.batch_size < ranks.count:
            raise ConfigInvalid(
                f"{ranks.count} processes share batches of {self.plan.batch_size} rows: take as many processes at "
                "most, or a larger fit.batch_size"
            )
        self.warm_up = math.ceil(objective.kl_warm_up * self.plan.epochs)
        # Listed once: walking the modules costs more than the norm that it is for.
        self.parameters = list(vae.parameters())
        self.device = self.parameters[0].device
        self.precision = hidden_precision(vae, self.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.validation = Validation(
            self.objective,
            validation,
            self.generator,
            warm_up=self.warm_up,
            patience=config.patience,
            contamination=contamination,
        )
        self.optimiser = torch.optim.Adam(self.parameters, lr=config.learning_rate, fused=True)
        steps = self.plan.epochs * self.plan.batches
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, steps)
        self.epoch = 0
        self.history: list[Progress] = []

    def run(self, report: EpochCallback = lambda progress: None) -> float:
        """Train until the validation bound no longer rises, and leave the best weights in the model.

        Args:
            report: Called after every epoch.

        Returns:
            The validation ELBO of the weights that are left, in nats a record.

        Raises:
            ConfigInvalid: The processes that train together differ in what they train, or begin elsewhere.
            NotANumber: A NaN or an infinity, named by epoch, batch and field; the best weights so far are back in
                the model and the last checkpoint stays where it is.
            ProcessLost: Another process has ended.
        """
        self.ranks.refuse_others([self.checkpoint.number, self.epoch], self.device)
        try:
            while self.epoch < self.plan.epochs and self.validation.goes_on(self.epoch):
                self.epoch += 1
                began = time.monotonic()
                log_likelihood, kl, effective = self._one_epoch(min(1.0, self.epoch / (self.warm_up + 1)))
                found, best = self.validation.judge(self.epoch)
                terms = (log_likelihood, kl, found.elbo, found.kl)
                seen = Progress(self.epoch, self.plan.epochs, *terms, best, effective_samples=effective)
                took, warming = time.monotonic() - began, self.epoch <= self.warm_up
                self.history.append(replace(seen, seconds=took, warming=warming))
                if self.ranks.leads and self.checkpoint.due:
                    self.checkpoint.write(self._state())
                report(self.history[-1])
        finally:
            self.validation.restore_best()
        # Three times as large as the network, and of no more use.
        self.optimiser.zero_grad(set_to_none=True)
        self.optimiser.state.clear()
        return self.validation.best.elbo

    def resume(self) -> int:
        """Take up where the checkpoint left off.

        Returns:
            The epoch that the checkpoint was made after.

        Raises:
            ConfigInvalid: No checkpoint, or one of other data or another configuration.
        """
        state = self.checkpoint.read(self.device)
        self.vae.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"].cpu())
        self.epoch = state["epoch"]
        self.validation.best = Best(state["best_state"], state["best_elbo"], state["best_bound"], state["best_epoch"])
        self.history = [Progress(*epoch) for epoch in state["history"]]
        return self.epoch

    def try_steps(self, steps: int) -> None:
        """Follow the gradient of the first batch so many times, for who measures what a step takes."""
        places = torch.arange(self.plan.batch_size, device=self.device)
        for number in range(1, steps + 1):
            self._step(number, places, 1.0)

    @torch.no_grad()
    def kept(self, records: Batch | None = None) -> Batch:
        """The training records, without the share that may be anomalies and is the least likely by now.

        Args:
            records: A sample of them; by default all.
        """
        records = self.train if records is None else records
        # One process asks, once the others may have ended.
        return records.take(self._likeliest(records, ALONE).to(records.device)) if self.contamination else records

    def _state(self) -> State:
        best = self.validation.best
        return {
            "model": self.vae.state_dict(),
            "best_state": best.state,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "best_elbo": best.elbo,
            "best_bound": best.bound,
            "best_epoch": best.epoch,
            "history": [astuple(epoch) for epoch in self.history],
        }

    def _one_epoch(self, warmth: float) -> tuple[float, float, float]:
        """Mean log-likelihood, KL and effective samples of the training records."""
        sums, rows = torch.zeros(3, dtype=torch.float64, device=self.device), 0
        for number, places in enumerate(self._batches(), start=1):
            rows += len(places)
            terms = self._step(number, places, warmth)
            seen = (terms.log_likelihood, terms.kl, terms.effective_samples)
            sums += torch.stack([term.detach().sum() for term in seen])
        log_likelihood, kl, effective = (self.ranks.sum(sums) / rows).tolist()
        return log_likelihood, kl, effective

    def _batches(self) -> Iterable[Tensor]:
        """The places of each batch of an epoch."""
        if self.order is not None:
            kept = self._above_cut(self.order) if self._trims else None
            return self.order.batches(self.plan.batch_size, self.generator, kept)
        return torch.split(self._order(), self.plan.batch_size)

    @property
    def _trims(self) -> bool:
        """Whether it is time to leave out the records that are the least likely."""
        return self.contamination > 0 and self.epoch > max(_UNTRIMMED, _UNTRIMMED_SHARE * self.plan.epochs)

    @torch.no_grad()
    def _above_cut(self, order: Blocks) -> Callable[[Tensor], Tensor]:
        """Which records on disk are among the likeliest: the bound that they need is that of some blocks at random."""

        def found(places: Tensor) -> Tensor:
            noise = torch.randn(len(places), 1, self.vae.latent_size, generator=self.generator, device=self.device)
            return bounds(self.vae, self.train, places, noise, self.ranks)

        of_some = found(next(order.windows(self.generator)))
        cut = of_some[likeliest(of_some, self.contamination)].min()
        return lambda places: found(places) >= cut

    @torch.no_grad()
    def _order(self) -> Tensor:
        """The epoch's training records in random order, once it is time without those that are the least likely."""
        order = torch.randperm(self.rows, generator=self.generator, device=self.device)
        if not self._trims:
            return order
        kept = torch.zeros(self.rows, dtype=torch.bool, device=self.device)
        kept[self._likeliest(self.train, self.ranks)] = True
        return order[kept[order]]

    def _likeliest(self, records: Batch, ranks: Ranks) -> Tensor:
        noise = torch.randn(records.rows, 1, self.vae.latent_size, generator=self.generator, device=self.device)
        return likeliest_records(self.vae, records, noise, self.contamination, ranks)

    def _step(self, number: int, places: Tensor, warmth: float) -> Terms:
        """Follow the gradient of the batch at some places, the epoch's `number`th; this process's terms, before it."""
        shape = (len(places), self.objective.config.draws, self.vae.latent_size)
        noise = self.ranks.share(torch.randn(*shape, generator=self.generator, device=self.device))
        batch = batch_at(self.train, self.ranks.share(places), self.device)
        self.vae.precision = self.precision
        try:
            terms = self.objective.terms(batch, noise, warmth)
        finally:
            self.vae.precision = torch.float32
        self.optimiser.zero_grad(set_to_none=True)
        loss = -terms.bound.sum() / len(places)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.linalg.vector_norm(self._gradient())
        length = norm.item()
        if not math.isfinite(length):
            self._refuse(number, batch, noise)
        if length > self.config.gradient_norm:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.gradient_norm, norm)
        self.optimiser.step()
        self.schedule.step()
        return terms

    def _gradient(self) -> Tensor:
        """The gradient of the whole batch, flat; each parameter has its own of it."""
        with_gradient = [parameter for parameter in self.parameters if parameter.grad is not None]
        own = torch.cat([parameter.grad.flatten() for parameter in with_gradient if parameter.grad is not None])
        if self.ranks.count == 1:
            return own
        whole = self.ranks.sum(own)
        sizes = [parameter.numel() for parameter in with_gradient]
        for parameter, part in zip(with_gradient, torch.split(whole, sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        return whole

    @torch.no_grad()
    def _refuse(self, number: int, batch: Batch, noise: Tensor) -> None:
        # What is broken on the way in breaks every field on the way out, so the way in is asked first.
        broken = self.ranks.sum(batch.broken().to(self.device, torch.float32))
        if not broken.any():
            parameters = self.vae.decode(self.vae.draw(self.vae.posterior(batch), noise))
            finite = torch.isfinite(self.vae.likelihood.log_prob(batch, parameters)).all(dim=0).all(dim=0)
            broken = self.ranks.sum((~finite).float())
        names = [name for name, bad in zip(self.names, broken.tolist(), strict=False) if bad]
        where = f"field {', '.join(names)}" if names else "the gradient, though every field's likelihood is finite"
        raise NotANumber(f"epoch {self.epoch}, batch {number}: a NaN or an infinity in {where}; {ADVICE}")


def hidden_precision(vae: VAE, device: torch.device) -> torch.dtype:
    """What hidden layers are trained in: bfloat16 for images on a GPU, whose convolutions are what takes the time.

    Args:
        vae: The model.
        device: Where it is trained.

    Reference:
        Micikevicius et al. 2018, "Mixed precision training"; Kalamkar et al. 2019, "A study of BFLOAT16 for deep
        learning training", for going without a scaled loss.
    """
    return torch.bfloat16 if vae.large and device.type == "cuda" else torch.float32
