"""What the files of a bundle hold beside graphs, read only as the manifest promises it and never larger."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from bundle import wording
from bundle.contents import calibration as calibrations
from bundle.contents import golden as goldens
from bundle.contents import npy
from bundle.contents.calibration import Calibration
from bundle.contents.golden import Golden
from bundle.contents.manifest import Manifest
from bundle.errors import BundleRefused
from bundle.folder.store import Bundle

NOISE = "noise.npy"
NOISE_DRAWS = 256
"""Rows of the noise table: the most draws that a request may ask for."""
_MOST_GOLDEN_VALUES = 2_000_000
_GOLDEN_IMAGES = 64
"""Golden records that may be images written as levels; there are sixteen."""

_Content = TypeVar("_Content")


def noise(bundle: Bundle) -> npt.NDArray[np.float32]:
    """The noise table, (256, K) float32.

    Raises:
        BundleRefused: The file is none of the latent size that the manifest has.
    """
    shape = (NOISE_DRAWS, bundle.manifest.latent_size)
    return read(bundle, NOISE, lambda content: npy.read(content, shape))


def calibration(bundle: Bundle) -> Calibration:
    """The calibration of every score, with every number of draws.

    Raises:
        BundleRefused: The file is none of the scores and the records that the manifest has.
    """
    manifest = bundle.manifest
    keys = [(score.name, samples) for score in manifest.scores for samples in manifest.sample_counts]
    records = manifest.calibration.records
    return read(bundle, calibrations.FILE_NAME, lambda content: Calibration.from_bytes(content, keys, records))


def golden(bundle: Bundle) -> Golden:
    """The golden records, which leave none of the scores out.

    Raises:
        BundleRefused: The file is none, or there are no cases, or they do not cover what the graphs give.
    """
    return read(bundle, goldens.FILE_NAME, lambda content: _golden(bundle.manifest, content))


def read(bundle: Bundle, file: str, parse: Callable[[bytes], _Content]) -> _Content:
    """What a file of a bundle holds.

    Args:
        bundle: Verified.
        file: The file's name.
        parse: From its bytes to what they mean.

    Raises:
        BundleRefused: The manifest lists no such file, or it cannot be understood.
    """
    try:
        return parse(bundle.files[file])
    except KeyError as error:
        raise BundleRefused(file, "is not in the manifest; train it again") from error
    except (ValueError, MemoryError) as error:
        raise BundleRefused(file, f"cannot be read: {' '.join(str(error).split())}; train it again") from error


def _golden(manifest: Manifest, content: bytes) -> Golden:
    most = _MOST_GOLDEN_VALUES + _GOLDEN_IMAGES * 2 * manifest.record.levels
    if sum(map(content.count, (b",", b"[", b"{"))) > most:
        raise ValueError(f"it holds more than {most:,} values")
    try:
        golden = Golden.model_validate_json(content)
    except ValidationError as error:  # whose own words would quote the records
        first = error.errors(include_input=False, include_url=False)[0]
        raise ValueError(": ".join([*map(str, first["loc"]), wording.words(first)])) from error
    scores = {score.output for score in manifest.scores} | {"latent_mean"}
    terms = {"field_surprisal", "conditional_surprisal"} if manifest.usual_surprisal is not None else set()
    for part, cases, outputs in (("cases", golden.cases, scores), ("explained", golden.explained, terms)):
        if outputs and not cases:
            raise ValueError(f"it has no {part}, so that nothing shows what the graph gives")
        if absent := {name for name in outputs for case in cases if name not in case.expected}:
            raise ValueError(
                f"it has {part} without {', '.join(sorted(absent))}, so that nothing shows what the graph gives"
            )
    return golden
