"""The whole of a training run: prepare, fit, export, calibrate, describe, write."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from bundle.contents import calibration, explanation, golden
from bundle.contents.calibration import Calibration
from bundle.contents.manifest import Manifest, TrainingFacts
from bundle.contents.reference import references
from bundle.contents.scores import density_of, likelihoods_of
from bundle.folder import store
from bundle.record.fields import Tensors
from bundle.record.schema import RecordSchema
from training import modality
from training.config import TrainingConfig
from training.data import schema
from training.data.read import Data, Rows
from training.data.streamed import Streamed
from training.errors import ConfigInvalid, ParityFailed
from training.evaluation.calibrate import calibrate, detection, presumed_normal, summary
from training.export import graphs, parity, refusal, runs
from training.export.explainer import ExportedExplainer
from training.export.golden import choose_and_replay
from training.export.graphs import Graphs
from training.fitting import cross_fit, words
from training.fitting.model import Model, fit, optimise
from training.fitting.prepared import Prepared, chosen, prepare, prepare_streamed, with_attainable_rate
from training.fitting.progress import EpochCallback
from training.fitting.ranks import ALONE, Ranks, device_of
from training.table.cache import Cached, Disk, cached

Say = Callable[[str], None]
_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxscript", "pillow", "pyarrow", "surprisal-vae", "torch")


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
    data: Data | Streamed,
    out: Path,
    name: str,
    config: TrainingConfig,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    resume: bool = False,
    say: Say = lambda line: None,
    report: EpochCallback = lambda progress: None,
    disk: Disk | None = None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Train a model on a table and write its bundle.

    Args:
        data: The table, or one in files of which a sample is in memory.
        out: The models folder.
        name: The model's name in it.
        config: Everything that decides the result.
        device: Where to train; `auto` takes a GPU if there is one.
        resume: Take up the checkpoint that an interrupted run of the same data and configuration left.
        say: Told, in a sentence, what was decided and what comes next.
        report: Told about every epoch.
        disk: Where the rows are kept of a table that is streamed.
        ranks: The processes that train together, of which this is the first; the others `take_part`.

    Returns:
        The bundle's place and manifest.

    Raises:
        ConfigInvalid: The configuration, the name or the device asks for what does not exist.
        DataInvalid: The data cannot be trained on.
        NotANumber: The training met a NaN.
        ParityFailed: An exported graph computes something else than the network; it is kept aside.
        ProcessLost: Another process that trains with this one has ended.
        OSError: The bundle cannot be written.
    """
    if not store.valid_name(name):
        raise ConfigInvalid(f"{name!r} is no model name; --name takes lower-case letters, digits, '.', '_' and '-'")
    config = with_attainable_rate(data, config, say)
    run = _Run(data, out, name, config, device_of(device, ranks), resume, say, report, disk or Disk(), ranks)
    prepared = _prepare(run)
    model = _fit(run, prepared)
    exported = _export(run, prepared, model)
    calibrated = _calibrate(run, prepared, model, exported)
    manifest = _describe(run, prepared, model, exported, calibrated)
    number = store.write(out, name, manifest, *_files(run, prepared, model, exported, calibrated, manifest))
    model.forget_checkpoint()
    calibrated.forget_checkpoints()
    return Trained(name, number, out / name / str(number), store.load(out, name, number).manifest)


def take_part(
    data: Data | Streamed,
    out: Path,
    name: str,
    config: TrainingConfig,
    ranks: Ranks,
    *,
    device: Literal["auto", "cpu", "cuda"],
    resume: bool,
    disk: Disk,
) -> None:
    """Train with the first of several processes, which alone speaks and writes; arguments and errors as of `train`."""
    config = with_attainable_rate(data, config)
    run = _Run(data, out, name, config, device_of(device, ranks), resume, disk=disk, ranks=ranks)
    prepared = _prepare(run)
    with _on_disk(run, prepared) as on_disk:
        optimise(*_given(run, prepared), folder=out / name, resume=resume, on_disk=on_disk, ranks=ranks)
    if prepared.parts.folds:
        given = (run.data, prepared.parts, prepared.inferred.fields, config, run.target)
        cross_fit.take_part(*given, folder=out / name, resume=resume, ranks=ranks)


