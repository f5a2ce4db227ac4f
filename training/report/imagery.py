"""Pictures of a model of images: what it sees, what it imagines, and its strangest images with their maps."""

import base64

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from bundle import images
from training import gallery
from training.report.evidence import Evidence

SHOWN = 12
"""Images beside their reconstructions, ..."""
SAMPLES = (4, 12)
"""... rows and columns of samples of the prior, ..."""
DIMENSIONS = 10
"""... and latent dimensions that are traversed, most."""
PAIRS = 4


def reconstructions(evidence: Evidence) -> Markup:
    """Held-out images, and below each what the decoder expects."""
    return picture(gallery.reconstructions(evidence.vae, _shown(evidence)), "Images above their reconstructions")


def samples(evidence: Evidence) -> Markup:
    """Images of latents drawn from the prior."""
    seed = evidence.manifest.training.seed
    return picture(gallery.samples(evidence.vae, *SAMPLES, seed), "Images that the model imagines")


def traversals(evidence: Evidence) -> Markup:
    """One image with each latent dimension moved, those of the most KL first."""
    dimensions = np.argsort(-evidence.kl.mean(axis=0), kind="stable")[:DIMENSIONS]
    rows = gallery.traversals(evidence.vae, _shown(evidence)[0], dimensions)
    return picture(rows, "An image with one latent dimension moved in each row")


def interpolations(evidence: Evidence) -> Markup:
    """From one held-out image to another, through the latent space."""
    shown = _shown(evidence)
    pairs = min(PAIRS, len(shown) // 2)
    rows = gallery.interpolations(evidence.vae, shown[:pairs], shown[pairs : 2 * pairs])
    return picture(rows, "From one image to another in each row")


def picture(rows: gallery.Levels, words: str) -> Markup:
    """Rows of images (R, N, H, W, C) as an element that loads nothing.

    Args:
        rows: The images.
        words: What a screen reader says.
    """
    sheet = gallery.sheet(rows)
    content = base64.b64encode(images.png(sheet)).decode("ascii")
    height, width = sheet.shape[:2]
    return Markup('<img class="pixels" src="data:image/png;base64,{}" width="{}" height="{}" alt="{}">').format(
        content, width, height, escape(words)
    )


def _shown(evidence: Evidence) -> npt.NDArray[np.uint8]:
    shown: npt.NDArray[np.uint8] = evidence.held_out.tensors["image"][:SHOWN]
    return shown
