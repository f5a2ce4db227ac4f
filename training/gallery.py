"""What a model of images sees and imagines, as rows of images: for the report and for `surprisal explore`."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.images import Images
from training.vae import VAE

Levels = npt.NDArray[np.uint8]

STEPS = 15
"""Images from one end of a latent dimension to the other, and from one image to another."""
FURTHEST = 3.0
"""The ends of a latent dimension, in standard deviations of the prior."""
_GAP, _PAPER = 2, 128


@torch.no_grad()
def reconstructions(vae: VAE, images: Levels) -> Levels:
    """(2, n, H, W, C): images (n, H, W, C), and what the decoder expects at the posterior's mean."""
    posterior = vae.posterior(Images(torch.from_numpy(images)))
    return np.stack([images, _expected(vae, posterior.mean)])


@torch.no_grad()
def samples(vae: VAE, rows: int, columns: int, seed: int) -> Levels:
    """(rows, columns, H, W, C) of latents drawn from the prior."""
    latent = torch.randn(rows * columns, vae.latent_size, generator=torch.Generator().manual_seed(seed))
    return _in_rows(_expected(vae, latent), rows)


@torch.no_grad()
def traversals(vae: VAE, image: Levels, dimensions: npt.NDArray[np.int64]) -> Levels:
    """One image with one latent dimension at a time moved from -3 to 3, the others at the posterior's mean.

    Args:
        vae: The model.
        image: (H, W, C) to begin with.
        dimensions: (n,) which dimensions to move.

    Returns:
        (n, 15, H, W, C)

    Reference:
        Higgins et al. 2017, "beta-VAE", figure 2.
    """
    mean = vae.posterior(Images(torch.from_numpy(image[np.newaxis]))).mean
    latent = mean.repeat(len(dimensions), STEPS, 1)
    for row, dimension in enumerate(dimensions.tolist()):
        latent[row, :, dimension] = torch.linspace(-FURTHEST, FURTHEST, STEPS)
    return _in_rows(_expected(vae, latent.flatten(0, 1)), len(dimensions))


@torch.no_grad()
def interpolations(vae: VAE, first: Levels, last: Levels) -> Levels:
    """(n, 15, H, W, C): along the line between the posterior means of two images each, (n, H, W, C)."""
    begin, end = (vae.posterior(Images(torch.from_numpy(images))).mean for images in (first, last))
    share = torch.linspace(0.0, 1.0, STEPS)[:, None]
    latent = begin[:, None] * (1.0 - share) + end[:, None] * share
    return _in_rows(_expected(vae, latent.flatten(0, 1)), len(first))


def sheet(images: Levels) -> Levels:
    """Rows of images as one, a grey line between them.

    Args:
        images: (rows, columns, H, W, C).

    Returns:
        (rows (H + 2) - 2, columns (W + 2) - 2, C)
    """
    rows, columns, height, width, channels = images.shape
    page = np.full((rows, height + _GAP, columns, width + _GAP, channels), _PAPER, np.uint8)
    page[:, :height, :, :width] = images.transpose(0, 2, 1, 3, 4)
    return page.reshape(rows * (height + _GAP), columns * (width + _GAP), channels)[:-_GAP, :-_GAP]


def _expected(vae: VAE, latent: Tensor) -> Levels:
    """(n, H, W, C) of latents (n, K)."""
    expected: Tensor = vae.likelihood.expected(vae.decode(latent))
    levels: Levels = expected.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return levels


def _in_rows(images: Levels, rows: int) -> Levels:
    return images.reshape(rows, -1, *images.shape[1:])
