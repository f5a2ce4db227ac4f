"""`surprisal train`: from a data file to a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from surprisal.cli.failure import CALL_WRONG, WORK_FAILED, fail

if TYPE_CHECKING:
    from training.config import TrainingConfig
    from training.data.read import Data
    from training.pipeline import Trained


def train(
    data: Annotated[
        Path, typer.Argument(help="CSV, Parquet, NDJSON or npz (X, and maybe y) file, or a folder of images.")
    ],
    out: Annotated[Path, typer.Option(help="Models folder.")] = Path("models"),
    name: Annotated[str | None, typer.Option(help="The model's name; by default the file's.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; --schema-only prints one to start from.")] = None,
    label: Annotated[str | None, typer.Option(help="Column that says what is normal; never a feature.")] = None,
    normal: Annotated[str | None, typer.Option(help="The label's value in normal rows; only those are learnt.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A column that is no feature; may be repeated.")] = None,
    contamination: Annotated[
        float | None, typer.Option(help="Share of the rows that may be anomalies unnoticed, below 0.5; 0 if none.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="default, kingma-welling or an-cho.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, data and machine: same scores.")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Take up an interrupted run's checkpoint.")] = False,
    schema_only: Annotated[
        bool, typer.Option("--schema-only", help="Print the inferred fields and all settings as TOML, and stop.")
    ] = False,
) -> None:
    """Train a model on records of normal behaviour and write it as a bundle."""
    try:
        from training.errors import ConfigInvalid, TrainingError
    except ImportError as error:
        fail(
            f"training needs more than is installed ({error.name}): pip install 'surprisal-vae[training]'", WORK_FAILED
        )
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        settings = _settings(config, label, normal, exclude, contamination, preset, seed)
        table = _read(data, settings)
        if schema_only:
            print(_schema(table, settings, console), end="")
            return
        trained = run(table, out, name or data.name.split(".")[0].lower(), settings, device, resume, console)
    except ConfigInvalid as error:
        fail(error, CALL_WRONG)
    except TrainingError as error:
        fail(error, WORK_FAILED)
    summarise(trained, out, console)


def run(
    data: "Data",
    out: Path,
    name: str,
    settings: "TrainingConfig",
    device: Literal["auto", "cpu", "cuda"],
    resume: bool,
    console: Console,
) -> "Trained":
    """Train with a progress bar.

    Args:
        data: The table.
        out: The models folder.
        name: The model's name.
        settings: The configuration.
        device: Where to train.
        resume: Whether to take up a checkpoint.
        console: Where to show what happens.

    Raises:
        TrainingError: See `training.pipeline.train`.
    """
    from rich import progress

    from training import pipeline
    from training.fitting.progress import Progress

    bar = progress.Progress(
        progress.TextColumn("{task.fields[part]}epoch"),
        progress.MofNCompleteColumn(),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[terms]}"),
        progress.TimeRemainingColumn(),
        console=console,
        transient=not console.is_terminal,
    )
    task = bar.add_task("fit", total=None, terms="", part="")

    def report(epoch: Progress) -> None:
        terms = (
            f"ELBO {epoch.validation_elbo:.3f}{' *' if epoch.best else '  '}"
            f" reconstruction {epoch.log_likelihood:.3f} KL {epoch.kl:.3f} nats"
        )
        if settings.objective.draws > 1 and settings.objective.kind != "elbo":
            terms += f", {epoch.effective_samples:.1f} of {settings.objective.draws} draws effective"
        part = f"{epoch.part}: " if epoch.part else ""
        bar.update(task, total=epoch.epochs, completed=epoch.epoch, terms=terms, part=part)

    with bar:
        return pipeline.train(data, out, name, settings, device=device, resume=resume, say=console.print, report=report)


def _settings(
    config: Path | None,
    label: str | None,
    normal: str | None,
    exclude: list[str] | None,
    contamination: float | None,
    preset: str | None,
    seed: int | None,
) -> "TrainingConfig":
    from training.config import build, read_toml
    from training.errors import ConfigInvalid

    content: dict[str, Any] = read_toml(config) if config is not None else {}
    if preset is not None and content.get("preset", preset) != preset:
        raise ConfigInvalid(
            f"{config} sets preset = {content['preset']!r} and --preset {preset}: their settings would be mixed; "
            "leave one out (--schema-only --preset PRESET prints a file for another)"
        )
    content |= {key: value for key, value in (("preset", preset), ("seed", seed)) if value is not None}
    flags = {
        "label": label or None,
        "normal": normal or None,
        "exclude": exclude or None,
        "contamination": contamination,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    if given and isinstance(content.get("data", {}), dict):
        content["data"] = {**content.get("data", {}), **given}
    return build(content)


def _read(path: Path, settings: "TrainingConfig") -> "Data":
    from training.data.read import read

    text = [field.name for field in settings.fields or () if field.kind == "categorical"]
    return read(path, text)


def _schema(table: "Data", settings: "TrainingConfig", console: Console) -> str:
    from training import pipeline
    from training.data import schema, split, transform

    parts = split.split(table, settings.data, settings.scoring.false_alarm_rate, settings.seed)
    if settings.fields is not None:
        inferred = schema.Inferred(pipeline.choose_fields(table, parts, settings, console.print), {})
    else:
        inferred = schema.infer(table, parts.normal, settings)
    chosen = transform.choose(table, parts.train, parts.validation, inferred.fields)
    logged = {field.name for field in chosen if field.transform == "log"}
    words = transform.describe(table, parts.train, inferred.fields, logged)
    if settings.data.contamination:
        words = {name: f"{said}, before likely anomalies are left out" for name, said in words.items()}
    return schema.to_toml(settings, inferred, words)


def summarise(trained: "Trained", out: Path, console: Console) -> None:
    """Say how well the model does and what to do with it.

    Args:
        trained: What the run gave.
        out: The models folder.
        console: Where to say it.
    """
    metrics = trained.manifest.training.metrics
    score = trained.manifest.anomaly_score
    if f"{score}_auroc" in metrics:
        auroc, precision = metrics[f"{score}_auroc"], metrics[f"{score}_average_precision"]
        console.print(f"against labelled anomalies ({score}): AUROC {auroc:.4f}, average precision {precision:.4f}")
    console.print(f"wrote {trained.folder}")
    console.print(f"how it went, what is normal and what is strange: {trained.folder / 'report.html'}")
    console.print(f"serve it: surprisal serve --models {out}", markup=False)
