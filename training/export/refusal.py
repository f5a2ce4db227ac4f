"""What happens to graphs that do not compute what their network does: they are kept aside, and it is said where."""

from collections.abc import Mapping
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import numpy as np

from bundle.folder import refused
from training.errors import ParityFailed

FILE_NAME = "difference.npz"
_COMPUTE = ("onnxruntime", "onnxscript", "torch")


def set_aside(failed: ParityFailed, out: Path, name: str, files: Mapping[str, bytes]) -> ParityFailed:
    """Keep graphs that were refused, with the records that differ.

    Args:
        failed: What differs.
        out: The models folder.
        name: The model's name.
        files: The graphs and the noise, by file name.

    Returns:
        The same, which says as well where they lie and what to do.
    """
    arrays = BytesIO()
    np.savez_compressed(arrays, allow_pickle=False, **failed.evidence)
    try:
        folder = refused.keep(out, name, {**files, FILE_NAME: arrays.getvalue()})
        kept = f"the graphs are kept in {folder}, the records that differ and both answers in its {FILE_NAME}"
    except OSError as error:
        kept = f"the graphs could not be kept ({error})"
    releases = ", ".join(f"{package} {version(package)}" for package in _COMPUTE)
    return ParityFailed(
        f"{failed}. No version was written; {kept}. Train with another --seed; where that differs too, the packages "
        f"that export and compute are at fault ({releases}): install other releases of them, and let --resume "
        "take up this run",
        failed.evidence,
    )
