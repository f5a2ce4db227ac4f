"""A data set scored by one call, from the paths that a person names to what came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from bundle.contents import answer_names
from bundle.folder import store
from reading import parts
from reading.errors import NotRead
from reading.options import Options
from service.engine import cpus
from service.files.dataset import cluster, connection, driver, local, source
from service.files.dataset import columns as source_columns
from service.files.dataset.driver import Progress, Summary
from service.files.dataset.job import Job
from service.files.dataset.machine import RELEASE, Terms
from service.files.dataset.place import Place, without_secrets
from service.files.dataset.plan import Plan
from service.files.dataset.source import Source
from service.files.form import scores_written
from service.files.scoring import Scoring
from service.files.selection import ColumnsRefused, Selection

OnError = Literal["fail", "skip"]
EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class Request:
    """What is asked.

    Args:
        bundle: models/NAME (the served version) or models/NAME/VERSION.
        source: IN: a file, a folder, a pattern, or the URI of one of these.
        out: OUT: a folder or its URI.
        wanted: What differs from what the bundle answers by itself; see `Scoring.question`.
        selection: What is written.
        read: What a person said of how the files are written, by the names of `Options`.
        on_error: Whether a row that does not fit fails its shard or is put aside.
        strict: Whether a file that lacks a field of the model fails.
        workers: Processes; by default one for each processor, or for each GPU where a cluster's run the bundle.
        engine: Whether the processes are this machine's, or those of a Ray cluster.
        address: HOST:PORT of the cluster's head; see `cluster.run`.
    """

    bundle: Path
    source: str
    out: str
    wanted: Mapping[str, object] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)
    read: Mapping[str, Any] = field(default_factory=dict)
    on_error: OnError = "fail"
    strict: bool = False
    workers: int | None = None
    engine: EngineName = "local"
    address: str | None = None


def run(request: Request, say: Callable[[str], None], report: Callable[[Progress], None]) -> Summary:
    """Score every row of a data set once, whatever interrupts it; a rerun scores what is left.

    Args:
        request: What is asked.
        say: Told, in a sentence, what is passed over.
        report: Told after every shard.

    Raises:
        BundleError: The bundle is refused.
        RequestInvalid: The bundle cannot answer.
        FileInvalid: IN cannot be read, OUT holds something else, shards have failed, or there is no cluster; says what
            to do.
        OutFailed: OUT cannot be written.
        OSError: IN or OUT cannot be read.
    """
    if request.engine == "ray":
        connection.require()
    root, name, number = store.resolve(request.bundle)
    bundle = root / name / str(number)
    scoring = Scoring(bundle)
    question = scoring.question(request.wanted)
    scores = scores_written(scoring.manifest, question, request.selection, flat=False, faults=False)
    scorer, _ = scoring.open(question)
    found = source.found(request.source)
    if found.passed_over:
        counted = ", ".join(f"{count:,} {ending}" for ending, count in sorted(found.passed_over.items()))
        say(f"{without_secrets(request.source)}: passed over, by their endings: {counted}")
    out = Place.of(request.out)
    if found.holds(out):
        raise NotRead(f"{out.shown}: lies in IN, so the scores would be scored the next time; name an OUT beside IN")
    options = replace(Options.kept(scoring.manifest.training.config), **request.read)
    _require_columns(found, request.selection, options, scores)
    skip = request.on_error == "skip"
    job = Job(bundle, found.place, out, request.wanted, request.selection, options, skip, request.strict)
    asked: dict[str, Any] = {"samples": question.samples, "score": question.score, "explain": question.explain}
    asked |= {"false_alarm_rate": question.false_alarm_rate, "on_error": request.on_error, "strict": request.strict}
    asked |= {name: getattr(request.selection, name) for name in ("keep", "columns", "latent", "only_flagged")}
    asked |= {"read": _said(options), "release": version(RELEASE)}
    model = {"name": name, "version": str(number), "digest": scoring.manifest.digest}
    plan = Plan(model, {each: _plain(value) for each, value in asked.items()}, scorer.provider, {})
    return driver.score(job, found, plan, _engine(request, plan), scoring.schema, report)


def _engine(request: Request, plan: Plan) -> driver.Engine:
    """Scores shards by whom it was asked for, which no result depends on."""
    terms = Terms(plan.options["release"], plan.model["digest"], plan.provider, plan.path)
    if request.engine == "ray":
        return lambda job, shards: cluster.run(job, shards, terms, request.workers, request.address)
    workers = request.workers or cpus.available()
    threads = max(1, cpus.available() // workers)
    return lambda job, shards: local.run(job, shards, terms, workers, threads)


def _require_columns(found: Source, selection: Selection, options: Options, scores: Sequence[str]) -> None:
    """Refuse names of columns before OUT belongs to them; of other files than the first the shard is refused."""
    added = scores if selection.everything else (answer_names.ROW, *scores)
    for entry in found.entries:
        # OUT has the same folders, so that whoever reads it would find their values in place of the scores.
        if taken := [name for name in parts.constants(PurePosixPath(entry.path).parent.parts) if name in added]:
            raise ColumnsRefused(
                f"{found.place.named(entry.path)}: a folder is called {taken[0]}=…, and so is a column that scores are "
                "written to: rename the folder, or name other columns with --columns"
            )
    columns = source_columns.of(found.place, found.entries[0], options)
    if columns is not None:
        try:
            selection.carried(columns, added)
        except ColumnsRefused as error:
            raise ColumnsRefused(f"{found.place.named(found.entries[0].path)}: {error}") from error


def _said(options: Options) -> dict[str, Any]:
    return {name: _plain(value) for name, value in vars(options).items() if value is not None}


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
