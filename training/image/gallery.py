"""What a model of images sees and imagines, as rows of images: for the report and for `surprisal explore`."""

import numpy as np
import numpy.typing as npt

from bundle.record.images import Levels
from training.image.encoder_decoder import EncoderDecoder, Latents

STEPS = 15
"""Images from one end of a latent dimension to the other, and from one image to another."""
FURTHEST = 3.0
"""The ends of a latent dimension, in standard deviations of the prior."""


def reconstructions(encoder_decoder: EncoderDecoder, images: Levels) -> Levels:
    """(2, n, H, W, C): images (n, H, W, C), and what the decoder expects at the posterior's mean."""
    return np.stack([images, encoder_decoder.expect(encoder_decoder.encode(images))])


def samples(encoder_decoder: EncoderDecoder, rows: int, columns: int, seed: int) -> Levels:
    """(rows, columns, H, W, C) of latents drawn from the prior."""
    shape = (rows, columns, encoder_decoder.latent_size)
    return _decoded(encoder_decoder, np.random.default_rng(seed).standard_normal(shape, np.float32))


def traversals(encoder_decoder: EncoderDecoder, image: Levels, dimensions: npt.NDArray[np.int64]) -> Levels:
    """One image with one latent dimension at a time moved from -3 to 3, the others at the posterior's mean.

    Args:
        encoder_decoder: The model.
        image: (H, W, C) to begin with.
        dimensions: (n,) which dimensions to move.

    Returns:
        (n, 15, H, W, C)

    Reference:
        Higgins et al. 2017, "beta-VAE", figure 2.
    """
    latents = np.tile(encoder_decoder.encode(image[np.newaxis]), (len(dimensions), STEPS, 1))
    for row, dimension in zip(latents, dimensions.tolist(), strict=True):
        row[:, dimension] = np.linspace(-FURTHEST, FURTHEST, STEPS)
    return _decoded(encoder_decoder, latents)


def interpolations(encoder_decoder: EncoderDecoder, first: Levels, last: Levels) -> Levels:
    """(n, 15, H, W, C): along the line between the posterior means of two images each, (n, H, W, C)."""
    begin, end = encoder_decoder.encode(first)[:, np.newaxis], encoder_decoder.encode(last)[:, np.newaxis]
    share = np.linspace(0.0, 1.0, STEPS, dtype=np.float32)[:, np.newaxis]
    return _decoded(encoder_decoder, begin * (1.0 - share) + end * share)


def _decoded(encoder_decoder: EncoderDecoder, latents: Latents) -> Levels:
    """(rows, columns, H, W, C) of latents (rows, columns, K)."""
    # A row at a time: decoders of large images hold many maps of each.
    return np.stack([encoder_decoder.expect(row) for row in latents])
