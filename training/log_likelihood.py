"""log p(x) of records, estimated by importance sampling with many draws."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from bundle.fields import RecordSchema
from training.export import Record, pieces

_DRAWS = 250
"""Of z in one run of the graph."""
_RECORDS = 4
"""In one run; each such piece has draws of its own, so that errors of records do not add up."""


@dataclass(frozen=True)
class LogLikelihood:
    """The mean of log p(x) over some records.

    Args:
        samples: Draws of z a record.
        records: How many.
        mean: Nats a record.
        standard_error: Of the mean, in nats, between records.
        bits_per_dimension: -mean / (H W C log 2) of images whose likelihood is a probability, else None.
    """

    samples: int
    records: int
    mean: float
    standard_error: float
    bits_per_dimension: float | None


def log_likelihoods(
    scorer: onnxruntime.InferenceSession, record: Record, latent_size: int, samples: int, seed: int
) -> npt.NDArray[np.float64]:
    """log(1/L sum_l p(x, z_l) / q(z_l|x)), a lower bound of log p(x) in the mean that tightens as L grows.

    Args:
        scorer: A session of `scorer.onnx`.
        record: The record tensors, B records.
        latent_size: K.
        samples: L.
        seed: Of the draws.

    Returns:
        (B,) float64 nats.

    Reference:
        Burda et al. 2016, "Importance weighted autoencoders", eq. 8 and section 5.
    """
    sizes = [_DRAWS] * (samples // _DRAWS) + [samples % _DRAWS] * (samples % _DRAWS > 0)
    found = []
    for number, piece in enumerate(pieces(record, _RECORDS)):
        random = np.random.default_rng([seed, number])
        # What the graph gives is a mean over its draws; of several runs, each counts by how many there were.
        sums = [
            scorer.run(["iwae"], {**piece, "noise": random.standard_normal((size, latent_size), np.float32)})[0]
            + math.log(size)
            for size in sizes
        ]
        found.append(np.logaddexp.reduce(np.stack(sums).astype(np.float64)) - math.log(samples))
    return np.concatenate(found)


def summary(schema: RecordSchema, found: npt.NDArray[np.float64], samples: int) -> LogLikelihood:
    """The mean of such estimates, and what it is in bits per dimension."""
    mean = float(found.mean())
    bits = None
    if schema.image and schema.image[0].is_probability:
        bits = -mean / (schema.image[0].dimensions * math.log(2.0))
    error = float(found.std(ddof=1) / math.sqrt(found.size)) if found.size > 1 else math.nan
    return LogLikelihood(samples, found.size, mean, error, bits)