@dataclass(frozen=True)
class _Run:
    """What `train` was asked for."""

    source: Data | Streamed
    out: Path
    name: str
    config: TrainingConfig
    target: torch.device
    resume: bool
    say: Say = lambda line: None
    report: EpochCallback = lambda progress: None
    disk: Disk = field(default_factory=Disk)
    ranks: Ranks = ALONE

    @property
    def data(self) -> Data:
        """The table; of one that is streamed the sample."""
        return self.source if isinstance(self.source, Data) else self.source.sample


@dataclass(frozen=True)
class _Exported:
    """Graphs, and the rows that they are compared on."""

    graphs: Graphs
    scorer: onnxruntime.InferenceSession
    explainer: ExportedExplainer
    held_out: Tensors


@dataclass(frozen=True)
class _Calibrated:
    """What held-out and labelled rows say."""

    calibration: Calibration
    metrics: dict[str, float]
    forget_checkpoints: Callable[[], None]


def _prepare(run: _Run) -> Prepared:
    # Before anything that they do together: those that have chosen otherwise would wait for each other.
    run.ranks.refuse_others([chosen(run.source, run.config)], run.target)
    if isinstance(run.source, Data):
        return prepare(run.source, run.config, run.say)
    return prepare_streamed(run.source, run.config, run.say)


def _given(run: _Run, prepared: Prepared) -> tuple[Data, RecordSchema, Rows, Rows, TrainingConfig, torch.device]:
    return run.data, prepared.record, prepared.train, prepared.validation, run.config, run.target


def _fit(run: _Run, prepared: Prepared) -> Model:
    with _on_disk(run, prepared) as on_disk:
        kept = partial(fit, folder=run.out / run.name, resume=run.resume)
        model = kept(*_given(run, prepared), report=run.report, on_disk=on_disk, ranks=run.ranks, say=run.say)
    run.say(words.of_end(model.history, run.config.fit.patience))
    if few := words.of_weights(model.history[-1], run.config):
        run.say(few)
    return model


def _on_disk(run: _Run, prepared: Prepared) -> AbstractContextManager[Cached | None]:
    """The training rows on disk where they are streamed; nothing where they are in memory."""
    if prepared.streamed is None:
        return nullcontext()
    folder, ranks = run.disk.folder or run.out / run.name, run.ranks
    given = (folder, prepared.record, prepared.streamed, run.config)
    return cached(*given, keep=run.disk.keep, leads=ranks.leads, wait=ranks.wait, say=run.say)


def _export(run: _Run, prepared: Prepared, model: Model) -> _Exported:
    run.say("exporting to ONNX and comparing with torch")
    record, vae = prepared.record, model.scorer.vae
    exported = graphs.export(model.scorer, record)
    scorer = runs.session(exported.scorer)
    explainer = ExportedExplainer(vae, record, model.noise)
    found = _Exported(exported, scorer, explainer, _held_out(run, prepared))
    try:
        worst = _verify(found, record, model)
    except ParityFailed as failed:
        raise refusal.set_aside(failed, run.out, run.name, _graphs(model, found)) from failed
    run.say(f"the exported graphs agree with the network (off by at most {worst:.1%} of the tolerance); calibrating")
    return found


def _verify(exported: _Exported, record: RecordSchema, model: Model) -> float:
    """Compare every graph with the network; the largest distance, as a share of what is allowed."""
    vae, noise = model.scorer.vae, model.noise
    every = modality.of(record).extremes(vae, exported.held_out)
    encoder, decoder = (runs.session(graph) for graph in (exported.graphs.encoder, exported.graphs.decoder))
    return max(
        parity.verify_parity(model.scorer, exported.scorer, every, noise),
        exported.explainer.verify_parity(every),
        parity.verify_encoder_and_decoder(vae, encoder, decoder, every, noise),
    )


def _calibrate(run: _Run, prepared: Prepared, model: Model, exported: _Exported) -> _Calibrated:
    config, parts, forget = run.config, prepared.parts, (lambda: None)
    if parts.folds:
        run.say(words.of_folds(parts))
        given = (run.data, parts, prepared.inferred.fields, config, run.target)
        fold = partial(cross_fit.scores, folder=run.out / run.name, resume=run.resume)
        scores, forget = fold(*given, report=run.report, ranks=run.ranks)
    else:
        scores = runs.anomaly_scores(exported.scorer, exported.held_out, model.noise, model.scores)
    calibrated = calibrate(scores, config)
    metrics = {"validation_elbo": model.validation_elbo}
    if parts.anomalies.size:
        anomalies = schema.tensors(prepared.record, run.data, parts.anomalies)
        noise = model.noise[: config.scoring.samples]
        metrics |= detection(exported.scorer, model.scores, anomalies, noise, calibrated)
    return _Calibrated(calibrated, metrics, forget)


