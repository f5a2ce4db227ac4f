"""What a model of images sees and imagines, as rows of images: for the report and for `surprisal explore`."""

import numpy as np
import numpy.typing as npt

from training.image.codec import Codec, Latents, Levels

STEPS = 15
"""Images from one end of a latent dimension to the other, and from one image to another."""
FURTHEST = 3.0
"""The ends of a latent dimension, in standard deviations of the prior."""


def reconstructions(codec: Codec, images: Levels) -> Levels:
    """(2, n, H, W, C): images (n, H, W, C), and what the decoder expects at the posterior's mean."""
    return np.stack([images, codec.expect(codec.encode(images))])


def samples(codec: Codec, rows: int, columns: int, seed: int) -> Levels:
    """(rows, columns, H, W, C) of latents drawn from the prior."""
    shape = (rows, columns, codec.latent_size)
    return _decoded(codec, np.random.default_rng(seed).standard_normal(shape, np.float32))


def traversals(codec: Codec, image: Levels, dimensions: npt.NDArray[np.int64]) -> Levels:
    """One image with one latent dimension at a time moved from -3 to 3, the others at the posterior's mean.

    Args:
        codec: The model.
        image: (H, W, C) to begin with.
        dimensions: (n,) which dimensions to move.

    Returns:
        (n, 15, H, W, C)

    Reference:
        Higgins et al. 2017, "beta-VAE", figure 2.
    """
    latents = np.tile(codec.encode(image[np.newaxis]), (len(dimensions), STEPS, 1))
    for row, dimension in zip(latents, dimensions.tolist(), strict=True):
        row[:, dimension] = np.linspace(-FURTHEST, FURTHEST, STEPS)
    return _decoded(codec, latents)


def interpolations(codec: Codec, first: Levels, last: Levels) -> Levels:
    """(n, 15, H, W, C): along the line between the posterior means of two images each, (n, H, W, C)."""
    begin, end = codec.encode(first)[:, np.newaxis], codec.encode(last)[:, np.newaxis]
    share = np.linspace(0.0, 1.0, STEPS, dtype=np.float32)[:, np.newaxis]
    return _decoded(codec, begin * (1.0 - share) + end * share)


def _decoded(codec: Codec, latents: Latents) -> Levels:
    """(rows, columns, H, W, C) of latents (rows, columns, K)."""
    # A row at a time: decoders of large images hold many maps of each.
    return np.stack([codec.expect(row) for row in latents])
