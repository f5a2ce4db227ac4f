"""`surprisal train`: from a data file to a bundle."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from surprisal.cli import processes as several
from surprisal.cli import reading_options, streaming_options
from surprisal.cli.failure import CALL_WRONG, STOPPED, WORK_FAILED, fail, needs_training
from surprisal.cli.processes import ProcessesOption
from surprisal.cli.progress import Interval, Progress
from surprisal.cli.reading_options import ReadOption
from surprisal.cli.streaming_options import CacheOption, KeepCacheOption, MemoryOption
from surprisal.cli.termination import TERMINATED, Terminated, orderly

if TYPE_CHECKING:
    from training.config import TrainingConfig
    from training.data.read import Data
    from training.data.split import Split
    from training.data.streamed import Streamed
    from training.fitting import progress
    from training.fitting.ranks import Ranks
    from training.pipeline import Trained
    from training.table.cache import Disk

_OPTIONS = ("label", "normal", "exclude", "contamination")
"""Settings of `[data]` that have an option of their own."""

Source = Annotated[
    Path,
    typer.Argument(
        help="CSV, Parquet, NDJSON, Arrow or npz (X, and maybe y) file, a folder or pattern of such files, - for "
        "standard input, or a folder of images."
    ),
]


def train(
    data: Source,
    out: Annotated[Path, typer.Option(help="Models folder.")] = Path("models"),
    name: Annotated[str | None, typer.Option(help="The model's name; by default the file's.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; --schema-only prints one to start from.")] = None,
    label: Annotated[str | None, typer.Option(help="Column that says what is normal; never a feature.")] = None,
    normal: Annotated[
        str | None, typer.Option(help="The label's value in normal rows, '' for none; only those are learnt.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A column that is no feature; may be repeated.")] = None,
    contamination: Annotated[
        float | None, typer.Option(help="Share of the rows that may be anomalies unnoticed, below 0.5; 0 if none.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="default, kingma-welling or an-cho.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, data and machine: same scores.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    processes: ProcessesOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Take up an interrupted run's checkpoint.")] = False,
    schema_only: Annotated[
        bool, typer.Option("--schema-only", help="Print the inferred fields and all settings as TOML, and stop.")
    ] = False,
    read: ReadOption = None,
    memory: MemoryOption = None,
    cache: CacheOption = None,
    keep_cache: KeepCacheOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print progress and a summary as lines of JSON on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing on standard error but what went wrong.")] = False,
) -> None:
    """Train a model on records of normal behaviour and write it as a bundle.

    The bundle's folder is printed on standard output, what happens meanwhile on standard error.
    """
    began = time.monotonic()
    _check(out, schema_only=schema_only, as_json=as_json)
    name = name or data.name.split(".")[0].lower()
    several.begin(data, processes, out / name, schema_only=schema_only)
    told = Progress(quiet=quiet or not several.speaks(), drawn=not as_json)
    said: dict[str, Any] = {"label": label or None, "normal": normal, "exclude": exclude or None}
    said |= {"contamination": contamination, **reading_options.settings(read)}
    with _refusals(told, resume, processes), orderly(), _joined(device) as ranks:
        settings = _settings(config, said, preset, seed)
        with told.without_bar():
            table = _read(data, settings, memory, told)
        if schema_only:
            _print_schema(table, settings, told)
            return
        disk = streaming_options.disk(cache, keep_cache, table, told.say)
        if ranks is not None and not ranks.leads:
            _take_part(table, out, name, settings, ranks, device, resume, disk)
            return
        trained = run(table, out, name, settings, device, resume, told, as_json, disk, ranks)
    summarise(trained, out, told)
    if as_json:
        _print(_summary(trained) | {"seconds": round(time.monotonic() - began, 3)})
    else:
        print(trained.folder)


def _check(out: Path, *, schema_only: bool, as_json: bool) -> None:
    """Refuse what cannot be done before anything is read."""
    if out.exists() and not out.is_dir():
        fail(f"{out}: is a file; --out takes the folder that models are written to", CALL_WRONG)
    if schema_only and as_json:
        fail("--json: --schema-only prints TOML; leave one of them out", CALL_WRONG)


@contextlib.contextmanager
def _refusals(told: Progress, resume: bool, processes: int | None) -> Iterator[None]:
    """End the process where there can be no training, with its reason."""
    try:
        from training.errors import ConfigInvalid, ProcessLost, TrainingError
    except ImportError as error:
        needs_training(error)
    try:
        yield
    except KeyboardInterrupt as error:
        fail(_stopped(told, resume), TERMINATED if isinstance(error, Terminated) else STOPPED)
    except ConfigInvalid as error:
        fail(error, CALL_WRONG)
    except ProcessLost as error:
        if processes is not None:
            raise SystemExit(several.LOST) from error  # The command that has begun them says which one ended, and why.
        fail(error, several.LOST)
    except TrainingError as error:
        fail(error, WORK_FAILED)


@contextlib.contextmanager
def _joined(device: Literal["auto", "cpu", "cuda"]) -> Iterator["Ranks | None"]:
    """The processes that train together, or None where there is one."""
    if not several.are_there():
        yield None
        return
    from training.fitting.ranks import joined

    with joined(device) as ranks:
        yield ranks


def _take_part(
    data: "Data | Streamed",
    out: Path,
    name: str,
    settings: "TrainingConfig",
    ranks: "Ranks",
    device: Literal["auto", "cpu", "cuda"],
    resume: bool,
    disk: "Disk",
) -> None:
    from training import pipeline

    pipeline.take_part(data, out, name, settings, ranks, device=device, resume=resume, disk=disk)


def run(
    data: "Data | Streamed",
    out: Path,
    name: str,
    settings: "TrainingConfig",
    device: Literal["auto", "cpu", "cuda"],
    resume: bool,
    told: Progress,
    as_json: bool = False,
    disk: "Disk | None" = None,
    ranks: "Ranks | None" = None,
) -> "Trained":
    """Train, and tell how far it is.

    Args:
        data: The table.
        out: The models folder.
        name: The model's name.
        settings: The configuration.
        device: Where to train.
        resume: Whether to take up a checkpoint.
        told: Told what happens.
        as_json: Whether programs are told as well, on standard output.
        disk: Where the rows of a table that is streamed are kept.
        ranks: The processes that train together, or None where there is one.

    Raises:
        TrainingError: See `training.pipeline.train`.
    """
    from training import pipeline
    from training.fitting.ranks import ALONE

    interval = Interval() if as_json else None

    def report(epoch: "progress.Progress") -> None:
        part = f"{epoch.part}: " if epoch.part else ""
        terms = f"reconstruction {epoch.log_likelihood:.3f}, KL {epoch.kl:.3f}, "
        if settings.objective.draws > 1 and settings.objective.kind != "elbo":
            terms += f"{epoch.effective_samples:.1f} of {settings.objective.draws} draws effective, "
        best = ", the best so far" if epoch.best and not epoch.warming else ""
        warming = ", the KL's weight still rises" if epoch.warming else ""
        terms += f"validation ELBO {epoch.validation_elbo:.3f} nats{best}{warming}"
        told.show(f"{part}epoch {epoch.epoch} of {epoch.epochs}", terms, epoch.epoch, epoch.epochs)
        if interval is not None and interval.is_over():
            _print({"event": "progress"} | asdict(epoch))

    def say(sentence: str) -> None:
        told.catch_up()  # A training that ends before its next line has one, too.
        told.say(sentence)

    with told:
        given = (data, out, name, settings)
        train = partial(pipeline.train, device=device, resume=resume, disk=disk, ranks=ranks or ALONE)
        return train(*given, say=say, report=report)


def _stopped(told: Progress, resumed: bool) -> str:
    if told.at or resumed:
        after = f" after {told.at}" if told.at else ""
        return f"stopped{after}; the checkpoint is kept: the same command with --resume goes on from there"
    return "stopped before the first epoch was over; nothing is kept: the same command begins again"


def _settings(config: Path | None, data: Mapping[str, Any], preset: str | None, seed: int | None) -> "TrainingConfig":
    """The configuration of a file, and what the command says besides."""
    from training.config import build, read_toml
    from training.errors import ConfigInvalid

    content: dict[str, Any] = read_toml(config) if config is not None else {}
    if preset is not None and content.get("preset", preset) != preset:
        raise ConfigInvalid(
            f"{config} sets preset = {content['preset']!r} and --preset {preset}: their settings would be mixed; "
            "leave one out (--schema-only --preset PRESET prints a file for another)"
        )
    content |= {key: value for key, value in (("preset", preset), ("seed", seed)) if value is not None}
    given = {key: value for key, value in data.items() if value is not None}
    if given and isinstance(content.get("data", {}), dict):
        content["data"] = {**content.get("data", {}), **given}
    source = "the configuration" if config is None else str(config)
    options = {f"data.{name}": f"--{name}" if name in _OPTIONS else f"--read {name}" for name in given}
    options |= {name: f"--{name}" for name, value in (("preset", preset), ("seed", seed)) if value is not None}
    return build(content, source=source, options=options)


def _read(path: Path, settings: "TrainingConfig", memory: str | None, told: Progress) -> "Data | Streamed":
    from training.data.budget import read_or_stream

    return read_or_stream(path, settings, memory, told.say, several.here())


def _print_schema(read: "Data | Streamed", settings: "TrainingConfig", told: Progress) -> None:
    from training.data.split import attainable, of_labels, split
    from training.data.streamed import Streamed

    if isinstance(read, Streamed):
        table, parts, of_label = read.sample, read.parts, read.of_labels(settings.data)
    else:
        settings = attainable(read, settings)
        table, parts = read, split(read, settings.data, settings.scoring.false_alarm_rate, settings.seed)
        of_label = of_labels(table.table, settings.data)
    if table.said:
        told.say(f"{table.name} read as: {', '.join(table.said)}")
    for line in of_label:
        told.say(line)
    print(_schema(table, parts, settings), end="")


def _schema(table: "Data", parts: "Split", settings: "TrainingConfig") -> str:
    from training.data import kinds, schema, transform

    inferred = kinds.chosen(table, parts.normal, settings)
    chosen = transform.choose(table, parts.train, parts.validation, inferred.fields)
    logged = {field.name for field in chosen if field.transform == "log"}
    words = transform.describe(table, parts.train, inferred.fields, logged)
    if settings.data.contamination:
        words = {name: f"{said}, before likely anomalies are left out" for name, said in words.items()}
    return schema.to_toml(settings, inferred, words)


def summarise(trained: "Trained", out: Path, told: Progress) -> None:
    """Say how well the model does and what to do with it.

    Args:
        trained: What the run gave.
        out: The models folder.
        told: Says it.
    """
    metrics = trained.manifest.training.metrics
    score = trained.manifest.anomaly_score
    if f"{score}_auroc" in metrics:
        auroc, precision = metrics[f"{score}_auroc"], metrics[f"{score}_average_precision"]
        told.say(f"against labelled anomalies ({score}): AUROC {auroc:.4f}, average precision {precision:.4f}")
    told.say(f"wrote version {trained.version} of {trained.name}; {_how_to_serve(trained, out)}")
    told.say(f"how it went, what is normal and what is strange: {trained.folder / 'report.html'}")


def _how_to_serve(trained: "Trained", out: Path) -> str:
    """What makes a service answer by a new version: where another one is pinned, it waits."""
    from bundle.errors import BundleError
    from bundle.folder import serving

    folder = out / trained.name
    try:
        pinned = serving.read(folder).version
    except (BundleError, OSError) as error:
        return f"it is not served before {folder / serving.FILE_NAME} is mended: {error}"
    if pinned in (None, trained.version):
        return f"serve it: surprisal serve --models {out}"
    version = folder / str(trained.version)
    return (
        f"version {pinned} is pinned, and answers on. "
        f"Try the new one out beside it: surprisal models shadow {version}; "
        f"serve it: surprisal models promote {version}"
    )


def _summary(trained: "Trained") -> dict[str, Any]:
    """What a program should know of a model, the last line."""
    manifest, facts = trained.manifest, trained.manifest.training
    return {
        "event": "summary",
        "model": {"name": trained.name, "version": str(trained.version)},
        "folder": str(trained.folder),
        "report": str(trained.folder / "report.html"),
        "digest": manifest.digest,
        "fields": len(manifest.record.fields),
        "rows": facts.rows,
        "score": manifest.anomaly_score,
        "samples": manifest.samples,
        "false_alarm_rate": manifest.false_alarm_rate,
        "threshold": manifest.calibration.thresholds[str(manifest.samples)],
        "metrics": facts.metrics,
        "seed": facts.seed,
        "device": facts.device,
    }


def _print(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)
