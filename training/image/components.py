"""The scores of images beyond the likelihood's own, of which `combined` is the default."""

import math

import torch
from torch import Tensor, nn

from training.detectors.coreset import coreset
from training.detectors.neighbours import Neighbours
from training.detectors.robust_scale import RobustScale
from training.detectors.typicality import Typicality
from training.image.batch import Images
from training.image.likelihood import ImageParameters
from training.image.statistics import code_length, roughness
from training.image.vae import ImageVAE
from training.network.inference import Inference, infer, records_a_pass

CORESET_SIZE = 1000
"""Points that a bundle keeps of the training images."""
_ENOUGH = 100  # held-out images for medians and covariances; where there are fewer, training images help out
_LEAST_SCALE = 1e-2
_LEAST_PATH_SCALES = torch.tensor([1.0, 0.1, *[_LEAST_SCALE] * 4, 1.0])
_LEAST_PART_SCALES = torch.tensor([0.1, 0.1, 1.0])
"""Sums over all pixels, in nats and bits, differ by more than this between any two images that are not the same;
float32 knows them no better than to a thousandth."""


class ImageComponents(nn.Module):
    """Everything of these scores that is fitted, on images that the calibration never sees.

    A foreign image that is simpler than normal ones is *more* likely, so the likelihood alone fails, and each remedy
    fails elsewhere. Three that fail differently are added up in robust deviations: what the likelihood says beyond how
    complicated the image is (`complexity`, in one direction: strange is what is costly for its simplicity), what the
    image leaves behind on its way through the network (`typicality`), and its own roughness at several scales
    (`texture`), these two in both directions.

    Args:
        vae: The trained model, on the CPU.
        train: Training images, of which the coreset is made.
        held_out: Normal images that stopped the training: they tell what is usual, together with some of the training
            images where they are few.
        noise: eps, (L, K) float32, as many draws as the bundle takes by default.
        seed: Seed of the coreset.

    Reference:
        Nalisnick et al. 2019, "Do deep generative models know what they don't know?" (the failure); Serrà et al. 2020,
        "Input complexity and out-of-distribution detection with likelihood-based generative models"; Morningstar et
        al. 2021, "Density of states estimation for out-of-distribution detection".
    """

    names = ("neighbours", "typicality", "texture", "complexity", "combined")

    def __init__(self, vae: ImageVAE, train: Images, held_out: Images, noise: Tensor, seed: int) -> None:
        super().__init__()
        sample = torch.randperm(train.rows, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            self.coreset = Neighbours(coreset(_means(vae, train), CORESET_SIZE, seed))
            usual = [held_out] if held_out.rows >= _ENOUGH else [held_out, train.take(sample[:CORESET_SIZE])]
            pairs = [
                (piece, infer(vae, piece, noise))
                for images in usual
                for piece in images.pieces(records_a_pass(vae, len(noise)))
            ]
            path = torch.cat([_path(vae, *each) for each in pairs])
            texture = torch.cat([roughness(piece.levels) for piece, _ in pairs])
            self.path_scale = RobustScale(path, _LEAST_PATH_SCALES)
            self.texture_scale = RobustScale(texture, torch.full((texture.shape[1],), _LEAST_SCALE))
            self.path_typicality = Typicality(self.path_scale(path))
            self.texture_typicality = Typicality(self.texture_scale(texture))
            parts = torch.cat([self._parts(vae, *each) for each in pairs])
            self.part_scale = RobustScale(parts, _LEAST_PART_SCALES)
            distances = torch.cat([self._distance(inference) for _, inference in pairs])
            self.distance_scale = RobustScale(distances, torch.full((1,), _LEAST_SCALE))

    def forward(self, vae: ImageVAE, batch: Images, inference: Inference[ImageParameters]) -> tuple[Tensor, ...]:
        """The scores in the order of `names` of B images, higher = stranger.

        Args:
            vae: The model that they were fitted with.
            batch: B images.
            inference: Of these images.

        Returns:
            (B,) float32 each; `complexity` is in bits, `combined` in robust deviations, not compressed.
        """
        parts = self._parts(vae, batch, inference)
        typicality, texture, complexity = parts.unbind(dim=1)
        neighbours = self.distance_scale(self._distance(inference)).squeeze(1)
        combined = self.part_scale.deviations(parts).mean(dim=1)
        return neighbours, typicality, texture, complexity, combined

    def _parts(self, vae: ImageVAE, batch: Images, inference: Inference[ImageParameters]) -> Tensor:
        """(B, 3): typicality, texture and complexity."""
        levels = batch.levels
        complexity = (inference.kl - inference.expected) / math.log(2.0) - code_length(levels)
        typicality = self.path_typicality(self.path_scale(_path(vae, batch, inference)))
        texture = self.texture_typicality(self.texture_scale(roughness(levels)))
        return torch.stack([typicality, texture, complexity], dim=1)

    def _distance(self, inference: Inference[ImageParameters]) -> Tensor:
        """(B, 1) of the latent mean from the nearest point of the coreset."""
        return torch.sqrt(self.coreset(inference.posterior.mean))


def _means(vae: ImageVAE, images: Images) -> Tensor:
    """(n, K) latent means."""
    return torch.cat([vae.posterior(piece).mean for piece in images.pieces(records_a_pass(vae, 1))])


def _path(vae: ImageVAE, batch: Images, inference: Inference[ImageParameters]) -> Tensor:
    """What an image leaves behind on its way through the network.

    Returns:
        (B, 7) float32: log-likelihood and KL in nats, the mean log-scale, |x - x_hat| in half ranges of levels, |mu|,
        |sigma|, and the code length in bits.
    """
    parameters = inference.reconstruction
    residual = vae.likelihood.residual(batch, parameters)
    vectors = (residual, inference.posterior.mean, inference.deviation)
    sizes = [torch.sqrt((vector * vector).sum(dim=1)) for vector in vectors]
    log_scale = parameters.log_scale.expand_as(parameters.location).mean(dim=(1, 2, 3))
    return torch.stack([inference.expected, inference.kl, log_scale, *sizes, code_length(batch.levels)], dim=1)
