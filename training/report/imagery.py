"""Pictures of a model of images: what it sees, and what it imagines."""

import base64
from collections.abc import Iterable
from io import BytesIO

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from bundle.contents.explanation import Explanations
from bundle.record.images import Levels
from training.image import gallery
from training.image.encoder_decoder import EncoderDecoder
from training.report import formulas, wording
from training.report.panel import Panel

SHOWN = 12
"""Most images that are shown beside their reconstructions."""
SAMPLES = (4, 12)
"""Rows and columns of samples of the prior."""
DIMENSIONS = 10
"""Most latent dimensions that are traversed."""
PAIRS = 4
"""Most pairs of images that are interpolated."""

_DIM = (25, 190)
"""Levels of black and white under the surprisal: its colours stand out on both."""
_SURPRISING, _STRANGEST = (255, 205, 40), (225, 15, 70)
"""Yellow and red, in RGB: their lightness differs too, for who does not tell them apart."""
_RISE = 0.75
_GAP = 4
"""Between images, in pixels."""
_LEAST_WIDTH = 720
"""A picture's least width, in pixels: a narrower one would be blurred where it is shown."""


def panels(encoder_decoder: EncoderDecoder, images: Levels, kl: npt.NDArray[np.float64], seed: int) -> list[Panel]:
    """Everything that can be shown of a model by some images.

    Args:
        encoder_decoder: The model.
        images: (n, H, W, C) that it was not trained on; the first ones are shown.
        kl: (K,) mean KL of each latent dimension, in nats.
        seed: Of the samples.
    """
    shown = [reconstructions(encoder_decoder, images)]
    if not encoder_decoder.deterministic:
        shown.append(samples(encoder_decoder, seed))
    if len(images) > 1:
        shown.append(interpolations(encoder_decoder, images))
    if not encoder_decoder.deterministic:
        shown.append(traversals(encoder_decoder, images[0], kl))
    return shown


def reconstructions(encoder_decoder: EncoderDecoder, images: Levels) -> Panel:
    """The first images, and below each what the decoder expects."""
    rows = gallery.reconstructions(encoder_decoder, images[:SHOWN])
    return Panel(
        "Reconstructions",
        "Each image stands above what the decoder expects of it. The model takes for noise what is lost there.",
        picture(rows, "Images above their reconstructions"),
    )


def samples(encoder_decoder: EncoderDecoder, seed: int) -> Panel:
    """Images of latents drawn from the prior."""
    return Panel(
        "Samples",
        "The decoder makes these images from latents drawn from the prior. They look like normal images if the latents "
        "of normal images follow the prior.",
        picture(gallery.samples(encoder_decoder, *SAMPLES, seed), "Images that the model imagines"),
    )


def interpolations(encoder_decoder: EncoderDecoder, images: Levels) -> Panel:
    """From each of the first images to one of those after them, through the latent space."""
    pairs = min(PAIRS, len(images) // 2)
    rows = gallery.interpolations(encoder_decoder, images[:pairs], images[pairs : 2 * pairs])
    return Panel(
        "Interpolations",
        "Each row goes from one image to another along a line through the latent space. Both ends are reconstructed.",
        picture(rows, "From one image to another in each row"),
    )


def traversals(encoder_decoder: EncoderDecoder, image: Levels, kl: npt.NDArray[np.float64]) -> Panel:
    """An image (H, W, C) with each latent dimension moved, those of the most KL (K,) first."""
    dimensions = np.argsort(-kl, kind="stable")[:DIMENSIONS]
    rows = gallery.traversals(encoder_decoder, image, dimensions)
    words = [(f"dimension {each + 1}", f"{wording.nats(float(kl[each]))} nats") for each in dimensions.tolist()]
    these = "all" if len(words) == kl.size else f"{len(words)} of {kl.size}"
    return Panel(
        "Latent traversals",
        Markup(
            "Each row shows one image and moves one latent dimension from \N{MINUS SIGN}{0} to +{0} in {1} steps. The "
            "other dimensions stay at the mean of {2}. Shown are {3}, the largest mean KL first. Where a row hardly "
            "changes, the model does not use the dimension."
        ).format(f"{gallery.FURTHEST:g}", gallery.STEPS, formulas.POSTERIOR, these),
        _strips(rows, words),
    )


def explained(image: Levels, explanations: Explanations, row: int) -> Markup:
    """An image, the one that is expected, and its surprisal laid over it.

    Args:
        image: (H, W, C) uint8.
        explanations: Of several images.
        row: Its place among them.
    """
    shown = [image, explanations.expected_image(row), overlay(image, explanations.surprisal_map(row))]
    in_colour = np.stack([np.broadcast_to(each, (*image.shape[:2], 3)) for each in shown])
    return picture(
        in_colour[np.newaxis], "The image, what is expected, and the image under the surprisal of its pixels"
    )


def overlay(image: Levels, surprisal: Levels) -> Levels:
    """An image in grey, dimmed, under its surprisal in colour.

    Args:
        image: (H, W, C) uint8.
        surprisal: (H, W) uint8, 0 where a pixel is usual.

    Returns:
        (H, W, 3) uint8: grey where a pixel is usual, then yellow, then red.
    """
    share = surprisal[..., np.newaxis] / 255
    grey = _DIM[0] + (_DIM[1] - _DIM[0]) * image.mean(axis=-1, keepdims=True) / 255
    colour = (1 - share) * np.array(_SURPRISING) + share * np.array(_STRANGEST)
    opacity = share**_RISE
    levels: Levels = np.rint((1 - opacity) * grey + opacity * colour).astype(np.uint8)
    return levels


def picture(rows: Levels, words: str) -> Markup:
    """Rows of images as an element that loads nothing.

    Args:
        rows: (R, N, H, W, C) uint8.
        words: What a screen reader says.
    """
    sheet = _sheet(rows)
    height, width = sheet.shape[:2]
    file = BytesIO()
    Image.fromarray(sheet).save(file, "PNG")
    content = base64.b64encode(file.getvalue()).decode("ascii")
    return Markup('<img class="pixels" src="data:image/png;base64,{}" width="{}" height="{}" alt="{}">').format(
        content, width, height, words
    )


def _strips(rows: Levels, words: Iterable[tuple[str, str]]) -> Markup:
    """Rows of images (R, N, H, W, C), each with its name and a figure beside it."""
    strips = (
        Markup("<dt>{} <span>{}</span></dt><dd>{}</dd>").format(name, figure, picture(row[np.newaxis], name))
        for row, (name, figure) in zip(rows, words, strict=True)
    )
    return Markup('<dl class="strips">{}</dl>').format(Markup("").join(strips))


def _sheet(images: Levels) -> Levels:
    """(R, N, H, W, C) as one picture (R H' …, N W' …, 4), images enlarged by a whole number, nothing between them."""
    rows, columns, height, width, _ = images.shape
    times = -(-_LEAST_WIDTH // (columns * width))
    height, width = times * height, times * width
    page = np.zeros((rows, height + _GAP, columns, width + _GAP, 4), np.uint8)
    enlarged = images.repeat(times, axis=2).repeat(times, axis=3).transpose(0, 2, 1, 3, 4)
    page[:, :height, :, :width, :3] = enlarged
    page[:, :height, :, :width, 3] = 255
    return page.reshape(rows * (height + _GAP), columns * (width + _GAP), 4)[:-_GAP, :-_GAP]
