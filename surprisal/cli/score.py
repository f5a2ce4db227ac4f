"""`surprisal score`: score a file with a bundle, a piece at a time and without a server."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from surprisal.cli.failure import CALL_WRONG, fail

if TYPE_CHECKING:
    from bundle.record.schema import RecordSchema
    from service.engine.question import Question
    from service.files.scoring import Scoring


def score_file(
    bundle: Annotated[Path, typer.Argument(help="models/NAME (the served version) or models/NAME/VERSION.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN", help="CSV, Parquet, NDJSON or npz file of records, or a folder of PNG and JPEG files."
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="CSV, Parquet or NDJSON file to write.")],
    samples: Annotated[int | None, typer.Option(help="Draws a record: a power of two up to 256.")] = None,
    score: Annotated[str | None, typer.Option(help="Which of the bundle's scores decides.")] = None,
    false_alarm_rate: Annotated[float | None, typer.Option(help="Share of normal records to be flagged.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Add the three most surprising fields of each row; of an image its map.")
    ] = False,
) -> None:
    """Score every row of a file; OUT holds the columns of IN and the scores after them.

    Of images in a folder OUT names the `file`, of those in an npz the `row`; their pixels are not copied.
    """
    from service import files
    from service.files.scoring import Scored, Scoring

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    _check(source, target)
    wanted = {"samples": samples, "score": score, "false_alarm_rate": false_alarm_rate, "explain": explain or None}
    given = {name: value for name, value in wanted.items() if value is not None}
    scoring = Scoring(bundle)
    question = _question(scoring, given)
    scoring.open(question)
    with files.open_records(source, scoring.schema) as file:
        _say_absent(source, scoring.schema, file.columns, console)
        with _bar(console) as bar, files.writer(target) as writer:
            task = bar.add_task("score", total=1.0, rows=0)

            def report(done: Scored) -> None:
                bar.update(task, completed=done.share, rows=done.rows)

            done = scoring.file(file, question, writer, target, report)
    share = done.anomalies / max(done.rows, 1)
    console.print(
        f"{done.rows:,} rows scored, {done.anomalies:,} ({share:.2%}) flagged at a false-alarm rate of "
        f"{question.false_alarm_rate:.2%}; wrote {target}"
    )


def _question(scoring: "Scoring", given: Mapping[str, object]) -> "Question":
    """What is asked of the records; what the bundle cannot answer is a wrong call."""
    from service.errors import RequestInvalid

    try:
        return scoring.question(given)
    except RequestInvalid as error:
        name = error.faults[0].pointer.removeprefix("/")
        value = "" if name == "explain" else f" {given[name]}"
        fail(f"--{name.replace('_', '-')}{value}: {error.faults[0].detail}", CALL_WRONG)


def _say_absent(source: Path, schema: "RecordSchema", columns: Sequence[str], console: Console) -> None:
    """Say which of the model's fields the file lacks; a file that lacks them all is refused."""
    if absent := schema.absent(columns):
        if len(absent) == len(schema.names):
            fail(f"{source}: none of the model's fields is a column: {', '.join(absent)}", CALL_WRONG)
        console.print(f"{source} has no column {', '.join(absent)}; missing in every row")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.fields[rows]:,} rows"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=not console.is_terminal,
    )


def _check(source: Path, target: Path) -> None:
    """Refuse what can be neither read nor written, before a model is opened."""
    from service import files

    if not (source.is_file() or source.is_dir()):
        fail(f"{source}: there is no such file or folder", CALL_WRONG)
    if not source.is_dir() and source.suffix not in files.READABLE:
        expected = f"a file that ends in {', '.join(files.READABLE)}, or a folder of images, is expected"
        fail(f"{source}: {expected}", CALL_WRONG)
    if target.suffix not in files.WRITABLE:
        fail(f"{target}: a file that ends in {', '.join(files.WRITABLE)} is expected", CALL_WRONG)
