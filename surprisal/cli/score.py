"""`surprisal score`: score a file with a bundle, a piece at a time and without a server."""

import contextlib
import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bundle import wording
from reading.options import Options
from surprisal.cli import dataset, reading_options
from surprisal.cli.failure import CALL_WRONG, STOPPED, WORK_FAILED, fail
from surprisal.cli.progress import Interval, Progress
from surprisal.cli.reading_options import ReadOption

if TYPE_CHECKING:
    from service.engine.question import Question
    from service.files import RecordFile, Selection
    from service.files.scoring import Scored, Scoring


_NAMED = 10
"""Lines that were passed over which are named."""
_ENOUGH = 20
"""Rows of which more than half flagged are no chance."""
_Keep = Annotated[
    str | None, typer.Option(metavar="A,B", help="Columns of IN that OUT has; by default all, '' for none.")
]
_Columns = Annotated[
    str | None, typer.Option(metavar="A,B", help="Columns of scores that OUT has, as p_value; by default all.")
]

_SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="IN",
        help="CSV, Parquet, NDJSON, Arrow or npz file of records, a folder or pattern of such files, a URI of "
        "these, - for standard input, or a folder of images.",
    ),
]
_TargetArgument = Annotated[
    str,
    typer.Argument(metavar="OUT", help="CSV, Parquet or NDJSON file; - prints NDJSON; of a data set a folder, OUT/."),
]


def score_file(
    bundle: Annotated[Path, typer.Argument(help="models/NAME (the served version) or models/NAME/VERSION.")],
    source: _SourceArgument,
    target: _TargetArgument,
    samples: Annotated[int | None, typer.Option(help="Draws a record: a power of two up to 256.")] = None,
    score: Annotated[str | None, typer.Option(help="Which of the bundle's scores decides.")] = None,
    false_alarm_rate: Annotated[float | None, typer.Option(help="Share of normal records to be flagged.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Add the three most surprising fields of each row; of an image its map.")
    ] = False,
    keep: _Keep = None,
    columns: _Columns = None,
    latent: Annotated[bool, typer.Option("--latent", help="Add the latent means.")] = False,
    only_flagged: Annotated[bool, typer.Option("--only-flagged", help="Write rows that are flagged alone.")] = False,
    top: Annotated[int | None, typer.Option(min=1, help="Write so many rows alone, the strangest first.")] = None,
    read: ReadOption = None,
    on_error: Annotated[
        Literal["fail", "skip"],
        typer.Option(help="Of a row that does not fit: end, or give it no score and say why in the column error."),
    ] = "fail",
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a file that lacks a field of the model.")] = False,
    workers: dataset.WorkersOption = None,
    engine: dataset.EngineOption = "local",
    address: dataset.AddressOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print progress and a summary as lines of JSON on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing on standard error but what went wrong.")] = False,
) -> None:
    """Score every row of a file; OUT holds the columns of IN and the scores after them.

    With --only-flagged or --top the column `row` says where in IN a row stands, from 1.
    Of images in a folder OUT names the `file`, of those in an npz the `row`; their pixels are not copied.

    Where OUT is a folder, the same command goes on where it was interrupted, and every row is scored once.
    """
    from service.files import Selection

    began = time.monotonic()
    wanted = {"samples": samples, "score": score, "false_alarm_rate": false_alarm_rate, "explain": explain or None}
    given = {name: value for name, value in wanted.items() if value is not None}
    call = dataset.Call(bundle, source, target, given, read, on_error, strict, workers, engine, address)
    dataset.check_engine(call)
    selection = Selection(_names("--keep", keep), _names("--columns", columns), latent, only_flagged, top)
    summary = _summary(call, selection, Progress(quiet=quiet, drawn=not as_json), as_json)
    if as_json:
        _print(summary | {"seconds": round(time.monotonic() - began, 3)})


def _summary(call: dataset.Call, selection: "Selection", progress: Progress, as_json: bool) -> dict[str, Any]:
    """Score a file or a data set; what came of it."""
    if dataset.is_one(call.source, call.target):
        try:
            return dataset.score(call, selection, progress, as_json)
        except KeyboardInterrupt:
            fail(dataset.stopped(progress, call.target), STOPPED)
    source, target = Path(call.source), Path(call.target)
    try:
        _check(source, target, as_json)
        places = _Files(call.bundle, source, target, call.read, call.on_error == "skip", call.strict)
        return _score(places, call.wanted, selection, progress, as_json)
    except KeyboardInterrupt:
        fail(_stopped(progress, target), STOPPED)


