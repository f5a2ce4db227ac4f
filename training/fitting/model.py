"""A model: the trained network, and with it everything else that is fitted on training and validation rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bundle.contents.scores import Score, scores_of
from bundle.record.schema import RecordSchema
from training import modality
from training.config import TrainingConfig
from training.data import schema
from training.data.read import Data, Rows
from training.fitting import pace
from training.fitting.checkpoint import Checkpoint
from training.fitting.fit import Fit
from training.fitting.progress import EpochCallback, Progress
from training.fitting.ranks import ALONE, Ranks
from training.network.batch import Batch
from training.network.inference import records_a_pass
from training.network.noise import noise_table
from training.network.scores import ScoringNetwork
from training.network.vae import VAE
from training.table.cache import Cached

_CPU = torch.device("cpu")
_MOST_OF_MEMORY = 0.5
"""Share of a GPU's free memory that training records may take; more stay with the CPU, and batches travel."""


@dataclass(frozen=True)
class Model:
    """What training gives, before anything is calibrated.

    Args:
        scorer: Every score, on the CPU.
        scores: What it gives that is an anomaly score.
        noise: eps, (256, K) float32.
        validation_elbo: In nats a record.
        history: Every epoch of the training.
        forget_checkpoint: To be called once the model is safe elsewhere.
    """

    scorer: ScoringNetwork
    scores: tuple[Score, ...]
    noise: npt.NDArray[np.float32]
    validation_elbo: float
    history: tuple[Progress, ...]
    forget_checkpoint: Callable[[], None]

    @torch.no_grad()
    def anomaly_scores(
        self, record: Mapping[str, npt.NDArray[np.generic]], samples: int
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Every anomaly score of many records, by torch.

        Args:
            record: The record tensors, B records.
            samples: Number of draws.

        Returns:
            (B,) float32 by score's name, higher = stranger.
        """
        noise = torch.from_numpy(self.noise[:samples])
        rows = records_a_pass(self.scorer.vae, samples)
        found: dict[str, list[npt.NDArray[np.float32]]] = {each.name: [] for each in self.scores}
        for start in range(0, len(next(iter(record.values()))), rows):
            piece = {kind: torch.from_numpy(values[start : start + rows]) for kind, values in record.items()}
            outputs = dict(zip(self.scorer.names, self.scorer(piece, noise), strict=True))
            for each in self.scores:
                found[each.name].append(each.sign * outputs[each.output].numpy())
        return {name: np.concatenate(parts) for name, parts in found.items()}


def fit(
    data: Data,
    record: RecordSchema,
    train: Rows,
    validation: Rows,
    config: TrainingConfig,
    target: torch.device,
    *,
    folder: Path | None = None,
    resume: bool = False,
    part: str = "",
    report: EpochCallback = lambda progress: None,
    on_disk: Cached | None = None,
    ranks: Ranks = ALONE,
    say: Callable[[str], None] = lambda line: None,
) -> Model:
    """Train a network on some rows, and fit the scores that are made with it.

    Args:
        data: The table.
        record: Its fields, with statistics of the training rows.
        train: Rows that the optimiser sees.
        validation: Rows that stop it.
        config: Everything that decides the result.
        target: Where to train.
        folder: Where checkpoints are kept, or None for nowhere.
        resume: Take up the one that an interrupted run of the same data and configuration left there.
        part: Which of several models of the same data and configuration this is, in words; empty for the one that
            serves. Another may start afresh where it has left no checkpoint.
        report: Told about every epoch.
        on_disk: All training records, where `train` is a sample of them; scores beside the likelihood are fitted on it.
        ranks: The processes that train together, of which this is the first; the others `optimise`.
        say: Told whether several processes are faster than one.

    Raises:
        ConfigInvalid: There is no checkpoint to resume from, or a batch has fewer rows than there are processes.
        DataInvalid: A value that does not fit its field.
        NotANumber: The training met a NaN.
        ProcessLost: Another process has ended.
        OSError: A checkpoint cannot be written.
    """
    given = (data, record, train, validation, config, target)
    begun = partial(optimise, *given, folder=folder, resume=resume, part=part)
    run = begun(report=report, on_disk=on_disk, ranks=ranks, say=say)
    kept = run.kept(_standardised(run.vae, record, data, train, target) if on_disk else None)
    noise = noise_table(run.vae.latent_size, config.seed)
    scorer = _scorer(run, record, kept, torch.from_numpy(noise[: config.scoring.samples]), config.seed)
    scores = scores_of(record, scorer.names)
    return Model(scorer, scores, noise, run.validation.best.elbo, tuple(run.history), run.checkpoint.forget)


def optimise(
    data: Data,
    record: RecordSchema,
    train: Rows,
    validation: Rows,
    config: TrainingConfig,
    target: torch.device,
    *,
    folder: Path | None = None,
    resume: bool = False,
    part: str = "",
    report: EpochCallback = lambda progress: None,
    on_disk: Cached | None = None,
    ranks: Ranks = ALONE,
    say: Callable[[str], None] = lambda line: None,
) -> Fit:
    """Train a network on some rows: the part of `fit` that each of several processes has; see there.

    Returns:
        The training, at its end.
    """
    torch.manual_seed(config.seed)
    vae = modality.of(record).vae(config.network, deterministic=config.objective.kind == "autoencoder")
    # Before the model moves: it standardises where it was built.
    trained_on = on_disk.records if on_disk else _standardised(vae, record, data, train, target)
    stopped_by = _standardised(vae, record, data, validation, target)
    run = Fit(
        vae.to(target),
        trained_on,
        stopped_by,
        config.objective,
        config.fit,
        names=[field.name for field in record.by_kind],
        seed=config.seed,
        checkpoint=Checkpoint.of(folder, data, config, part, on_disk.split if on_disk else ""),
        contamination=config.data.contamination,
        order=on_disk.order if on_disk else None,
        ranks=ranks,
    )
    if resume and not (part and not run.checkpoint.exists):
        run.resume()
    if ranks.count > 1 and not part:
        say(pace.compare(run))
    run.run(report)
    return run


def _scorer(run: Fit, record: RecordSchema, kept: Batch, noise: Tensor, seed: int) -> ScoringNetwork:
    """The trained network on the CPU, and with it the scores that are fitted on the rows that it was trained with."""
    kept, held_out = kept.to(_CPU), run.validation.records.to(_CPU)
    vae = run.vae.cpu().eval()
    others = None if vae.deterministic else modality.of(record).other_scores(vae, kept, held_out, noise, seed)
    return ScoringNetwork(vae, others).eval()


def _standardised(vae: VAE, record: RecordSchema, data: Data, rows: Rows, target: torch.device) -> Batch:
    """Rows as the network takes them, where they are trained on if they fit."""
    tensors = schema.tensors(record, data, rows)
    here = next(vae.parameters()).device
    batch: Batch = vae.standardise({kind: torch.from_numpy(values).to(here) for kind, values in tensors.items()})
    size = sum(values.nbytes for values in tensors.values())
    return batch.to(target if target.type == "cpu" or size < _MOST_OF_MEMORY * _free(target) else _CPU)


def _free(device: torch.device) -> int:
    """Bytes of a GPU's memory that nobody has taken."""
    free: int = torch.cuda.mem_get_info(device)[0]
    return free
