"""A model of images as two functions: from images to latents, and from latents to the images that it expects."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from bundle.record.fields import ImageField
from bundle.record.images import Levels
from training.image.batch import Images
from training.image.likelihood import ImageLikelihood, ImageParameters
from training.network.vae import VAE

Latents = npt.NDArray[np.float32]


class EncoderDecoder(NamedTuple):
    """What pictures of a model are made with, be it the network that was trained or the graphs of a bundle.

    Args:
        encode: Gives the means (n, K) float32 of q(z|x) of images (n, H, W, C) uint8.
        expect: Gives the expected images (n, H, W, C) uint8 of latents (n, K) float32.
        latent_size: K.
        deterministic: Whether it is an autoencoder, whose latents have no prior.
    """

    encode: Callable[[Levels], Latents]
    expect: Callable[[Latents], Levels]
    latent_size: int
    deterministic: bool


def of_network(vae: VAE) -> EncoderDecoder:
    """The functions of a trained network of images, on the CPU."""
    likelihood = vae.likelihood
    assert isinstance(likelihood, ImageLikelihood)

    @torch.no_grad()
    def encode(images: Levels) -> Latents:
        # Copied, because torch warns of arrays that may not be written, as those of Arrow.
        mean: Latents = vae.posterior(Images(torch.tensor(images))).mean.numpy()
        return mean

    @torch.no_grad()
    def expect(latents: Latents) -> Levels:
        return _levels(likelihood, vae.decode(torch.from_numpy(latents)))

    return EncoderDecoder(encode, expect, vae.latent_size, vae.deterministic)


def of_graphs(
    field: ImageField,
    encoder: onnxruntime.InferenceSession,
    decoder: onnxruntime.InferenceSession,
    *,
    deterministic: bool,
) -> EncoderDecoder:
    """The functions of a bundle.

    Args:
        field: Its image.
        encoder: A session of `encoder.onnx`.
        decoder: A session of `decoder.onnx`.
        deterministic: Whether it is an autoencoder.
    """
    likelihood = ImageLikelihood(field)
    (latent,) = decoder.get_inputs()

    def encode(images: Levels) -> Latents:
        mean: Latents = encoder.run(["latent_mean"], {"image": images})[0]
        return mean

    def expect(latents: Latents) -> Levels:
        given = decoder.run(["image_location", "image_log_scale"], {latent.name: latents})
        return _levels(likelihood, ImageParameters(*map(torch.from_numpy, given)))

    return EncoderDecoder(encode, expect, latent.shape[1], deterministic)


def _levels(likelihood: ImageLikelihood, parameters: ImageParameters) -> Levels:
    """(n, H, W, C) of parameters (n, C, H, W)."""
    expected: Tensor = likelihood.expected(parameters)
    levels: Levels = expected.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return levels
