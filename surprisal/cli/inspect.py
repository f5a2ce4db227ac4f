"""`surprisal inspect`: what a bundle holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from bundle.record.fields import AnyField


def inspect(
    bundle: Annotated[Path, typer.Argument(help="models/NAME (the served version) or models/NAME/VERSION.")],
    json: Annotated[bool, typer.Option("--json", help="Print the manifest itself.")] = False,
) -> None:
    """Verify a bundle's bytes and show its fields, scores, calibration and training facts."""
    from bundle.folder import store

    opened = store.load(*store.resolve(bundle))
    manifest = opened.manifest
    if json:
        print(manifest.to_bytes().decode())
        return
    facts = manifest.training
    console = Console(highlight=False)
    console.print(f"[bold]{opened.name}[/bold] version {opened.version}, written {manifest.created}")
    console.print(f"digest {manifest.digest}", style="dim")
    rows = ", ".join(f"{part.replace('_', ' ')} {count:,}" for part, count in facts.rows.items() if count)
    console.print(f"trained on {facts.data} (rows: {rows}), seed {facts.seed}, on {facts.device}", markup=False)
    console.print(
        f"flags {manifest.false_alarm_rate:.2%} of normal records by {manifest.anomaly_score}, "
        f"{manifest.samples} draws, calibrated on {manifest.calibration.records:,} records: "
        f"above {manifest.calibration.thresholds[str(manifest.samples)]:.4f} ({manifest.score.unit})"
    )
    for reason in manifest.calibration.approximate:
        console.print(f"p-values are approximate: {reason}", markup=False)
    fields = Table("field", "kind", "likelihood", "statistics", "missing", title="Fields", title_justify="left")
    for field, reference in zip(manifest.record.fields, manifest.reference, strict=True):
        missing = "never" if field.kind == "image" else f"{reference.ratios[-1]:.2%}"
        fields.add_row(escape(field.name), field.kind, field.likelihood, escape(_statistics(field)), missing)
    console.print(fields)
    metrics = Table("metric", "value", title="Held-out metrics", title_justify="left")
    for name, value in facts.metrics.items():
        metrics.add_row(name, f"{value:.4f}")
    console.print(metrics)
    files = Table("file", "bytes", "sha256", title="Files", title_justify="left")
    for name, digest in manifest.files.items():
        files.add_row(name, f"{len(opened.files[name]):,}", digest[:16] + "…")
    console.print(files)


def _statistics(field: "AnyField") -> str:
    match field.kind:
        case "numeric":
            of = "" if field.transform == "none" else f" of {field.formula}"
            return f"mean {field.mean:.6g}, scale {field.scale:.6g}{of}"
        case "boolean":
            return ""
        case "categorical":
            shown = ", ".join(field.vocabulary[:4])
            count = len(field.vocabulary)
            return f"{count} {'categories' if count > 1 else 'category'}: {shown}{', …' if count > 4 else ''}"
        case "image":
            return f"{field.width} wide, {field.height} high, {'grey' if field.channels == 1 else 'RGB'}"
