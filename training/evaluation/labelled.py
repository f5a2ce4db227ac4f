"""A bundle's scores and other detectors, measured on the same labelled rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bundle.folder import contents
from bundle.folder.store import Bundle
from bundle.record.fields import ImageField
from bundle.record.schema import ImageSchema
from reading.options import Options
from training.config import DataConfig, build
from training.data import image_files, schema, split
from training.data.read import Data, Rows, read
from training.errors import DataInvalid
from training.evaluation import baselines
from training.evaluation.measures import Measure, measures
from training.export import runs

DetectorScores = dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
"""By detector, (n,) scores of normal rows and (m,) of anomalies, higher = stranger."""

_SHARE = 0.5  # of the normal rows of another file than the training's, for the baselines


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        name: The model's.
        version: The model's.
        data: The file's name.
        anomaly_score: The score that the bundle calls its own.
        threshold: A row whose own score is above it is flagged.
        false_alarm_rate: The share of normal rows that should be.
        normal: Rows that are normal.
        anomalies: Rows that are not.
        fitted_on: Other normal rows, which the baselines were fitted on.
        trained_on: Labelled anomalies that the network was trained on or stopped by, and that are left out therefore.
        absent: Fields that are no column, and missing in every row.
        read_as: How the file was read where a reader could expect otherwise, in sentences.
        scores: By detector, (normal,) and (anomalies,) scores, higher = stranger; the bundle's come first.
        baselines: How many of the detectors are no scores of the bundle.
        measures: By detector and measure.
    """

    name: str
    version: int
    data: str
    anomaly_score: str
    threshold: float
    false_alarm_rate: float
    normal: int
    anomalies: int
    fitted_on: int
    trained_on: int
    absent: tuple[str, ...]
    read_as: tuple[str, ...]
    scores: DetectorScores
    baselines: int
    measures: dict[str, dict[str, Measure]]


def evaluate(bundle: Bundle, path: Path, label: str, normal: str, options: Options | None = None) -> Evaluation:
    """Measure on rows that neither the bundle nor the baselines have seen.

    Of the file that the bundle was trained from these are the calibration's normal rows and those anomalies that were
    no training rows unnoticed, and the baselines are fitted on the normal rows among the network's; of another file a
    random half of the normal rows is for the baselines.

    Args:
        bundle: The bundle.
        path: The labelled rows.
        label: Column that says what is normal.
        normal: Its value in normal rows.
        options: What a person said of how the file is written.

    Raises:
        ConfigInvalid: No such file or column, or no normal row.
        DataInvalid: The file cannot be read, none of the fields is a column, a value does not fit its field, or there
            are no anomalies.
    """
    data, absent = read_records(bundle, path, options)
    rows = _rows(bundle, data, path, DataConfig(label=label, normal=normal))
    of_bundle = _bundle_scores(bundle, data, rows)
    scores = of_bundle | _baseline_scores(bundle, data, rows)
    return Evaluation(
        name=bundle.name,
        version=bundle.version,
        data=data.name,
        anomaly_score=bundle.manifest.anomaly_score,
        threshold=bundle.manifest.calibration.thresholds[str(bundle.manifest.samples)],
        false_alarm_rate=bundle.manifest.false_alarm_rate,
        normal=rows.normal.size,
        anomalies=rows.anomalies.size,
        fitted_on=rows.known.size,
        trained_on=rows.trained_on,
        absent=absent,
        read_as=data.read_as,
        scores=scores,
        baselines=len(scores) - len(of_bundle),
        measures={name: measures(*found) for name, found in scores.items()},
    )


@dataclass(frozen=True)
class _Labelled:
    """Rows of a file by what they serve, and how many anomalies are left out because the network has seen them."""

    known: Rows
    normal: Rows
    anomalies: Rows
    trained_on: int


def _rows(bundle: Bundle, data: Data, path: Path, labels: DataConfig) -> _Labelled:
    """Normal rows for the baselines to be fitted on, and normal rows and anomalies that nothing was fitted on."""
    facts = bundle.manifest.training
    rows, labelled = split.by_label(data.table, labels)
    if not labelled.size:
        raise DataInvalid(
            f"{path}: every row with a {labels.label!r} is {labels.normal}, so there are no anomalies to be found"
        )
    known, fresh, anomalies = unseen(bundle, data, rows, labelled)
    if not anomalies.size:
        raise DataInvalid(f"{path}: the bundle was trained on all of its labelled anomalies; give another file")
    if data.sha256 != facts.data_sha256:
        shuffled = np.random.default_rng(facts.seed).permutation(rows)
        half = int(_SHARE * shuffled.size)
        known, fresh = np.sort(shuffled[:half]), np.sort(shuffled[half:])
    if min(known.size, fresh.size) < 2:
        raise DataInvalid(f"{path}: {rows.size} normal rows are too few to fit on some and to test on others")
    return _Labelled(known, fresh, anomalies, labelled.size - anomalies.size)


