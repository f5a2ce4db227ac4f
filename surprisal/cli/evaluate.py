"""`surprisal evaluate`: how well a bundle's scores tell labelled anomalies, beside what scikit-learn offers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from reading.options import Options
from surprisal.cli import reading_options
from surprisal.cli.failure import CALL_WRONG, WORK_FAILED, fail
from surprisal.cli.reading_options import ReadOption

if TYPE_CHECKING:
    from bundle.folder.store import Bundle
    from training.evaluation.labelled import Evaluation
    from training.evaluation.log_likelihood import LogLikelihood

_CURVES = (".png", ".svg")
_PIPED_WIDTH = 160  # columns


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="models/NAME (the served version) or models/NAME/VERSION.")],
    data: Annotated[
        Path, typer.Argument(help="File with labelled rows, in any form that training takes, or a folder of images.")
    ],
    label: Annotated[str | None, typer.Option(help="Column that says what is normal.")] = None,
    normal: Annotated[str | None, typer.Option(help="The label's value in normal rows.")] = None,
    read: ReadOption = None,
    log_likelihood: Annotated[
        int | None, typer.Option(min=1, help="Estimate log p(x), in nats of x, with so many draws a record.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")] = False,
    curves: Annotated[Path | None, typer.Option(help="PNG or SVG file for the curves to be drawn in.")] = None,
) -> None:
    """Measure every score of a bundle on labelled rows that it was not fitted on, and baselines on the same rows."""
    if curves is not None:
        _check_curves(curves, log_likelihood)
    try:
        from training.errors import ConfigInvalid, TrainingError
        from training.evaluation import labelled
        from training.evaluation.log_likelihood import measure

        if curves is not None:
            from training.report import detectors
    except ImportError as error:
        fail(
            f"evaluating needs more than is installed ({error.name}): pip install 'surprisal-vae[training]'",
            WORK_FAILED,
        )
    from bundle.folder import store

    try:
        loaded = store.load(*store.resolve(bundle))
        options = reading_options.options(read, Options.kept(loaded.manifest.training.config))
        if log_likelihood is not None:
            _say_likelihoods(loaded, data, measure(loaded, data, label, normal, log_likelihood, options), as_json)
            return
        if label is None or normal is None:
            fail("which rows are anomalies: --label COLUMN --normal VALUE; or --log-likelihood DRAWS", CALL_WRONG)
        done = labelled.evaluate(loaded, data, label, normal, options)
    except ConfigInvalid as error:
        fail(error, CALL_WRONG)
    except TrainingError as error:
        fail(error, WORK_FAILED)
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    for line in done.read_as:
        console.print(line)
    if done.absent:
        console.print(f"{data} has no column {', '.join(done.absent)}; missing in every row")
    if done.trained_on:
        console.print(f"{done.trained_on:,} labelled anomalies are left out: the bundle was trained on them, unnoticed")
    if as_json:
        print(json.dumps(_document(done), indent=2))
    else:
        _show(done)
    if curves is not None:
        detectors.save(done, curves)


def _check_curves(curves: Path, log_likelihood: int | None) -> None:
    """Refuse what could not be drawn, before anything is measured."""
    if curves.suffix not in _CURVES:
        fail(f"{curves}: a file that ends in {' or '.join(_CURVES)} is expected", CALL_WRONG)
    if not curves.parent.is_dir():
        fail(f"{curves}: there is no folder {curves.parent}", CALL_WRONG)
    if log_likelihood is not None:
        fail("--log-likelihood has no curves; leave out --curves", CALL_WRONG)


def _say_likelihoods(loaded: "Bundle", data: Path, found: dict[str, "LogLikelihood"], as_json: bool) -> None:
    if as_json:
        model = {"name": loaded.name, "version": str(loaded.version)}
        print(json.dumps({"model": model, "data": data.name} | {name: asdict(each) for name, each in found.items()}))
        return
    samples = next(iter(found.values())).samples
    table = Table(
        title=f"log p(x) by {loaded.name} version {loaded.version} of {data.name}: importance sampling, "
        f"{samples:,} draws a record",
        title_justify="left",
    )
    for column in ("records", "how many", "nats a record", "standard error", "bits per dimension"):
        table.add_column(column, justify="left" if column == "records" else "right")
    for name, each in found.items():
        bits = "" if each.bits_per_dimension is None else f"{each.bits_per_dimension:.4f}"
        error = "" if each.standard_error is None else f"{each.standard_error:.3f}"
        table.add_row(name, f"{each.records:,}", f"{each.mean:.3f}", error, bits)
    Console(highlight=False, soft_wrap=True).print(table)


def _document(done: "Evaluation") -> dict[str, Any]:
    return {
        "model": {"name": done.name, "version": str(done.version)},
        "data": done.data,
        "anomaly_score": done.anomaly_score,
        "rows": {"normal": done.normal, "anomalies": done.anomalies, "baselines_fitted_on": done.fitted_on},
        "detectors": {
            name: {
                measure: {"value": found.value, "low": found.low, "high": found.high}
                for measure, found in measures.items()
            }
            for name, measures in done.measures.items()
        },
    }


def _show(done: "Evaluation") -> None:
    share = 100 * done.anomalies / (done.normal + done.anomalies)
    table = Table(
        title=f"{done.name} version {done.version} on {done.data}: {done.normal:,} normal rows, {done.anomalies:,} "
        f"anomalies ({share:.2g} %); baselines fitted on {done.fitted_on:,} other normal rows",
        caption="below each figure its 95 % bootstrap interval; * is the bundle's own anomaly score; a score at random "
        f"would have an AUROC of 0.5 and an average precision of {share / 100:.2g}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("score", no_wrap=True)
    columns = next(iter(done.measures.values()))
    for measure in columns:
        table.add_column(measure.replace("_", " "), justify="right")
    for name, measures in done.measures.items():
        shown = [f"{found.value:.3f}\n[dim]{found.low:.2f}-{found.high:.2f}[/]" for found in measures.values()]
        table.add_row(f"{name} *" if name == done.anomaly_score else name, *shown)
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PIPED_WIDTH  # Nobody's window: a narrow one would cut figures.
    console.print(table)