@dataclass(frozen=True)
class _Files:
    """What is read and written, and how."""

    bundle: Path
    source: Path
    target: Path
    read: Sequence[str] | None
    skip: bool
    strict: bool


def _score(
    places: _Files, given: Mapping[str, object], selection: "Selection", progress: Progress, as_json: bool
) -> dict[str, Any]:
    """Score the file, and say what came of it; the same for a program."""
    from service import files
    from service.files.scoring import Scoring

    source, target = places.source, places.target
    scoring = Scoring(places.bundle)
    question = _question(scoring, given)
    scoring.open(question)
    options = reading_options.options(places.read, Options.kept(scoring.manifest.training.config))
    typed = target.suffix != ".csv"
    with _faults_of(source), files.open_records(source, scoring.schema, options, places.skip, typed) as file:
        if file.said:
            progress.say(f"{source} read as: {', '.join(file.said)}")
        absent = _absent(places, scoring, file, progress)
        with progress, files.writer(target) as writer:
            try:
                done = scoring.file(file, question, selection, writer, _Report(progress, as_json))
            except files.ColumnsRefused as error:
                fail(f"{source}: {error}", CALL_WRONG)
    empty = [name for name, count in done.missing.items() if done.rows and count == done.rows and name not in absent]
    if empty:
        progress.say(f"{source}: {', '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty in every row")
    for line in (*file.notes, *_remarks(done, file.skipped)):
        progress.say(line)
    scored = done.rows - done.faulty
    share = done.anomalies / max(scored, 1)
    wrote = "wrote" if selection.everything else f"wrote {done.written:,} of them to"
    usual = f"about {round(question.false_alarm_rate * scored):,} would be if every row were normal"
    progress.say(
        f"{done.rows:,} rows scored, {done.anomalies:,} ({share:.2%}) flagged; at a false-alarm rate of "
        f"{question.false_alarm_rate:.2%} {usual}; {wrote} {_named(target)}"
    )
    return {
        "event": "summary",
        "model": {"name": scoring.name, "version": str(scoring.version)},
        "rows": done.rows,
        "flagged": done.anomalies,
        "share_flagged": share,
        "rows_written": done.written,
        "samples": question.samples,
        "score": question.score,
        "false_alarm_rate": question.false_alarm_rate,
        "rows_without_score": done.faulty,
        "lines_passed_over": len(file.skipped),
        "unknown": {name: count for name, count in done.unknown.items() if count},
        "absent_fields": absent,
        "empty_fields": empty,
        "files": {"in": str(source), "out": str(target)},
    }


def _remarks(done: "Scored", skipped: Sequence[str]) -> Iterator[str]:
    """What of the file a reader of its scores should know."""
    if done.faulty:
        yield f"{done.faulty:,} rows have no score; the column error says why"
    if skipped:
        more = ", …" if len(skipped) > _NAMED else ""
        yield f"{len(skipped):,} lines could not be taken apart and are not in OUT: {'; '.join(skipped[:_NAMED])}{more}"
    unknown = {name: count for name, count in done.unknown.items() if count}
    if unknown:
        counted = ", ".join(f"{name} in {count:,} {'row' if count == 1 else 'rows'}" for name, count in unknown.items())
        yield f"texts that the model does not know, because training never or hardly ever saw them: {counted}"
    scored = done.rows - done.faulty
    if scored >= _ENOUGH and done.anomalies > scored / 2:
        yield (
            "most rows are flagged: this file is not like the one that the model was trained on, or is read otherwise; "
            "--explain says which fields are strange"
        )


