"""What a report is made from: the trained model, and everything it says of rows that it was not trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bundle.fields import AnyField, Tensors
from bundle.manifest import Manifest
from training import schema
from training.data import Data, Rows, Split
from training.export import Outputs
from training.fit import Progress
from training.model import Model
from training.objectives import kl_by_dimension
from training.preprocess import Standardised
from training.vae import VAE

_ROWS = 1024  # in one pass


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
        train: The rows that the network was trained on.
        validation: Rows that stopped the training.
        calibration: Normal rows that nothing was fitted on.
        anomalies: Labelled anomalies; none where there is no label.
        kl: (n, K) float64 nats by latent dimension, of the calibration rows.
    """

    name: str
    manifest: Manifest
    history: tuple[Progress, ...]
    vae: VAE
    noise: npt.NDArray[np.float32]
    table: Data
    train: Tensors
    validation: Part
    calibration: Part
    anomalies: Part
    kl: npt.NDArray[np.float64]

    @property
    def score(self) -> str:
        """Name of the score that decides."""
        return self.manifest.anomaly_score

    @cached_property
    def _places(self) -> dict[str, int]:
        record = self.manifest.record
        kinds = (record.numeric, record.boolean, record.categorical)
        return {field.name: place for fields in kinds for place, field in enumerate(fields)}

    def column(self, part: Part, field: AnyField) -> npt.NDArray[Any]:
        """(B,) a field's values of some rows, as the graph takes them."""
        return self._column(part.tensors, field)

    def training_column(self, field: AnyField) -> npt.NDArray[Any]:
        """(B,) a field's values of the rows that were trained on."""
        return self._column(self.train, field)

    def _column(self, tensors: Tensors, field: AnyField) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = tensors[field.kind][:, self._places[field.name]]
        return values

    def standardised(self, part: Part) -> Standardised:
        """Some rows as the network takes them."""
        return self.vae.standardise({kind: torch.from_numpy(values) for kind, values in part.tensors.items()})


def gather(
    name: str,
    model: Model,
    score: Callable[[Tensors], Outputs],
    data: Data,
    parts: Split,
    manifest: Manifest,
) -> Evidence:
    """Score what the report shows.

    Args:
        name: The model's name.
        model: What the training gave.
        score: Gives the outputs of `scorer.onnx` for record inputs, with the bundle's number of draws.
        data: The table.
        parts: Which of its rows served what.
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

    calibration = part(parts.calibration)
    return Evidence(
        name=name,
        manifest=manifest,
        history=model.history,
        vae=vae,
        noise=model.noise[: manifest.samples],
        table=data,
        train=schema.tensors(manifest.record, data, parts.train),
        validation=part(parts.validation),
        calibration=calibration,
        anomalies=part(parts.anomalies),
        kl=_kl(vae, calibration.tensors),
    )


@torch.no_grad()
def _kl(vae: VAE, tensors: Tensors) -> npt.NDArray[np.float64]:
    batch = vae.standardise({kind: torch.from_numpy(values) for kind, values in tensors.items()})
    pieces = [kl_by_dimension(vae.posterior(piece)) for piece in batch.pieces(_ROWS)]
    kl: npt.NDArray[np.float64] = torch.cat(pieces).double().numpy()
    return kl
