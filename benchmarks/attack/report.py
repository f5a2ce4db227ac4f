"""Runs cases, each on a server of its own but for those that only send, and says what came of them."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.attack.case import MODEL, Case, in_words
from benchmarks.attack.health import Checks, Health
from benchmarks.attack.memory import MEBIBYTE
from benchmarks.attack.server import Server
from bundle.contents.manifest import Manifest
from bundle.folder import store
from bundle.record.schema import ImageSchema

BOUND = 1.25
"""Of its budget, what a worker may take over its memory at rest."""
_SETTLE_SECONDS = 0.3
_CONNECTIONS_A_WORKER = 2


@dataclass(frozen=True)
class Row:
    """What a case came to.

    Args:
        case: Which.
        seen: Statuses and remarks, and how many of each.
        seconds: That it took.
        peak: Bytes that a process had over its memory at rest.
        checks: Health checks meanwhile.
        alive: Whether the service lived afterwards.
        exit_code: Of the service at SIGTERM.
    """

    case: Case
    seen: Counter[int | str]
    seconds: float
    peak: int
    checks: Checks
    alive: bool
    exit_code: int


def is_of_images(folder: Path) -> bool:
    """Whether the bundle of a version scores images."""
    return isinstance(Manifest.from_bytes((folder / "manifest.json").read_bytes()).record, ImageSchema)


def models_for(case: Case, models: Path, scratch: Path) -> Path | None:
    """A folder with the one model that a case attacks, or None where there is none."""
    for name in store.names(models):
        folder = models / name / str(store.served_version(models, name))
        if is_of_images(folder) if case.images else name == MODEL:
            alone = scratch / "alone"
            alone.mkdir()
            (alone / name).symlink_to((models / name).resolve())
            return alone
    return None


def run(case: Case, models: Path, budget: int | None = None) -> Row | None:
    """Attack a fresh server; None where the model for it is not there.

    Args:
        case: What is done to it.
        models: Folder of the bundles.
        budget: MiB that its requests may hold in a worker; the service's own by default.
    """
    act = case.prepare()
    environment = dict(case.environment)
    if budget is not None:
        environment["SURPRISAL_MEMORY_MB"] = str(budget)
    with ExitStack() as last:
        scratch = Path(last.enter_context(tempfile.TemporaryDirectory()))
        alone = models_for(case, models, scratch)
        if alone is None:
            return None
        (scratch / "server").mkdir()
        server = Server(alone, scratch / "server", workers=case.workers, environment=environment)
        last.enter_context(server)
        started = time.perf_counter()
        with Health(server.port, _CONNECTIONS_A_WORKER * case.workers) as health:
            seen = Counter(act(server))
            seconds = time.perf_counter() - started
            time.sleep(_SETTLE_SECONDS)
        peak, alive = server.memory.over_rest(), server.alive
        exit_code = server.stop()
    return Row(case, seen, seconds, peak, health.checks, alive, exit_code)


def every(cases: Sequence[Case], models: Path, budget: int | None) -> Iterator[Row | Case]:
    """The rows of cases as they come; a case itself where the model for it is not there."""
    for case in cases:
        yield run(case, models, budget) or case


def cells(row: Row) -> tuple[str, ...]:
    """A row as the table shows it, column by column."""
    checks = row.checks
    measured = (f"{row.seconds:.1f}", f"{row.peak / MEBIBYTE:.0f}", f"{checks.p99:.0f}", f"{checks.longest:.0f}")
    ends = (str(checks.failed), "yes" if row.alive else "no", str(row.exit_code))
    return row.case.name, in_words(row.seen), *measured, *ends