@contextlib.contextmanager
def _faults_of(source: Path) -> Iterator[None]:
    """Name IN where nothing else is named; what cannot be written is."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        fail(f"{source}: {wording.of_system(error)}", WORK_FAILED)


class _Report:
    """Tells after every block how far it is.

    Args:
        progress: Tells people.
        as_json: Whether programs are told as well.
    """

    def __init__(self, progress: Progress, as_json: bool) -> None:
        self._progress = progress
        self._interval = Interval() if as_json else None
        self._began = time.monotonic()

    def __call__(self, done: "Scored") -> None:
        seconds = time.monotonic() - self._began
        speed = done.rows / max(seconds, 1e-9)
        self._progress.show(f"{done.rows:,} rows", f"{done.share:.0%}, {speed:,.0f} rows/s", done.share, 1.0)
        if self._interval is not None and self._interval.is_over():
            found = {"rows": done.rows, "flagged": done.anomalies, "share_read": done.share}
            _print({"event": "progress"} | found | {"rows_per_second": round(speed, 1), "seconds": round(seconds, 3)})


def _print(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _question(scoring: "Scoring", given: Mapping[str, object]) -> "Question":
    """What is asked of the records; what the bundle cannot answer is a wrong call."""
    from service.errors import RequestInvalid

    try:
        return scoring.question(given)
    except RequestInvalid as error:
        name = error.faults[0].pointer.removeprefix("/")
        value = "" if name == "explain" else f" {given[name]}"
        fail(f"--{name.replace('_', '-')}{value}: {error.faults[0].detail}", CALL_WRONG)


def _names(option: str, columns: str | None) -> tuple[str, ...] | None:
    """The names of columns as a row of CSV has them, so that one that holds a comma can be quoted."""
    if columns is None:
        return None
    try:
        return tuple(name for row in csv.reader([columns], strict=True) for name in row)
    except csv.Error as error:
        fail(f"{option} {columns}: {error}", CALL_WRONG)


def _absent(places: _Files, scoring: "Scoring", file: "RecordFile", progress: Progress) -> list[str]:
    """The model's fields that the file lacks, which is said; a file that lacks them all is refused."""
    schema, source = scoring.schema, places.source
    absent = schema.absent(file.columns)
    if len(absent) == len(schema.names):
        fail(f"{source}: none of the model's fields is a column: {', '.join(absent)}", CALL_WRONG)
    partly = [name for name in file.partly if schema.takes(name)]
    if (absent or partly) and places.strict:
        lacking = [*absent, *(f"{name} (in some of its files)" for name in partly)]
        fail(f"{source}: has no column {', '.join(lacking)}", CALL_WRONG)
    if absent:
        progress.say(f"{source} has no column {', '.join(absent)}; missing in every row")
    return absent


def _stopped(progress: Progress, target: Path) -> str:
    from service import files

    after = f"stopped after {progress.at}" if progress.at else "stopped before the first row was scored"
    kept = "no more rows are written" if target == files.STANDARD_OUTPUT else f"nothing was written to {target}"
    return f"{after}; {kept}. The same command begins with the first row again"


def _named(target: Path) -> str:
    from service import files

    return "standard output" if target == files.STANDARD_OUTPUT else str(target)


def _check(source: Path, target: Path, as_json: bool) -> None:
    """Refuse what can be neither read nor written, before a model is opened."""
    _check_source(source)
    _check_target(source, target, as_json)


def _check_source(source: Path) -> None:
    from reading import parts
    from reading.errors import FileInvalid

    if source.is_dir() or str(source) == parts.STANDARD_INPUT or source.suffix.lower() == ".npz":
        return
    try:
        parts.parts(source)
    except FileInvalid as error:
        fail(error, CALL_WRONG)


def _check_target(source: Path, target: Path, as_json: bool) -> None:
    from service import files

    if target == files.STANDARD_OUTPUT:
        if as_json:
            fail("--json: standard output has the rows already, because OUT is -; name a file", CALL_WRONG)
        return
    if target.suffix not in files.WRITABLE:
        fail(f"{target}: a file that ends in {', '.join(files.WRITABLE)} is expected", CALL_WRONG)
    if target.is_dir():
        fail(f"{target}: is a folder; a file is to be written, or of a data set a folder: {target}/", CALL_WRONG)
    if not target.parent.is_dir():
        fail(f"{target}: there is no folder {target.parent}", CALL_WRONG)
    if target.exists() and source.exists() and target.samefile(source):
        fail(f"{target}: is IN as well; write to another file", CALL_WRONG)
