"""The scores beyond the likelihood's own: `neighbours`, `typicality`, and `combined`, the default."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from training.detectors.coreset import coreset
from training.detectors.neighbours import Neighbours
from training.detectors.robust_scale import RobustScale, asinh
from training.detectors.typicality import Typicality
from training.network.inference import Inference, infer, records_a_pass
from training.network.posterior import Posterior
from training.table.batch import Standardised
from training.table.likelihood import Parameters
from training.table.vae import TableVAE

CORESET_SIZE = 1000
"""Points that a bundle keeps of the training records in each space."""
_FURTHEST = 1e6  # of a residual, in standardised units; its square is far from the end of float32
_ENOUGH = 100  # held-out records for a median and a deviation; where there are fewer, training records help out
_STATISTICS, _SPACES = 6, 2
_LEAST_SCALES = (*[1e-2] * _STATISTICS, *[0.1] * _SPACES)


class Components(nn.Module):
    """Everything of these scores that is fitted, on records that the calibration never sees.

    Args:
        vae: The trained model, on the CPU.
        train: Standardised training records, of which the coresets are made.
        held_out: Standardised normal records that stopped the training: they tell what is usual, together with some
            of the training records where they are few.
        noise: eps, (L, K) float32, as many draws as the bundle takes by default.
        seed: Seed of the coresets.
    """

    names = ("neighbours", "typicality", "combined")
    signs: Tensor

    def __init__(self, vae: TableVAE, train: Standardised, held_out: Standardised, noise: Tensor, seed: int) -> None:
        super().__init__()
        # Of the statistics the log-likelihood alone has a share in `combined`, and there less is stranger.
        self.register_buffer("signs", torch.tensor([-1.0, *[0.0] * (_STATISTICS - 1), *[1.0] * _SPACES]))
        with torch.no_grad():
            # One after the other, so that the points of one space alone are in memory.
            self.absolute = Neighbours(coreset(_located(vae, train, 0), CORESET_SIZE, seed))
            self.relative = Neighbours(coreset(_located(vae, train, 1), CORESET_SIZE, seed))
            usual = [_statistics(vae, *each, self._distances(vae, *each)) for each in _inferred(vae, held_out, noise)]
            if held_out.rows < _ENOUGH:
                usual += self._usual_in_training(vae, train, noise, seed)
            self.scale = RobustScale(torch.cat(usual), torch.tensor(_LEAST_SCALES))
            self.typicality = Typicality(self.scale(torch.cat(usual))[:, :_STATISTICS])

    def forward(
        self, vae: TableVAE, batch: Standardised, inference: Inference[Parameters]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`neighbours`, `typicality` and `combined` of B records, higher = stranger.

        Args:
            vae: The model that they were fitted with.
            batch: B records.
            inference: Of these records.

        Returns:
            (B,) float32 each.
        """
        scaled = self.scale(_statistics(vae, batch, inference, self._distances(vae, batch, inference)))
        statistics, distances = scaled.split([_STATISTICS, _SPACES], dim=-1)
        return distances.mean(dim=-1), self.typicality(statistics), (scaled * self.signs).sum(dim=-1) / (1 + _SPACES)

    def _distances(self, vae: TableVAE, batch: Standardised, inference: Inference[Parameters]) -> list[Tensor]:
        """The squared distance in each space, (B, 1) each."""
        absolute, relative = _positions(vae, batch, inference.posterior, inference.reconstruction)
        return [self.absolute(absolute), self.relative(relative)]

    def _usual_in_training(self, vae: TableVAE, train: Standardised, noise: Tensor, seed: int) -> list[Tensor]:
        """The same statistics of training records; of a point of the coreset, the nearest of the others counts."""
        sample = torch.randperm(train.rows, generator=torch.Generator().manual_seed(seed))[:CORESET_SIZE]
        inferred = _inferred(vae, train.take(sample), noise)
        if train.rows > CORESET_SIZE:
            return [_statistics(vae, *each, self._distances(vae, *each)) for each in inferred]
        rows = records_a_pass(vae, len(noise))
        among = [torch.split(space.among_themselves()[sample], rows) for space in (self.absolute, self.relative)]
        return [_statistics(vae, *each, [part[i] for part in among]) for i, each in enumerate(inferred)]


def _inferred(
    vae: TableVAE, records: Standardised, noise: Tensor
) -> Iterator[tuple[Standardised, Inference[Parameters]]]:
    for piece in records.pieces(records_a_pass(vae, len(noise))):
        yield piece, infer(vae, piece, noise)


def _located(vae: TableVAE, records: Standardised, space: int) -> Tensor:
    """(n, D) positions of many records in the first or the second space."""
    located = torch.empty(0)
    done = 0
    for piece in records.pieces(records_a_pass(vae, 1)):
        posterior = vae.posterior(piece)
        positions = _positions(vae, piece, posterior, vae.decode(posterior.mean))[space]
        if not done:  # Once for all records: pieces that are joined at the end would be in memory twice.
            located = torch.empty(records.rows, positions.shape[1])
        located[done : done + piece.rows] = positions
        done += piece.rows
    return located


def _positions(
    vae: TableVAE, batch: Standardised, posterior: Posterior, reconstruction: Parameters
) -> tuple[Tensor, Tensor]:
    """Where records lie, in two spaces, because what is far in one is often near in the other.

    Returns:
        (B, D) float32 each: latent means, residuals and values of the fields. In the first, the absolute, residuals
        are in standardised units and count as they are: how far the network is off is not compressed. In the second,
        the relative, they are in units of the deviation that the network expects, compressed. Numbers themselves are
        compressed in the first and bounded in the second, because those that are far out for every normal record tell
        little of where it lies.
    """
    residual = vae.likelihood.residual(batch, reconstruction).clamp(-_FURTHEST, _FURTHEST)
    inputs = vae.preprocess(batch)
    numeric = batch.numeric.shape[1]
    others = inputs[:, numeric:]
    per_deviation = torch.exp(-0.5 * reconstruction.numeric_log_variance)
    compressed = asinh(torch.cat([batch.numeric, residual[:, :numeric] * per_deviation], dim=-1))
    return (
        torch.cat([posterior.mean, residual, compressed[:, :numeric], others], dim=-1),
        torch.cat([posterior.mean, compressed[:, numeric:], residual[:, numeric:], inputs], dim=-1),
    )


def _statistics(
    vae: TableVAE, batch: Standardised, inference: Inference[Parameters], squared_distances: list[Tensor]
) -> Tensor:
    """What a record leaves behind on its way through the network.

    Returns:
        (B, 6 + spaces) float32: log-likelihood and KL in nats, the sum of the numbers' log-variances (0 where there are
        none), |x - x_hat| in standardised units, |mu|, |sigma|; and the distances to the coresets.
    """
    parameters = inference.reconstruction
    vectors = (vae.likelihood.residual(batch, parameters), inference.posterior.mean, inference.deviation)
    squares = [(vector * vector).sum(dim=-1, keepdim=True) for vector in vectors]
    log_variance = torch.zeros_like(inference.kl)
    # A sum over no fields would be left out by the exporter, and its place with it.
    if parameters.numeric_mean.shape[-1]:
        log_variance = parameters.numeric_log_variance.expand_as(parameters.numeric_mean).sum(dim=-1)
    plain = torch.stack([inference.expected, inference.kl, log_variance], dim=-1)
    return torch.cat([plain, torch.sqrt(torch.cat([*squares, *squared_distances], dim=-1))], dim=-1)