def _describe(run: _Run, prepared: Prepared, model: Model, exported: _Exported, calibrated: _Calibrated) -> Manifest:
    config, record = run.config, prepared.record
    normal = presumed_normal(exported.held_out, exported.scorer, model.noise, model.scores, config)
    return Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        record=record,
        reference=references(record, schema.tensors(record, run.data, prepared.parts.train)),
        latent_size=model.scorer.vae.latent_size,
        likelihoods=likelihoods_of(record),
        density_of=density_of(record),
        scores=model.scores,
        anomaly_score=config.anomaly_score,
        samples=config.scoring.samples,
        false_alarm_rate=config.scoring.false_alarm_rate,
        calibration=summary(calibrated.calibration, prepared.parts, config),
        usual_surprisal=exported.explainer.usual(normal, config.scoring.samples),
        training=TrainingFacts(
            data=run.data.name,
            data_sha256=run.data.sha256,
            rows={
                "train": prepared.rows,
                "validation": prepared.validation.size,
                "calibration": calibrated.calibration.records,
                "anomalies": prepared.parts.anomalies.size,
                **_left_out(prepared, calibrated),
            },
            seed=config.seed,
            device=str(run.target),
            config=config.model_dump(mode="json", exclude_none=True),
            metrics=calibrated.metrics,
            packages={package: version(package) for package in _PACKAGES},
        ),
        files={},
    )


def _left_out(prepared: Prepared, calibrated: _Calibrated) -> dict[str, int]:
    """How many rows count as likely anomalies and serve nothing; empty where there are none."""
    parts = prepared.parts
    rows = prepared.left_out
    rows += parts.calibration.size - calibrated.calibration.records if parts.calibration.size else 0
    return {"left_out": rows} if rows else {}


def _files(
    run: _Run, prepared: Prepared, model: Model, exported: _Exported, calibrated: _Calibrated, manifest: Manifest
) -> tuple[dict[str, bytes], dict[str, Callable[[int], bytes]]]:
    """The bundle's files but for the manifest, by name, and those that are written once the version is known."""
    # Here, because what draws the report takes a second to load, and a call that is wrong should hear of it at once.
    from training.report import evidence, page, verdict

    noise, samples, explainer = model.noise, run.config.scoring.samples, exported.explainer

    def score(tensors: Tensors) -> runs.Outputs:
        return runs.score(exported.scorer, tensors, noise[:samples])

    def explain(tensors: Tensors) -> runs.Outputs:
        return explainer.explain(tensors, samples)

    parts, record = prepared.parts, prepared.record
    used = replace(parts, train=prepared.train)
    found = evidence.gather(
        run.name, model, score, explain, run.data, prepared.inferred, used, calibrated.calibration, manifest
    )
    run.say(verdict.said(found))
    replayed = choose_and_replay(model.scorer, exported.scorer, explainer, record, run.data, parts, noise)
    files = {
        **_graphs(model, exported),
        calibration.FILE_NAME: calibrated.calibration.to_bytes(),
        golden.FILE_NAME: replayed.model_dump_json(indent=1).encode(),
    }
    return files, {page.FILE_NAME: partial(page.write, found)}


def _graphs(model: Model, exported: _Exported) -> dict[str, bytes]:
    """The graphs and the noise that they take, by file name."""
    return {
        "scorer.onnx": exported.graphs.scorer,
        explanation.FILE_NAME: exported.explainer.graph,
        "encoder.onnx": exported.graphs.encoder,
        "decoder.onnx": exported.graphs.decoder,
        "noise.npy": _npy(model.noise),
    }


def _held_out(run: _Run, prepared: Prepared) -> Tensors:
    parts = prepared.parts
    return schema.tensors(prepared.record, run.data, parts.calibration if parts.calibration.size else parts.validation)


def _npy(array: npt.NDArray[np.float32]) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
