"""`surprisal score`: score a file with a bundle, a piece at a time and without a server."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cli.failure import CALL_WRONG, fail


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
    from dataclasses import replace

    from bundle.contents.explanation import Explanations
    from bundle.folder import contents, store
    from service import files
    from service.codecs import explained
    from service.engine.question import Question
    from service.engine.verdicts import Verdicts, answered, judge
    from service.models.opening import open_explainer, open_scorer, read
    from service.settings import Settings

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    if not (source.is_file() or source.is_dir()):
        fail(f"{source}: there is no such file or folder", CALL_WRONG)
    if not source.is_dir() and source.suffix not in files.READABLE:
        expected = f"a file that ends in {', '.join(files.READABLE)}, or a folder of images, is expected"
        fail(f"{source}: {expected}", CALL_WRONG)
    if target.suffix not in files.WRITABLE:
        fail(f"{target}: a file that ends in {', '.join(files.WRITABLE)} is expected", CALL_WRONG)
    opened = read(*store.resolve(bundle), Settings())
    manifest, schema = opened.manifest, opened.manifest.record
    wanted = {"samples": samples, "score": score, "false_alarm_rate": false_alarm_rate, "explain": explain or None}
    given = {name: value for name, value in wanted.items() if value is not None}
    question, faults = Question.usual(manifest).changed(given, manifest)
    if faults:
        name = faults[0].pointer.removeprefix("/")
        value = "" if name == "explain" else f" {given[name]}"
        fail(f"--{name.replace('_', '-')}{value}: {faults[0].detail}", CALL_WRONG)
    scorer = open_scorer(opened, Settings())
    explainer = open_explainer(opened, Settings()) if question.explain else None
    calibration = contents.calibration(opened)
    rows = anomalies = 0
    bar = Progress(
        TextColumn("{task.fields[rows]:,} rows"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=not console.is_terminal,
    )
    with files.open_records(source, schema) as file:
        if absent := schema.absent(file.columns):
            if len(absent) == len(schema.names):
                fail(f"{source}: none of the model's fields is a column: {', '.join(absent)}", CALL_WRONG)
            console.print(f"{source} has no column {', '.join(absent)}; missing in every row")
        with bar, files.writer(target) as writer, ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
            task = bar.add_task("score", total=1.0, rows=0)

            def write(piece: files.Piece, verdicts: Verdicts) -> None:
                columns = verdicts.columns()
                if verdicts.explanations is not None:
                    columns |= explained.flat(verdicts.explanations)
                table = piece.table
                if schema.image and target.suffix != ".parquet":
                    table = files.images_as_text(table, schema, piece.tensors["image"])
                writer.write_table(files.with_scores(table, columns, flat=target.suffix == ".csv"))

            # While a piece is scored, the one before it is written and the one after it is read.
            pieces = file.pieces()
            following, written = reading.submit(next, pieces, None), None
            while (piece := following.result()) is not None:
                following = reading.submit(next, pieces, None)
                outputs = scorer.run(piece.tensors, question.samples)
                verdicts = judge(manifest, calibration, outputs, question.samples)
                if given:
                    verdicts = answered(verdicts, manifest, calibration, question)
                if explainer is not None:
                    outputs = explainer.run(piece.tensors, question.samples)
                    verdicts = replace(verdicts, explanations=Explanations(manifest, piece.tensors, outputs))
                if written is not None:
                    written.result()
                written = writing.submit(write, piece, verdicts)
                rows += piece.table.num_rows
                anomalies += int(verdicts.is_anomaly.sum())
                bar.update(task, completed=piece.share, rows=rows)
            if written is not None:
                written.result()
    share = anomalies / max(rows, 1)
    console.print(
        f"{rows:,} rows scored, {anomalies:,} ({share:.2%}) flagged at a false-alarm rate of "
        f"{question.false_alarm_rate:.2%}; wrote {target}"
    )
