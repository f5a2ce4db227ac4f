"""Charts and sheets of images in files, legible on white and on black."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from training.report.figures import STYLE

BINS = 60
GAP, GREY = 2, 128
"""Pixels between images of a sheet, and their level."""


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure that is written to `path` (.svg or .png) at the end; inches."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else {})


def histograms(axes: Any, values: dict[str, npt.NDArray[np.floating[Any]]]) -> None:
    """Several sets of values over each other, as far as nineteen in twenty of each reach."""
    ends = np.array([np.percentile(each, (2.5, 97.5)) for each in values.values()])
    edges = np.linspace(ends[:, 0].min(), ends[:, 1].max(), BINS + 1)
    for name, each in values.items():
        share = np.full(len(each), 1.0 / len(each))
        axes.hist(each, edges, weights=share, histtype="step", label=name, linewidth=1.6)


def sheet(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Rows of images (rows, columns, H, W, C) as one (height, width, C), a grey line between them."""
    spaced = np.pad(rows, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=GREY)
    whole = spaced.transpose(0, 2, 1, 3, 4).reshape(
        rows.shape[0] * spaced.shape[2], rows.shape[1] * spaced.shape[3], rows.shape[4]
    )
    return whole[:-GAP, :-GAP]


def images(axes: Any, sheet: npt.NDArray[np.uint8], title: str) -> None:
    """A sheet of images (H, W, C), one pixel as a square."""
    axes.imshow(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title)
    axes.axis("off")
