"""What a report is made from: the trained model, and everything it says of rows that it was not trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bundle.contents.calibration import Calibration
from bundle.contents.explanation import Explanations
from bundle.contents.manifest import Manifest
from bundle.record.fields import AnyField, Tensors
from training import config
from training.data import schema
from training.data.kinds import Inferred
from training.data.read import Data, Rows
from training.data.split import Split
from training.export.runs import Outputs
from training.fitting import thinning
from training.fitting.model import Model
from training.fitting.progress import Progress
from training.network.inference import records_a_pass
from training.network.vae import VAE
from training.table.batch import Standardised
from training.table.vae import TableVAE


@dataclass(frozen=True)
class Part:
    """Some rows, and what `scorer.onnx` says of them with the bundle's number of draws.

    Args:
        rows: (B,) their places in the table, from 0.
        tensors: The graph's record inputs.
        scores: (B,) float32 by score's name, higher = stranger.
        latent_mean: (B, K) float32.
    """

    rows: Rows
    tensors: Tensors
    scores: Mapping[str, npt.NDArray[np.float32]]
    latent_mean: npt.NDArray[np.float32]

    def take(self, places: Rows) -> "Part":
        """The same of the rows at some places."""
        return Part(
            self.rows[places],
            {kind: values[places] for kind, values in self.tensors.items()},
            {name: values[places] for name, values in self.scores.items()},
            self.latent_mean[places],
        )


@dataclass(frozen=True)
class Evidence:
    """Everything that the report shows or computes from.

    Args:
        name: The model's name.
        manifest: The bundle's manifest, as far as it is known before the files are written.
        history: Every epoch of the training.
        vae: The trained network, on the CPU.
        noise: eps, (L, K) float32, the bundle's number of draws.
        table: The data that the rows are of.
        inferred: What its columns seem to be.
        calibration: The bundle's own.
        train: The rows that the network was trained on.
        validation: Rows that stopped the training; of rows that may hold anomalies those that are presumed normal, by
            the calibration's estimate.
        held_out: Rows that count as normal and that nothing was fitted on: those of the calibration; cross-fitted,
            where there are none such, those of the validation. Presumed normal, as above.
        anomalies: Labelled anomalies; none where there is no label.
        kl: (n, K) float64 nats by latent dimension, of the held-out rows.
        explain: Gives the outputs of `explainer.onnx` for record inputs, with the bundle's number of draws.
    """

    name: str
    manifest: Manifest
    history: tuple[Progress, ...]
    vae: VAE
    noise: npt.NDArray[np.float32]
    table: Data
    inferred: Inferred
    calibration: Calibration
    train: Tensors
    validation: Part
    held_out: Part
    anomalies: Part
    kl: npt.NDArray[np.float64]
    explain: Callable[[Tensors], Outputs]

    @property
    def score(self) -> str:
        """Name of the score that decides."""
        return self.manifest.anomaly_score

    @property
    def cross_fitted(self) -> bool:
        """Whether the held-out rows are those that stopped the training, because there are no others."""
        return np.array_equal(self.held_out.rows, self.validation.rows)

    @property
    def calibrating(self) -> npt.NDArray[np.float32]:
        """The sorted (n,) scores that p-values of the deciding score come from."""
        return self.calibration.scores(self.score, self.manifest.samples)

    def p_values(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(B,) p-values of (B,) values of the deciding score."""
        return self.calibration.p_values(self.score, self.manifest.samples, scores)

    def threshold(self, score: str) -> float:
        """The value of a score above which a record is flagged at the bundle's false-alarm rate."""
        return self.calibration.threshold(score, self.manifest.samples, self.manifest.false_alarm_rate)

    def explanations(self, tensors: Tensors) -> Explanations:
        """Why some records are strange."""
        return Explanations(self.manifest, tensors, self.explain(tensors))

    def column(self, part: Part, field: AnyField) -> npt.NDArray[Any]:
        """(B,) a field's values of some rows, as the graph takes them."""
        return self._column(part.tensors, field)

    def training_column(self, field: AnyField) -> npt.NDArray[Any]:
        """(B,) a field's values of the rows that were trained on."""
        return self._column(self.train, field)

    def _column(self, tensors: Tensors, field: AnyField) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = tensors[field.kind][:, self.manifest.record.columns[field.name]]
        return values

    @property
    def table_vae(self) -> TableVAE:
        """The network, which is one of a table's records."""
        assert isinstance(self.vae, TableVAE)
        return self.vae

    def standardised(self, part: Part) -> Standardised:
        """Some rows as the network takes them."""
        tensors = {kind: torch.from_numpy(values) for kind, values in part.tensors.items()}
        return self.table_vae.standardise(tensors)


def gather(
    name: str,
    model: Model,
    score: Callable[[Tensors], Outputs],
    explain: Callable[[Tensors], Outputs],
    data: Data,
    inferred: Inferred,
    parts: Split,
    calibration: Calibration,
    manifest: Manifest,
) -> Evidence:
    """Score what the report shows.

    Args:
        name: The model's name.
        model: What the training gave.
        score: Gives the outputs of `scorer.onnx` for record inputs, with the bundle's number of draws.
        explain: Gives those of `explainer.onnx`.
        data: The table.
        inferred: What its columns seem to be.
        parts: Which of its rows served what.
        calibration: The bundle's.
        manifest: The bundle's, still without its files.
    """
    vae = model.scorer.vae

    def part(rows: Rows) -> Part:
        tensors = schema.tensors(manifest.record, data, rows)
        outputs = score(tensors) if rows.size else {}
        scores: dict[str, npt.NDArray[np.float32]] = {
            each.name: np.float32(each.sign) * outputs.get(each.output, np.empty(0, np.float32))
            for each in manifest.scores
        }
        return Part(rows, tensors, scores, outputs.get("latent_mean", np.empty((0, vae.latent_size), np.float32)))

    def normal(rows: Rows) -> Part:
        every = part(rows)
        if not contamination:
            return every
        return every.take(thinning.presumed_normal(every.scores[thinning.score(every.scores)], contamination))

    contamination = config.build(dict(manifest.training.config)).data.contamination
    held_out = normal(parts.calibration if parts.calibration.size else parts.validation)
    return Evidence(
        name=name,
        manifest=manifest,
        history=model.history,
        vae=vae,
        noise=model.noise[: manifest.samples],
        table=data,
        inferred=inferred,
        calibration=calibration,
        train=schema.tensors(manifest.record, data, parts.train),
        validation=normal(parts.validation),
        held_out=held_out,
        anomalies=part(parts.anomalies),
        kl=_kl(vae, held_out.tensors),
        explain=explain,
    )


@torch.no_grad()
def _kl(vae: VAE, tensors: Tensors) -> npt.NDArray[np.float64]:
    batch = vae.standardise({kind: torch.from_numpy(values) for kind, values in tensors.items()})
    pieces = [vae.kl_by_dimension(vae.posterior(piece)) for piece in batch.pieces(records_a_pass(vae, 1))]
    kl: npt.NDArray[np.float64] = torch.cat(pieces).double().numpy()
    return kl
