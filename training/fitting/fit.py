"""The optimisation loop: schedule, early stopping, checkpoints; the only place that averages over a batch."""

import copy
import io
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bundle.folder import durable_file
from training.config import FitConfig, ObjectiveConfig
from training.errors import ConfigInvalid, NotANumber
from training.fitting.trimming import likeliest
from training.network.batch import Batch
from training.network.importance import doubly_reparameterised, forward_kl, importance_weighted
from training.network.inference import records_a_pass
from training.network.objectives import Terms, elbo
from training.network.vae import VAE

CHECKPOINT_SECONDS = 2.0
"""Least time between two checkpoints, so that short epochs are not spent on writing."""
_STEPS = 5000
_VALIDATION_ROWS, _VALIDATION_NUMBERS = 4096, 2**26
"""Records in one pass, and numbers in the widest layer of it: 256 MiB."""
_UNTRIMMED, _UNTRIMMED_SHARE = 2, 0.05
"""Epochs, and share of them, before the bound tells which records are the least likely."""


@dataclass(frozen=True)
class Progress:
    """One finished epoch; the terms are means over records, in nats.

    Args:
        epoch: From 1.
        epochs: How many there will be at most.
        log_likelihood: Of the training records (the reconstruction term).
        kl: Of the training records.
        validation_elbo: Of the held-out records.
        validation_kl: Of the held-out records.
        best: Whether that is the best so far.
        part: Of which of several models, in words; empty where there is one.
        effective_samples: Draws of a training record, of the objective's, that carry its weight; all of them where
            draws are not weighted.
    """

    epoch: int
    epochs: int
    log_likelihood: float
    kl: float
    validation_elbo: float
    validation_kl: float
    best: bool
    part: str = ""
    effective_samples: float = 1.0


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
        seed: Seed of the order of batches and of the noise.
        checkpoint: Where the state is kept between epochs, or None.
        fingerprint: What a checkpoint must have been made from to be resumed (data and configuration).
        contamination: Share of the records, of both kinds, that may be anomalies: after the first epochs each epoch
            leaves out as many, those with the lowest bound, and so does validation.

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
        seed: int,
        checkpoint: Path | None = None,
        fingerprint: str = "",
        contamination: float = 0.0,
    ) -> None:
        self.vae = vae
        self.train = train
        self.objective = objective
        self.config = config
        self.checkpoint = checkpoint
        self.fingerprint = fingerprint
        self.contamination = contamination
        self.rows = train.rows
        self.plan = Plan.of(self.rows, config, large=vae.large)
        # Listed once: walking the modules costs more than the norm that it is for.
        self.parameters = list(vae.parameters())
        self.device = self.parameters[0].device
        self.precision = hidden_precision(vae, self.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.validation = validation
        # A bound of several draws is a bound of as many where it stops the training.
        draws = 1 if objective.kind in ("elbo", "autoencoder") else objective.draws
        self.validation_noise = torch.randn(
            validation.rows, draws, vae.latent_size, generator=self.generator, device=self.device
        )
        self.optimiser = torch.optim.Adam(self.parameters, lr=config.learning_rate, fused=True)
        steps = self.plan.epochs * self.plan.batches
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, steps)
        self.epoch = 0
        self.best_elbo = self.best_bound = -math.inf
        self.best_epoch = 0
        self.best_state = copy.deepcopy(vae.state_dict())
        self.history: list[Progress] = []

    def run(self, report: Callable[[Progress], None] = lambda progress: None) -> float:
        """Train until the validation bound no longer rises, and leave the best weights in the model.

        Args:
            report: Called after every epoch.

        Returns:
            The validation ELBO of the weights that are left, in nats a record.

        Raises:
            NotANumber: A NaN or an infinity, named by epoch, batch and field; the best weights so far are back in
                the model and the last checkpoint stays where it is.
        """
        saved = -math.inf
        warm_up = math.ceil(self.objective.kl_warm_up * self.plan.epochs)
        try:
            while self.epoch < self.plan.epochs and self.epoch - self.best_epoch < self.config.patience:
                self.epoch += 1
                log_likelihood, kl, effective = self._one_epoch(min(1.0, self.epoch / (warm_up + 1)))
                validation_elbo, validation_kl, bound = self._validate()
                # Until the KL has its full weight, a high ELBO is a matter of chance.
                best = bound > self.best_bound or self.epoch <= warm_up
                if best:
                    self.best_elbo, self.best_bound, self.best_epoch = validation_elbo, bound, self.epoch
                    self.best_state = copy.deepcopy(self.vae.state_dict())
                terms = (log_likelihood, kl, validation_elbo, validation_kl)
                self.history.append(Progress(self.epoch, self.plan.epochs, *terms, best, effective_samples=effective))
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()
                report(self.history[-1])
        finally:
            self.vae.load_state_dict(self.best_state)
        # Three times as large as the network, and of no more use.
        self.optimiser.zero_grad(set_to_none=True)
        self.optimiser.state.clear()
        return self.best_elbo

    def _objective(self, batch: Batch, noise: Tensor, warmth: float) -> Terms:
        """The terms of the objective that is configured; `warmth` grows to 1 while the KL warms up."""
        match self.objective.kind:
            case "elbo":
                beta, capacity = self.objective.beta, self.objective.capacity
                if capacity is None:
                    return elbo(self.vae, batch, noise, beta * warmth, self.objective.free_nats)
                return elbo(self.vae, batch, noise, beta, capacity=capacity * warmth)
            case "autoencoder":
                return elbo(self.vae, batch, noise)
            case "importance-weighted":
                return importance_weighted(self.vae, batch, noise, warmth)
            case "doubly-reparameterised":
                return doubly_reparameterised(self.vae, batch, noise, warmth)
            case "forward-kl":
                return forward_kl(self.vae, batch, noise, warmth)

    def _one_epoch(self, warmth: float) -> tuple[float, float, float]:
        """Mean log-likelihood, KL and effective samples of the training records."""
        order = self._order()
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        shape = (self.objective.draws, self.vae.latent_size)
        for number, rows in enumerate(torch.split(order, self.plan.batch_size), start=1):
            batch = self._take(self.train, rows)
            noise = torch.randn(len(rows), *shape, generator=self.generator, device=self.device)
            self.vae.precision = self.precision
            try:
                terms = self._objective(batch, noise, warmth)
            finally:
                self.vae.precision = torch.float32
            self.optimiser.zero_grad(set_to_none=True)
            loss = -terms.bound.mean()
            loss.backward()  # type: ignore[no-untyped-call]
            gradient = [parameter.grad.flatten() for parameter in self.parameters if parameter.grad is not None]
            norm = torch.linalg.vector_norm(torch.cat(gradient))
            length = norm.item()
            if not math.isfinite(length):
                self._refuse(number, batch, noise)
            if length > self.config.gradient_norm:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.gradient_norm, norm)
            self.optimiser.step()
            self.schedule.step()
            seen = (terms.log_likelihood, terms.kl, terms.effective_samples)
            sums += torch.stack([term.detach().sum() for term in seen])
        log_likelihood, kl, effective = (sums / len(order)).tolist()
        return log_likelihood, kl, effective

    @torch.no_grad()
    def _order(self) -> Tensor:
        """The epoch's training records in random order, once it is time without those that are the least likely."""
        order = torch.randperm(self.rows, generator=self.generator, device=self.device)
        if not self.contamination or self.epoch <= max(_UNTRIMMED, _UNTRIMMED_SHARE * self.plan.epochs):
            return order
        kept = torch.zeros(self.rows, dtype=torch.bool, device=self.device)
        kept[self._likeliest()] = True
        return order[kept[order]]

    def _likeliest(self) -> Tensor:
        noise = torch.randn(self.rows, 1, self.vae.latent_size, generator=self.generator, device=self.device)
        return likeliest(self._terms(self.train, noise).bound, self.contamination)

    @torch.no_grad()
    def kept(self) -> Batch:
        """The training records, without the share that may be anomalies and is the least likely by now."""
        return self.train.take(self._likeliest().to(self.train.device)) if self.contamination else self.train

    def _take(self, records: Batch, rows: Tensor) -> Batch:
        """The records at the positions `rows`, where the model is."""
        return records.take(rows.to(records.device)).to(self.device)

    def _rows_a_pass(self, draws: int) -> int:
        return min(_VALIDATION_ROWS, records_a_pass(self.vae, draws, _VALIDATION_NUMBERS))

    def _terms(self, records: Batch, noise: Tensor) -> Terms:
        every = torch.arange(records.rows, device=self.device)
        split = torch.split(every, self._rows_a_pass(1))
        pieces = [elbo(self.vae, self._take(records, rows), noise[rows]) for rows in split]
        return Terms(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))

    @torch.no_grad()
    def _validate(self) -> tuple[float, float, float]:
        """Mean ELBO and KL of the validation records, and the bound that training maximises once it has warmed up."""
        totals = torch.zeros(3, dtype=torch.float64, device=self.device)
        every = torch.arange(self.validation_noise.shape[0], device=self.device)
        if self.contamination:
            every = likeliest(self._terms(self.validation, self.validation_noise).bound, self.contamination)
        for rows in torch.split(every, self._rows_a_pass(self.validation_noise.shape[1])):
            batch = self._take(self.validation, rows)
            terms = self._objective(batch, self.validation_noise[rows], 1.0)
            totals += torch.stack([term.double().sum() for term in (terms.log_likelihood, terms.kl, terms.bound)])
        log_likelihood, kl, bound = (totals / len(every)).tolist()
        if not math.isfinite(log_likelihood - kl):
            raise NotANumber(
                f"epoch {self.epoch}: the ELBO of the validation records is {log_likelihood - kl}; {_ADVICE}"
            )
        return log_likelihood - kl, kl, bound

    @torch.no_grad()
    def _refuse(self, number: int, batch: Batch, noise: Tensor) -> None:
        names = self.vae.likelihood.names
        # What is broken on the way in breaks every field on the way out, so the way in is asked first.
        broken = batch.broken()
        if not broken.any():
            parameters = self.vae.decode(self.vae.draw(self.vae.posterior(batch), noise))
            broken = ~torch.isfinite(self.vae.likelihood.log_prob(batch, parameters)).all(dim=0).all(dim=0)
        names = tuple(name for name, bad in zip(names, broken.tolist(), strict=False) if bad)
        where = f"field {', '.join(names)}" if names else "the gradient, though every field's likelihood is finite"
        raise NotANumber(f"epoch {self.epoch}, batch {number}: a NaN or an infinity in {where}; {_ADVICE}")

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        state = {
            "fingerprint": self.fingerprint,
            "model": self.vae.state_dict(),
            "best_state": self.best_state,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "best_elbo": self.best_elbo,
            "best_bound": self.best_bound,
            "best_epoch": self.best_epoch,
            "history": [astuple(epoch) for epoch in self.history],
        }
        # In memory first: torch reports a full disk as a fault of its own format.
        content = io.BytesIO()
        torch.save(state, content)
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        durable_file.replace(self.checkpoint, content.getvalue())

    @property
    def has_checkpoint(self) -> bool:
        """Whether an interrupted run has left one."""
        return self.checkpoint is not None and self.checkpoint.exists()

    def forget_checkpoint(self) -> None:
        """Remove the checkpoint once its run has ended well."""
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)

    def resume(self) -> int:
        """Take up where the checkpoint left off.

        Returns:
            The epoch that the checkpoint was made after.

        Raises:
            ConfigInvalid: No checkpoint, or one of other data or another configuration.
        """
        if self.checkpoint is None or not self.has_checkpoint:
            raise ConfigInvalid(
                "there is no checkpoint of this data and configuration to resume from; train without --resume"
            )
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ConfigInvalid(f"the checkpoint {self.checkpoint} is damaged; train without --resume") from error
        if state["fingerprint"] != self.fingerprint:
            raise ConfigInvalid(
                "the checkpoint was made from other data or another configuration; train without --resume"
            )
        self.vae.load_state_dict(state["model"])
        self.best_state = state["best_state"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"].cpu())
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.best_elbo, self.best_bound = state["best_elbo"], state["best_bound"]
        self.history = [Progress(*epoch) for epoch in state["history"]]
        return self.epoch


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


_ADVICE = "a lower fit.learning_rate, or data without extreme values, usually helps"
