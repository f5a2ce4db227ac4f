"""The whole of a training run: data, schema, fit, export, parity, calibration, golden records, bundle."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from bundle.contents import calibration as calibrations
from bundle.contents import explanation
from bundle.contents import golden as goldens
from bundle.contents.calibration import Calibration
from bundle.contents.golden import Golden, GoldenCase
from bundle.contents.manifest import SAMPLE_COUNTS, CalibrationSummary, Manifest, TrainingFacts
from bundle.contents.reference import references
from bundle.contents.scores import Score, likelihoods_of
from bundle.folder import store
from bundle.record import images
from bundle.record.fields import RecordSchema, Tensors
from bundle.record.records import encode_records
from training import cross_fit, export, schema, thinning, trimming
from training import model as models
from training.components import Components
from training.config import FieldConfig, TrainingConfig
from training.data import Data, Rows, Split, split
from training.errors import ConfigInvalid
from training.explanations import Explanations
from training.fit import Progress
from training.image_components import ImageComponents
from training.measures import detection
from training.vae import VAE

Say = Callable[[str], None]
_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxscript", "pillow", "pyarrow", "surprisal", "torch")
_GOLDEN_NORMAL, _GOLDEN_ANOMALIES = 6, 2
_GOLDEN_SAMPLES = (1, 16, 256)
_EXPLAINED_SAMPLES = 16
_FEW_SAMPLES, _FEW_OF_DRAWS = 1.5, 0.05
"""Effective samples, and their share of the draws, below which a weighted objective is warned about."""


@dataclass(frozen=True)
class Trained:
    """What a run gave.

    Args:
        name: The model's name.
        version: The version that was written.
        folder: Where it stands.
        manifest: What it promises.
    """

    name: str
    version: int
    folder: Path
    manifest: Manifest


def train(
    data: Data,
    out: Path,
    name: str,
    config: TrainingConfig,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    resume: bool = False,
    say: Say = lambda line: None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """Train a model on a table and write its bundle.

    Args:
        data: The table.
        out: The models folder.
        name: The model's name in it.
        config: Everything that decides the result.
        device: Where to train; `auto` takes a GPU if there is one.
        resume: Take up the checkpoint that an interrupted run of the same data and configuration left.
        say: Told, in a sentence, what was decided and what comes next.
        report: Told about every epoch.

    Returns:
        The bundle's place and manifest.

    Raises:
        ConfigInvalid: The configuration, the name or the device asks for what does not exist.
        DataInvalid: The data cannot be trained on.
        NotANumber: The training met a NaN.
        ParityFailed: The exported graph scores otherwise than the network.
        OSError: The bundle cannot be written.
    """
    if not store.valid_name(name):
        raise ConfigInvalid(f"{name!r} is no model name; --name takes lower-case letters, digits, '.', '_' and '-'")
    target = _device(device)
    if config.data.label is not None and config.data.normal is None:
        say(
            f"no --normal value was given: every row counts as normal, whatever its {config.data.label!r}, "
            "which is only kept out of the features"
        )
    parts = split(data, config.data, config.scoring.false_alarm_rate, config.seed)
    fields = choose_fields(data, parts, config, say)
    _refuse_score(config, of_images=any(field.kind == "image" for field in fields))
    record, kept, validation = trimming.prepare(data, parts.train, parts.validation, fields, config)
    # Here, because what draws the report takes a second to load, and a call that is wrong should hear of it at once.
    from training.report import evidence, page

    say(_said_of_rows(record, parts, kept, validation))
    model = models.fit(data, record, kept, validation, config, target, folder=out / name, resume=resume, report=report)
    if few := _said_of_weights(model.history[-1], config):
        say(few)
    vae, noise = model.scorer.vae, model.noise
    say("exporting to ONNX and comparing with torch")
    graphs = export.export(model.scorer, record)
    scorer = export.session(graphs.scorer)
    held_out = schema.tensors(record, data, parts.calibration if parts.calibration.size else parts.validation)
    explanations = Explanations(vae, record, noise)
    worst = max(export.verify_parity(model.scorer, scorer, held_out, noise), explanations.verify_parity(held_out))
    say(f"ONNX Runtime and torch agree to within {worst:.1%} of the tolerance; calibrating")
    forget_folds = _nothing
    if parts.folds:
        say(_said_of_folds(parts))
        scores, forget_folds = cross_fit.scores(
            data, parts, fields, config, target, folder=out / name, resume=resume, report=report
        )
    else:
        scores = export.anomaly_scores(scorer, held_out, noise, model.scores)
    calibration = _calibration(scores, config)
    metrics = {"validation_elbo": model.validation_elbo}
    if parts.anomalies.size:
        anomalies = schema.tensors(record, data, parts.anomalies)
        metrics |= _detection(scorer, model.scores, anomalies, noise[: config.scoring.samples], calibration)
    manifest = Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        record=record,
        reference=references(record, schema.tensors(record, data, parts.train)),
        latent_size=vae.latent_size,
        likelihoods=likelihoods_of(record),
        scores=model.scores,
        anomaly_score=config.anomaly_score,
        samples=config.scoring.samples,
        false_alarm_rate=config.scoring.false_alarm_rate,
        calibration=_summary(calibration, parts, config),
        usual_surprisal=explanations.usual(
            _presumed_normal(held_out, scorer, noise, model.scores, config), config.scoring.samples
        ),
        training=TrainingFacts(
            data=data.name,
            data_sha256=data.sha256,
            rows={
                "train": kept.size,
                "validation": validation.size,
                "calibration": calibration.records,
                "anomalies": parts.anomalies.size,
            },
            seed=config.seed,
            device=str(target),
            config=config.model_dump(mode="json", exclude_none=True),
            metrics=metrics,
            packages={package: version(package) for package in _PACKAGES},
        ),
        files={},
    )

    def score(tensors: Tensors) -> export.Outputs:
        return export.score(scorer, tensors, noise[: config.scoring.samples])

    def explain(tensors: Tensors) -> export.Outputs:
        return explanations.explain(tensors, config.scoring.samples)

    used = replace(parts, train=kept)
    golden = _with_explanations(_golden(vae, scorer, record, data, parts, noise), record, explanations)
    files = {
        "scorer.onnx": graphs.scorer,
        explanation.FILE_NAME: explanations.graph,
        "encoder.onnx": graphs.encoder,
        "decoder.onnx": graphs.decoder,
        "noise.npy": _npy(noise),
        calibrations.FILE_NAME: calibration.to_bytes(),
        goldens.FILE_NAME: golden.model_dump_json(indent=1).encode(),
        page.FILE_NAME: page.write(evidence.gather(name, model, score, explain, data, used, calibration, manifest)),
    }
    number = store.write(out, name, manifest, files)
    model.forget_checkpoint()
    forget_folds()
    return Trained(name, number, out / name / str(number), store.load(out, name, number).manifest)


def choose_fields(data: Data, parts: Split, config: TrainingConfig, say: Say) -> tuple[FieldConfig, ...]:
    """The configuration's fields, else what the columns seem to be; says which columns are left out, and why.

    Raises:
        ConfigInvalid: A field that is also the label or excluded.
        DataInvalid: No column is left, or one holds an infinity.
    """
    if config.fields is None:
        inferred = schema.infer(data, parts.normal, config)
        for column, reason in inferred.left_out.items():
            say(f"column {column!r} {reason}; left out")
        return inferred.fields
    for field in config.fields:
        if field.name == config.data.label:
            raise ConfigInvalid(f"{field.name!r} is the label and cannot be a field as well")
    return tuple(field for field in config.fields if field.name not in config.data.exclude)


def _said_of_rows(record: RecordSchema, parts: Split, train: Rows, validation: Rows) -> str:
    left_out = parts.train.size + parts.validation.size - train.size - validation.size
    calibrating = f"{parts.calibration.size} for calibration, " if parts.calibration.size else ""
    trimmed = f"{left_out} left out as the likeliest anomalies, " if left_out else ""
    return (
        f"{len(record.fields)} fields; {train.size} rows to train on, {validation.size} to stop by, "
        f"{trimmed}{calibrating}{parts.anomalies.size} labelled anomalies for evaluation"
    )


def _said_of_weights(last: Progress, config: TrainingConfig) -> str:
    """A warning where hardly any draw carries weight, else nothing."""
    draws = config.objective.draws
    if config.objective.kind in ("elbo", "autoencoder") or last.effective_samples >= max(
        _FEW_SAMPLES, _FEW_OF_DRAWS * draws
    ):
        return ""
    return (
        f"of {draws} draws a record, {last.effective_samples:.1f} carry the weight at the end of training (effective "
        f"samples): what {config.objective.kind} rests on is hardly more than the best draw; more objective.draws, or "
        "fewer latent dimensions, help"
    )


def _refuse_score(config: TrainingConfig, *, of_images: bool) -> None:
    """Refuse a score that this model will not have, before it is trained.

    Raises:
        ConfigInvalid: It is one of images, and the records are rows of a table.
    """
    of_images_alone = sorted(set(ImageComponents.names) - set(Components.names))
    if not of_images and config.anomaly_score in of_images_alone:
        raise ConfigInvalid(f"scoring.anomaly_score: {' and '.join(of_images_alone)} are scores of images alone")


def _said_of_folds(parts: Split) -> str:
    return (
        f"{parts.normal.size} normal rows are too few to put any aside: each is scored by one of {len(parts.folds)} "
        "models that have not seen it"
    )


def _calibration(scores: cross_fit.Scores, config: TrainingConfig) -> Calibration:
    """Of the held-out rows that are presumed normal, the same for every score."""
    by = thinning.score({name for name, _ in scores})
    normal = thinning.presumed_normal(scores[by, config.scoring.samples], config.data.contamination)
    return Calibration({key: values[normal] for key, values in scores.items()})


def _presumed_normal(
    held_out: Tensors, scorer: Any, noise: npt.NDArray[np.float32], scores: tuple[Score, ...], config: TrainingConfig
) -> Tensors:
    """Held-out records, without those that the calibration leaves out as well."""
    if not config.data.contamination:
        return held_out
    by_name: dict[str, Score] = {each.name: each for each in scores}
    by = by_name[thinning.score(by_name)]
    outputs = export.score(scorer, held_out, noise[: config.scoring.samples])
    normal = thinning.presumed_normal(np.float32(by.sign) * outputs[by.output], config.data.contamination)
    return {kind: values[normal] for kind, values in held_out.items()}


def _nothing() -> None:
    """No fold has left a checkpoint."""


def _device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigInvalid("--device cuda was asked for, and torch sees no GPU here; use --device cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _detection(
    scorer: Any,
    scores: tuple[Score, ...],
    anomalies: Tensors,
    noise: npt.NDArray[np.float32],
    calibration: Calibration,
) -> dict[str, float]:
    outputs = export.score(scorer, anomalies, noise)
    metrics: dict[str, float] = {}
    for each in scores:
        found = detection(calibration.scores(each.name, len(noise)), np.float32(each.sign) * outputs[each.output])
        metrics |= {f"{each.name}_{measure}": value for measure, value in found.items()}
    return metrics


def _summary(calibration: Calibration, parts: Split, config: TrainingConfig) -> CalibrationSummary:
    rate = config.scoring.false_alarm_rate
    thresholds = {str(samples): calibration.threshold(config.anomaly_score, samples, rate) for samples in SAMPLE_COUNTS}
    return CalibrationSummary(
        records=calibration.records, thresholds=thresholds, approximate=_reasons(calibration.records, parts, config)
    )


def _reasons(records: int, parts: Split, config: TrainingConfig) -> tuple[str, ...]:
    """Why p-values are not exactly valid."""
    reasons = []
    if parts.folds:
        reasons.append(
            f"cross-fitted: {parts.normal.size} normal rows were scored by {len(parts.folds)} models, each by one that "
            "has not seen it, and calibrate another that has seen all of them; what is usual in an explanation comes "
            f"from the {parts.validation.size} rows that stopped its training"
        )
    if config.data.contamination:
        held_out = parts.normal.size if parts.folds else parts.calibration.size
        reasons.append(
            f"contamination {config.data.contamination:g}: {held_out - records} of {held_out} held-out rows were left "
            "out of the calibration as the likeliest anomalies, by an estimate"
        )
    return tuple(reasons)


def _golden(
    vae: VAE, scorer: Any, record: RecordSchema, data: Data, parts: Split, noise: npt.NDArray[np.float32]
) -> Golden:
    normal = parts.calibration if parts.calibration.size else parts.validation
    rows = [*normal[:_GOLDEN_NORMAL].tolist(), *parts.anomalies[:_GOLDEN_ANOMALIES].tolist()]
    raw: list[dict[str, Any] | list[Any]] = [_raw_record(record, data, row) for row in rows]
    raw += _contrived_records(record)
    tensors = encode_records(record, raw)
    cases = []
    for samples in _GOLDEN_SAMPLES:
        outputs = export.score(scorer, tensors, noise[:samples])
        allowed = goldens.tolerance(len(record.fields), export.largest_term(vae, tensors, noise[:samples]))
        for index, each in enumerate(raw):
            expected = {name: goldens.plain(values[index]) for name, values in outputs.items()}
            cases.append(GoldenCase(record=each, samples=samples, expected=expected, tolerance=float(allowed[index])))
    return Golden(cases=tuple(cases))


def _with_explanations(golden: Golden, record: RecordSchema, explanations: Explanations) -> Golden:
    cases = [case for case in golden.cases if case.samples == _EXPLAINED_SAMPLES]
    tensors = encode_records(record, [case.record for case in cases])
    return golden.model_copy(update={"explained": explanations.golden(cases, tensors)})


def _raw_record(record: RecordSchema, data: Data, row: int) -> dict[str, Any]:
    """A row as a client would send it.

    Numbers, booleans and text, timestamps in ISO 8601, null where missing; an image as a PNG file in base64.
    """
    if record.image:
        (image,) = schema.tensors(record, data, np.array([row]))["image"]
        return {record.image[0].name: images.in_base64(image)}
    wanted = [name for name in data.table.column_names if record.takes(name)]
    (values,) = data.table.select(wanted).slice(row, 1).to_pylist()
    for name, value in values.items():
        if isinstance(value, date):
            values[name] = value.isoformat()
        elif isinstance(value, float) and np.isnan(value):
            values[name] = None
    return dict(values)


def _contrived_records(record: RecordSchema) -> list[dict[str, Any] | list[Any]]:
    """Far out and unknown in every field, as an array; and one field present, as an object.

    Of images the extreme ones, as nested numbers.
    """
    if record.image:
        return [[image.tolist()] for image in export.extreme_images(record.image[0].shape)]
    strange: list[Any] = []
    for field in record.fields:
        match field.kind:
            case "numeric":
                strange.append(field.mean + 1e6 * field.scale)
            case "boolean":
                strange.append(True)
            case "categorical":
                strange.append("no such category")
    return [strange, {record.fields[0].name: strange[0]}]


def _npy(array: npt.NDArray[np.float32]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
