"""Data sets in Python: what `surprisal score IN OUT/` does."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from service.files.dataset.driver import Progress, Summary
    from service.files.dataset.run import Request
    from service.files.selection import Selection


def score_dataset(
    model: str | PathLike[str],
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    samples: int | None = None,
    score: str | None = None,
    false_alarm_rate: float | None = None,
    explain: bool = False,
    latent: bool = False,
    keep: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    only_flagged: bool = False,
    on_error: Literal["fail", "skip"] = "fail",
    strict: bool = False,
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    report: Callable[["Progress"], None] = lambda done: None,
) -> "Summary":
    """Score every row of a data set once, a shard at a time, on processes of this machine or on a Ray cluster.

    A shard is a run of row groups of a Parquet file, of lines of a text file, or a file as a whole. The same call goes
    on where it was interrupted, and gives the same bytes. Start it under `if __name__ == "__main__":`.

    Args:
        model: models/NAME (the version that is served) or models/NAME/VERSION.
        source: A file, a folder, a pattern as `day-*.parquet`, or the URI of one of these.
        out: A folder or its URI, empty or of the same call before.
        samples: Draws a record; by default the bundle's.
        score: Which of the bundle's scores decides; by default the bundle's.
        false_alarm_rate: Share of normal records to be flagged; by default the bundle's.
        explain: Whether the three most surprising fields of each row are written.
        latent: Whether latent means are written.
        keep: Columns of the files that are carried along, in order; None for all.
        columns: Columns of scores that are written, in order; None for all.
        only_flagged: Whether anomalies alone are written.
        on_error: Whether a row that does not fit fails its shard, or is put aside with its reason.
        strict: Whether a file that lacks a field of the model fails.
        workers: Processes; by default one for each processor.
        engine: Whether the processes are this machine's, or those of a Ray cluster, which the extra `ray` is for.
        address: HOST:PORT of its head; by default Ray as it is connected already, else as the command finds it.
        say: Told, in a sentence, what is passed over.
        report: Told after every shard.

    Returns:
        Counts: rows, written, left out, flagged, errors.

    Raises:
        bundle.errors.BundleError: There is no such bundle, or it is refused.
        reading.errors.FileInvalid: IN cannot be read, OUT holds something else, there is no cluster, or shards failed.
        ValueError: The bundle cannot answer, an argument has no such value, or an address is given without a cluster.
        OSError: IN cannot be read or OUT cannot be written.
    """
    given = _given(samples=samples, score=score, false_alarm_rate=false_alarm_rate, explain=explain or None)
    chosen = _selection(keep, columns, latent, only_flagged)
    how = {"on_error": on_error, "strict": strict, "workers": workers, "engine": engine, "address": address}
    return _scored(_request((model, source, out), given, chosen, how), say, report)


def _request(
    paths: Sequence[str | PathLike[str]], given: Mapping[str, object], chosen: "Selection", how: Mapping[str, Any]
) -> "Request":
    from service.files.dataset.run import Request

    model, source, out = paths
    return Request(Path(model), str(source), str(out), given, chosen, **how)


def _given(**wanted: object) -> dict[str, object]:
    return {name: value for name, value in wanted.items() if value is not None}


def _selection(
    keep: Sequence[str] | None, columns: Sequence[str] | None, latent: bool, only_flagged: bool
) -> "Selection":
    from service.files.selection import Selection

    kept, written = (None if each is None else tuple(each) for each in (keep, columns))
    return Selection(kept, written, latent, only_flagged)


def _scored(request: "Request", say: Callable[[str], None], report: Callable[["Progress"], None]) -> "Summary":
    from service.errors import RequestInvalid
    from service.files.dataset import run

    for name, value, known in (
        ("engine", request.engine, ("local", "ray")),
        ("on_error", request.on_error, ("fail", "skip")),
    ):
        if value not in known:
            raise ValueError(f"{name} {value!r}: one of {', '.join(known)} is expected")
    if request.workers is not None and request.workers < 1:
        raise ValueError(f"workers {request.workers}: at least 1 is expected")
    if request.address is not None and request.engine != "ray":
        raise ValueError(f"address {request.address}: is that of a Ray cluster; give engine='ray' as well")
    try:
        return run.run(request, say, report)
    except RequestInvalid as error:
        fault = error.faults[0]
        raise ValueError(f"{fault.pointer.removeprefix('/')}: {fault.detail}") from None
