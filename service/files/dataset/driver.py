"""The run over a data set: what is left is scored, counted, and declared complete when nothing is missing."""

import contextlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from threading import Thread

from bundle.folder import durable_file
from bundle.record.schema import RecordSchema
from reading.errors import FileInvalid
from reading.options import Options
from service.files.dataset.job import DONE, Done, Job, read_done
from service.files.dataset.outcome import Failed, Outcome
from service.files.dataset.place import Place
from service.files.dataset.plan import FOLDER, Plan, read, settle
from service.files.dataset.shard import Shard, cut
from service.files.dataset.source import Source

MANIFEST = f"{FOLDER}/manifest.json"
"""Below OUT: every shard with its counts and its checksum."""
SUCCESS = "_SUCCESS"
"""Below OUT, written last: all that was asked for is there."""
_READERS = 16
_STALE = 3600 * 10**9
"""Nanoseconds after which nobody is writing a file any more."""
_NAMED = 10

Engine = Callable[[Job, Sequence[Shard]], Iterator[Outcome]]


class ShardsFailed(FileInvalid):
    """Some shards have no results; the others have, and a rerun takes up those that are left."""


class Overtaken(FileInvalid):
    """A later run scores more files into OUT, so that this one does not say what is complete."""


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Args:
        shards: How many there are.
        done: How many of them are done, earlier ones included.
        rows: How many rows those hold that this run has scored.
        failed: How many shards failed.
    """

    shards: int
    done: int
    rows: int
    failed: int


@dataclass(frozen=True)
class Summary:
    """What came of a run.

    Args:
        shards: How many there are.
        scored: How many of them this run scored.
        rows: Rows in; rows out, left out and errors add up to them.
        written: Rows out.
        left_out: Rows that were not asked for.
        flagged: Anomalies.
        errors: Rows without a score.
        unknown: By categorical field, how many rows hold a text that training never saw.
        missing: By field, how many rows hold nothing.
        absent: Fields of the model that files lack, and in how many shards.
        said: How files were read where a reader could expect otherwise, and in how many shards.
    """

    shards: int
    scored: int
    rows: int = 0
    written: int = 0
    left_out: int = 0
    flagged: int = 0
    errors: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)


def score(
    job: Job,
    source: Source,
    plan: Plan,
    engine: Engine,
    schema: RecordSchema,
    report: Callable[[Progress], None] = lambda done: None,
) -> Summary:
    """Score what is left of a data set.

    Args:
        job: What is asked.
        source: The files of IN.
        plan: The same question, as it is kept in OUT.
        engine: Scores shards.
        schema: The model's fields.
        report: Told after every shard.

    Raises:
        PlanDiffers: OUT holds the scores of another run.
        FileInvalid: A file is damaged, or OUT holds files of somebody else.
        ShardsFailed: Some shards have no results.
        Overtaken: A later run scores more files into OUT.
        OutFailed: OUT cannot be written.
        OSError: IN or OUT cannot be read.
    """
    _refuse_others_files(job.out)
    plan = plan.of(source.entries)
    settle(job.out, plan)
    _remove_stale(job.out, plan)
    for path in (SUCCESS, MANIFEST):  # until what is new is there, too
        with contextlib.suppress(FileNotFoundError):  # another run has removed it
            if job.out.entry(path) is not None:
                job.out.remove(path)
    shards, failed = _cut(source, plan.digest, schema, job.options)
    count = len(shards) + len(failed)
    done = _done(job.out, shards)
    left = [shard for shard in shards if shard.key not in done]
    rows = 0
    report(Progress(count, len(done), 0, len(failed)))
    for outcome in engine(job, left) if left else ():
        if isinstance(outcome, Failed):
            failed.append(outcome)
        else:
            done[outcome.key] = outcome
            rows += outcome.rows
        report(Progress(count, len(done), rows, len(failed)))
    if failed:
        raise _failure(failed, count, len(done))
    return _finish(job.out, plan, [done[shard.key] for shard in shards], len(left))


def _remove_stale(out: Place, plan: Plan) -> None:
    """Remove files that a killed process was writing.

    Another run of the same plan may be writing now. It takes seconds, so that a file that nobody has touched for an
    hour, by the clock of the folder itself, is nobody's.
    """
    written = out.entry(plan.path)
    if not out.is_local or written is None:
        return
    for each in out.entries():
        name = PurePosixPath(each.path).name
        if name.startswith(durable_file.WRITING) and written.changed - each.changed > _STALE:
            with contextlib.suppress(FileNotFoundError):  # the other run has removed it
                out.remove(each.path)


def _cut(source: Source, plan: str, schema: RecordSchema, options: Options) -> tuple[list[Shard], list[Failed]]:
    """All shards, and files that cannot be cut, because they are damaged.

    Files are looked at side by side, by threads that the end of the process does not wait for.
    """
    found: list[Future[list[Shard]]] = [Future() for _ in source.entries]
    waiting = deque(zip(source.entries, found, strict=True))

    def work() -> None:
        with contextlib.suppress(IndexError):
            while True:
                entry, future = waiting.popleft()
                try:
                    future.set_result([*cut(source.place, entry, plan, schema, options)])
                except Exception as error:  # noqa: BLE001 - raised where it is waited for
                    future.set_exception(error)

    for _ in range(min(_READERS, len(found))):
        Thread(target=work, daemon=True).start()
    shards: list[Shard] = []
    failed: list[Failed] = []
    for entry, each in zip(source.entries, found, strict=True):
        try:
            shards += each.result()
        except FileInvalid as error:
            failed.append(Failed(Shard(*entry, 0, 0, None, ""), str(error)))
    return shards, failed


def _done(out: Place, shards: Sequence[Shard]) -> dict[str, Done]:
    """Shards that an earlier run has finished, by key."""
    there = {each.path: each.size for each in out.entries()}
    recorded = [shard for shard in shards if f"{DONE}/{shard.key}.json" in there]
    with ThreadPoolExecutor(_READERS) as pool:
        contents = list(pool.map(lambda shard: out.read(f"{DONE}/{shard.key}.json"), recorded))
    found = {}
    for shard, content in zip(recorded, contents, strict=True):
        try:
            done = read_done(content)
        except ValueError:
            continue  # it is scored again
        if there.get(done.target) == done.bytes:
            found[shard.key] = done
    return found


def _refuse_others_files(out: Place) -> None:
    """A folder that holds files, and no plan of ours, belongs to somebody else."""
    entries = [each for each in out.entries() if not each.path.startswith(f"{FOLDER}/{durable_file.WRITING}")]
    if entries and not any(each.path.startswith(f"{FOLDER}/plan-") for each in entries):
        raise FileInvalid(
            f"{out.shown}: holds files already, as {entries[0].path}, and no plan of a run; name another OUT"
        )


def _failure(failed: Sequence[Failed], shards: int, done: int) -> ShardsFailed:
    told = "; ".join(each.reason for each in failed[:_NAMED])
    more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    return ShardsFailed(
        f"{len(failed)} of {shards} shards have no results: {told}{more}. {done} are done; the same command scores the "
        "others again"
    )


def _finish(out: Place, plan: Plan, done: Sequence[Done], scored: int) -> Summary:
    totals = {name: sum(getattr(each, name) for each in done) for name in _COUNTED}
    summary = Summary(len(done), scored, **totals)
    for each in done:
        summary.unknown.update(each.unknown)
        summary.missing.update(each.missing)
        summary.absent.update(each.absent)
        summary.said.update(each.said)
    if later := sorted(read(out, plan.path).inputs.keys() - plan.inputs.keys()):
        raise Overtaken(
            f"{out.shown}: a later run scores more files into it, as {later[0]}. All shards of this run are done, and "
            "not declared complete: the same command does so once the later run has ended"
        )
    manifest = {"plan": plan.digest, **totals, "shards": [asdict(each) for each in done]}
    out.publish(MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
    out.publish(SUCCESS, b"")
    return summary


_COUNTED = ("rows", "written", "left_out", "flagged", "errors")
