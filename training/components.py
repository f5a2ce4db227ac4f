"""The scores beyond the likelihood's own: `neighbours`, `typicality`, and `combined`, the default."""

import math

import torch
from torch import Tensor, nn

from training.inference import Inference, infer
from training.neighbours import CORESET_ROWS, Neighbours
from training.preprocess import Standardised
from training.robust_scale import RobustScale, asinh
from training.typicality import Typicality
from training.vae import VAE

_ROWS = 1024  # in one pass while fitting
_FURTHEST = 1e6  # of a residual, in standardised units; its square is far from the end of float32
_ENOUGH = 100  # held-out records for a median and a deviation


class Components(nn.Module):
    """Everything of these scores that is fitted, on records that the calibration never sees.

    Args:
        vae: The trained model, on the CPU.
        train: Standardised training records; the coreset is drawn from them.
        held_out: Standardised normal records that stopped the training: they tell what is usual, together with those
            of the coreset where they are few.
        noise: eps, (L, K) float32, as many draws as the bundle takes by default.
        seed: Seed of the coreset.
        contamination: Share of the training records that may be anomalies; half as many of the nearest points of the
            coreset are then passed over.
    """

    def __init__(
        self,
        vae: VAE,
        train: Standardised,
        held_out: Standardised,
        noise: Tensor,
        seed: int,
        contamination: float = 0.0,
    ) -> None:
        super().__init__()
        order = torch.randperm(train.rows, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            coreset = _inferred(vae, train.take(order[:CORESET_ROWS]), noise)
            points = torch.cat([_position(vae, *each) for each in coreset])
            self.neighbours = Neighbours(points, max(1, math.ceil(contamination / 2 * len(points))))
            usual = _inferred(vae, held_out, noise)
            parts = [self._parts(vae, *each) for each in usual]
            if held_out.rows < _ENOUGH:
                usual += coreset
                expected = torch.cat([inference.expected for _, inference in coreset])
                parts.append(torch.stack([-expected, self.neighbours.among_themselves()], dim=-1))
            self.typicality = Typicality(torch.cat([_statistics(vae, *each) for each in usual]))
            self.scale = RobustScale(torch.cat(parts))

    def forward(self, vae: VAE, batch: Standardised, inference: Inference) -> tuple[Tensor, Tensor, Tensor]:
        """`neighbours`, `typicality` and `combined` of B records, higher = stranger.

        Args:
            vae: The model that they were fitted with.
            batch: B records.
            inference: Of these records.

        Returns:
            (B,) float32 each.
        """
        parts = self._parts(vae, batch, inference)
        combined = self.scale(parts).mean(dim=-1)
        return parts[:, 1], self.typicality(_statistics(vae, batch, inference)), combined

    def _parts(self, vae: VAE, batch: Standardised, inference: Inference) -> Tensor:
        """(B, 2): what is averaged into `combined`."""
        return torch.stack([-inference.expected, self.neighbours(_position(vae, batch, inference))], dim=-1)


def _inferred(vae: VAE, records: Standardised, noise: Tensor) -> list[tuple[Standardised, Inference]]:
    return [(piece, infer(vae, piece, noise)) for piece in records.pieces(_ROWS)]


def _position(vae: VAE, batch: Standardised, inference: Inference) -> Tensor:
    """Where records lie: their latent means, their residuals, and their values.

    Returns:
        (B, D) float32. Numbers themselves are compressed, because those that are far out for every normal record tell
        little of where it lies; how far the network is off is not.
    """
    residual = vae.likelihood.residual(batch, inference.reconstruction).clamp(-_FURTHEST, _FURTHEST)
    others = vae.preprocess(batch)[:, batch.numeric.shape[1] :]
    return torch.cat([inference.posterior.mean, residual, asinh(batch.numeric), others], dim=-1)


def _statistics(vae: VAE, batch: Standardised, inference: Inference) -> Tensor:
    """What a record leaves behind on its way through the network.

    Returns:
        (B, 6) float32: log-likelihood and KL in nats, |x - x_hat| in standardised units, |mu|, |sigma|, and the sum of
        the numbers' log-variances.
    """
    parameters = inference.reconstruction
    columns = (
        inference.expected,
        inference.kl,
        _length(vae.likelihood.residual(batch, parameters)),
        _length(inference.posterior.mean),
        _length(inference.deviation),
        parameters.numeric_log_variance.expand_as(parameters.numeric_mean).sum(dim=-1),
    )
    return torch.stack(columns, dim=-1)


def _length(vectors: Tensor) -> Tensor:
    return torch.sqrt((vectors * vectors).sum(dim=-1))
