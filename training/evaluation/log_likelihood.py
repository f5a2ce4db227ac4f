"""log p(x) of records, estimated by importance sampling with many draws.

Scores are densities of standardised numbers. Here densities are those of the numbers themselves, in the fields' own
units, so that models compare which standardise or transform otherwise.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from bundle.folder.store import Bundle
from bundle.record.schema import ImageSchema, RecordSchema, TableSchema
from reading.options import Options
from training.config import DataConfig
from training.data import schema, split
from training.errors import ConfigInvalid, DataInvalid
from training.evaluation import labelled
from training.export import runs
from training.export.runs import pieces
from training.network.batch import Record

_OUTPUT = "iwae"
_DRAWS = 250
"""Of z in one run of the graph; of images fewer, so that a run decodes no more than of a table."""
_RECORDS = 4
"""In one run; each such piece has draws of its own, so that errors of records do not add up."""


@dataclass(frozen=True)
class LogLikelihood:
    """The mean of log p(x) over some records.

    Args:
        samples: Draws of z a record.
        records: How many.
        mean: Nats a record, of numbers a density in their own units.
        standard_error: Of the mean, in nats, between records; None of one record.
        bits_per_dimension: -mean / (H W C log 2) of images whose likelihood is a probability, else None.
    """

    samples: int
    records: int
    mean: float
    standard_error: float | None
    bits_per_dimension: float | None


def log_likelihoods(
    scorer: onnxruntime.InferenceSession, record: Record, latent_size: int, samples: int, seed: int
) -> npt.NDArray[np.float64]:
    """log(1/L sum_l p(x, z_l) / q(z_l|x)), a lower bound of log p(x) in the mean that tightens as L grows.

    Numbers are standardised, as in all scores; `log_slopes` is what is left to add.

    Args:
        scorer: A session of `scorer.onnx`.
        record: The record tensors, B records.
        latent_size: K.
        samples: L.
        seed: Of the draws.

    Returns:
        (B,) float64 nats, of densities of standardised numbers.

    Reference:
        Burda et al. 2016, "Importance weighted autoencoders", eq. 8 and section 5.
    """
    draws = max(1, _DRAWS // runs.rows_of_a_table(record))
    sizes = [draws] * (samples // draws) + [samples % draws] * (samples % draws > 0)
    found = []
    for number, piece in enumerate(pieces(record, _RECORDS)):
        random = np.random.default_rng([seed, number])
        # What the graph gives is a mean over its draws; of several runs, each counts by how many there were.
        sums = [
            scorer.run([_OUTPUT], {**piece, "noise": random.standard_normal((size, latent_size), np.float32)})[0]
            + math.log(size)
            for size in sizes
        ]
        found.append(np.logaddexp.reduce(np.stack(sums).astype(np.float64)) - math.log(samples))
    return np.concatenate(found)


def measure(
    bundle: Bundle, path: Path, label: str | None, normal: str | None, samples: int, options: Options | None = None
) -> dict[str, LogLikelihood]:
    """The log-likelihood of records that nothing was fitted on.

    Args:
        bundle: The bundle.
        path: The records.
        label: Column that says what is normal, or None: then all rows count as normal.
        normal: Its value in normal rows.
        samples: Draws a record.
        options: What a person said of how the file is written.

    Returns:
        Of `normal` records, and of `anomalies` where there are any.

    Raises:
        ConfigInvalid: No such file or column, or no normal row; or the bundle's model is no variational one.
        DataInvalid: The file cannot be read, or no record is left.
    """
    manifest = bundle.manifest
    scorer = runs.session(bundle.files["scorer.onnx"])
    if _OUTPUT not in {output.name for output in scorer.get_outputs()}:
        raise ConfigInvalid(f"{bundle.name} is a deterministic autoencoder, which gives records no likelihood")
    data, _ = labelled.read_records(bundle, path, options)
    rows, anomalies = split.by_label(data.table, DataConfig(label=label, normal=normal))
    _, rows, anomalies = labelled.unseen(bundle, data, rows, anomalies)
    if not rows.size:
        raise DataInvalid(f"{path}: the bundle was trained on all of its normal rows; give another file")
    found = {}
    for name, wanted in (("normal", rows), ("anomalies", anomalies)):
        if wanted.size:
            tensors = schema.tensors(manifest.record, data, wanted)
            values = log_likelihoods(scorer, tensors, manifest.latent_size, samples, manifest.training.seed)
            values += log_slopes(manifest.record, tensors)
            found[name] = _summary(manifest.record, values, samples)
    return found


def log_slopes(record: RecordSchema, tensors: Record) -> npt.NDArray[np.float64]:
    """What densities of standardised numbers lack to those of the numbers themselves.

    Args:
        record: The fields.
        tensors: B records.

    Returns:
        (B,) float64 nats: the sum of log |d standardised / dx| over the numbers that are there; 0 of an image.
    """
    match record:
        case ImageSchema():
            return np.zeros(len(tensors["image"]))
        case TableSchema():
            found = np.zeros(len(next(iter(tensors.values()))))
            for column, field in enumerate(record.numeric):
                found += np.nan_to_num(field.log_slope(tensors["numeric"][:, column].astype(np.float64)))
            return found


def _summary(record: RecordSchema, found: npt.NDArray[np.float64], samples: int) -> LogLikelihood:
    mean = float(found.mean())
    has_bits = isinstance(record, ImageSchema) and record.field.is_probability
    bits = -mean / (record.width * math.log(2.0)) if has_bits else None
    error = float(found.std(ddof=1) / math.sqrt(found.size)) if found.size > 1 else None
    return LogLikelihood(samples, found.size, mean, error, bits)