def _bundle_scores(bundle: Bundle, data: Data, rows: _Labelled) -> DetectorScores:
    """The bundle's own scores of normal rows and of anomalies."""
    manifest = bundle.manifest
    noise = contents.noise(bundle)[: manifest.samples]
    session = runs.session(bundle.files["scorer.onnx"])
    usual, strange = (
        runs.score(session, schema.tensors(manifest.record, data, wanted), noise)
        for wanted in (rows.normal, rows.anomalies)
    )
    return {
        each.name: (
            each.sign * usual[each.output].astype(np.float64),
            each.sign * strange[each.output].astype(np.float64),
        )
        for each in manifest.scores
    }


def _baseline_scores(bundle: Bundle, data: Data, rows: _Labelled) -> DetectorScores:
    """The baselines' scores of the same rows, once they are fitted on others."""
    record = bundle.manifest.record
    usual, strange, known = (
        baselines.features(record, schema.tensors(record, data, wanted))
        for wanted in (rows.normal, rows.anomalies, rows.known)
    )
    fitted = baselines.fit(known, bundle.manifest.training.seed)
    return {name: (detector(usual), detector(strange)) for name, detector in fitted.items()}


def read_records(bundle: Bundle, path: Path, options: Options | None = None) -> tuple[Data, tuple[str, ...]]:
    """A file of records, and which of the bundle's fields are no column of it.

    Args:
        bundle: The bundle.
        path: The file.
        options: What a person said of how it is written; by default what holds for every file of the bundle.

    Raises:
        ConfigInvalid: No such file.
        DataInvalid: It cannot be read, none of the fields is a column, or its images are no such images.
    """
    record = bundle.manifest.record
    kinds: dict[str, str] = {field.name: field.kind for field in record.fields}
    kinds |= dict.fromkeys(record.timestamps, "timestamp")
    data = read(path, options or Options.kept(bundle.manifest.training.config), kinds, record.date_orders)
    absent = tuple(record.absent(data.table.column_names))
    if len(absent) == len(record.names):
        raise DataInvalid(f"{path}: none of the model's fields is a column: {', '.join(absent)}")
    if isinstance(record, ImageSchema):
        _check_images(path, record.field, data.table[record.field.name].type)
    return data, absent


def _check_images(path: Path, field: ImageField, kind: pa.DataType) -> None:
    if not image_files.is_column(kind):
        raise DataInvalid(f"{path}: column {field.name!r} holds values of type {kind}; images are expected")
    if tuple(kind.shape) != field.shape:
        height, width, channels = kind.shape
        raise DataInvalid(
            f"{path}: its images are {_size(width, height, channels)}; those of the model are "
            f"{_size(field.width, field.height, field.channels)}"
        )


def _size(width: int, height: int, channels: int) -> str:
    return f"{width} wide and {height} high, {'grey' if channels == 1 else 'RGB'}"


def unseen(bundle: Bundle, data: Data, rows: Rows, anomalies: Rows) -> tuple[Rows, Rows, Rows]:
    """Which rows of a file the bundle was trained on, and which it has never seen.

    Args:
        bundle: The bundle.
        data: The file.
        rows: Its normal rows.
        anomalies: Its labelled anomalies.

    Returns:
        The normal rows that the network was trained on; the normal rows and the anomalies that nothing was fitted on.
        Of another file than the training's, none and all.

    Raises:
        DataInvalid: No normal row is left, because each was trained on.
    """
    facts = bundle.manifest.training
    if data.sha256 != facts.data_sha256:
        return rows[:0], rows, anomalies
    config = build(dict(facts.config))
    parts = split.split(data, config.data, config.scoring.false_alarm_rate, config.seed)
    if parts.folds:
        raise DataInvalid(
            f"{data.name}: the bundle was trained on every normal row of this file (its p-values are cross-fitted), so "
            "none is left to test on; give another file"
        )
    trained_on = np.concatenate([parts.train, parts.validation])
    return (
        np.intersect1d(rows, parts.train),
        np.intersect1d(rows, parts.calibration),
        np.setdiff1d(anomalies, trained_on),
    )
