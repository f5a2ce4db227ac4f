"""`surprisal score IN OUT/`: a data set, a shard at a time; the same command goes on where it was interrupted."""

import json
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from surprisal.cli import reading_options
from surprisal.cli.failure import CALL_WRONG, WORK_FAILED, fail
from surprisal.cli.progress import Interval, Progress

if TYPE_CHECKING:
    from service.files import Selection
    from service.files.dataset.driver import Progress as Shards
    from service.files.dataset.driver import Summary

WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Of a data set: processes; by default one for each processor.")
]
EngineOption = Annotated[
    Literal["local", "ray"], typer.Option(help="Of a data set: processes of this machine, or of a Ray cluster.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Head of the Ray cluster; by default RAY_ADDRESS, else the one on this machine, else a new one here.",
    ),
]


_NAMED = 10
"""Ways in which shards were read that are told."""


@dataclass(frozen=True)
class Call:
    """What the command was given; see `surprisal.cli.score.score_file`."""

    bundle: Path
    source: str
    target: str
    wanted: Mapping[str, object]
    read: Sequence[str] | None
    on_error: Literal["fail", "skip"]
    strict: bool
    workers: int | None
    engine: Literal["local", "ray"] = "local"
    address: str | None = None


def is_one(source: str, target: str) -> bool:
    """Whether OUT is a folder, or one of both is a URI: such a data set is scored a shard at a time.

    Args:
        source: IN.
        target: OUT.
    """
    from service.files import WRITABLE

    is_folder = target.endswith("/") or (Path(target).is_dir() and Path(target).suffix not in WRITABLE)
    return "://" in source or "://" in target or is_folder


def score(call: Call, selection: "Selection", told: Progress, as_json: bool) -> dict[str, Any]:
    """Score what is left of a data set, and say what came of it; the same for a program."""
    from service.errors import RequestInvalid
    from service.files.dataset import run
    from service.files.dataset.driver import Overtaken, ShardsFailed
    from service.files.dataset.job import OutFailed
    from service.files.dataset.place import without_secrets

    _check(call, selection)
    signal.signal(signal.SIGTERM, _stop)
    request = run.Request(
        bundle=call.bundle,
        source=call.source,
        out=call.target,
        wanted=call.wanted,
        selection=selection,
        read=reading_options.settings(call.read),
        on_error=call.on_error,
        strict=call.strict,
        workers=call.workers,
        engine=call.engine,
        address=call.address,
    )
    try:
        with told:
            summary = run.run(request, told.say, _Report(told, as_json))
    except RequestInvalid as error:
        fault = error.faults[0]
        fail(f"--{fault.pointer.removeprefix('/').replace('_', '-')}: {fault.detail}", CALL_WRONG)
    except (ShardsFailed, Overtaken, OutFailed) as error:
        fail(error, WORK_FAILED)
    _say(call, summary, told)
    files = {"in": without_secrets(call.source), "out": without_secrets(call.target)}
    return {"event": "summary", **_counts(summary), "files": files}


def stopped(told: Progress, target: str) -> str:
    """What is there where the run was stopped.

    Args:
        told: What was told of it.
        target: OUT.
    """
    from service.files.dataset.place import without_secrets

    after = f" after {told.at}" if told.at else ""
    return f"stopped{after}; what is done is in {without_secrets(target)}, and the same command goes on from there"


def check_engine(call: Call) -> None:
    """Refuse a cluster where none is used."""
    if call.engine == "ray" and not is_one(call.source, call.target):
        way_out = f"write its scores into a folder, {call.target}/, or leave --engine out"
        fail(f"--engine ray: {call.target} is one file, which is scored by one process; {way_out}", CALL_WRONG)
    if call.address is not None and call.engine != "ray":
        fail(f"--address {call.address}: is that of a Ray cluster; give --engine ray as well", CALL_WRONG)


def _check(call: Call, selection: "Selection") -> None:
    from reading.parts import STANDARD_INPUT
    from service.files import WRITABLE
    from service.files.dataset.place import without_secrets

    if call.source == STANDARD_INPUT:
        fail("-: standard input is no data set; name a file for OUT", CALL_WRONG)
    if call.target == STANDARD_INPUT:
        fail("-: a data set is scored into a folder, and not to standard output; name one, as scores/", CALL_WRONG)
    if PurePosixPath(call.target).suffix in WRITABLE and not call.target.endswith("/"):
        target = without_secrets(call.target)
        fail(f"{target}: is one file, and a data set is scored into a folder; name it {target}/", CALL_WRONG)
    if selection.top is not None:
        way_out = "write those that are flagged with --only-flagged, and sort them by p_value"
        fail(f"--top: of a data set each shard is written when it is scored; {way_out}", CALL_WRONG)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Report:
    """Tells after every shard how far it is.

    Args:
        told: Tells people.
        as_json: Whether programs are told as well.
    """

    def __init__(self, told: Progress, as_json: bool) -> None:
        self._told = told
        self._interval = Interval() if as_json else None
        self._began = time.monotonic()
        self._before: int | None = None

    def __call__(self, done: "Shards") -> None:
        if self._before is None:
            self._before = done.done
            if done.done:
                self._told.say(f"{done.done:,} of {done.shards:,} shards are done already")
        seconds = time.monotonic() - self._began
        speed = done.rows / max(seconds, 1e-9)
        failed = f", {done.failed:,} failed" if done.failed else ""
        left = self._left(done, seconds)
        self._told.show(
            f"{done.done:,} of {done.shards:,} shards", f"{speed:,.0f} rows/s{left}{failed}", done.done, done.shards
        )
        if self._interval is not None and self._interval.is_over():
            found = {"shards": done.shards, "shards_done": done.done, "shards_failed": done.failed, "rows": done.rows}
            print(
                json.dumps(
                    {"event": "progress", **found, "rows_per_second": round(speed, 1), "seconds": round(seconds, 3)}
                ),
                flush=True,
            )

    def _left(self, done: "Shards", seconds: float) -> str:
        scored = done.done - (self._before or 0)
        if not scored:
            return ""
        return f", about {seconds / scored * (done.shards - done.done):,.0f} s left"


def _say(call: Call, summary: "Summary", told: Progress) -> None:
    from service.files.dataset.place import without_secrets

    target = without_secrets(call.target)
    for name, count in summary.absent.items():
        told.say(f"{count:,} shards have no column {name}; missing in every row")
    for said, count in summary.said.most_common(_NAMED):
        told.say(f"{count:,} shards: {said}")
    if summary.unknown:
        counted = ", ".join(f"{name} in {count:,} rows" for name, count in summary.unknown.items())
        told.say(f"texts that the model does not know, because training never or hardly ever saw them: {counted}")
    if summary.errors:
        told.say(f"{summary.errors:,} rows have no score; _surprisal/errors in {target} says why")
    scored = summary.rows - summary.errors
    share = summary.flagged / max(scored, 1)
    told.say(
        f"{summary.rows:,} rows in {summary.shards:,} shards ({summary.scored:,} scored now), {summary.flagged:,} "
        f"({share:.2%}) flagged; {summary.written:,} rows are in {target}"
    )


def _counts(summary: "Summary") -> dict[str, Any]:
    return {
        "shards": summary.shards,
        "shards_scored": summary.scored,
        "rows": summary.rows,
        "rows_written": summary.written,
        "rows_left_out": summary.left_out,
        "rows_without_score": summary.errors,
        "flagged": summary.flagged,
        "unknown": dict(summary.unknown),
        "absent_fields": dict(summary.absent),
    }
