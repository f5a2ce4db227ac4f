"""One fresh start of a server: start-up time, every load of a list, memory before and after."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.formats import FORMATS, Make, json_arrays
from benchmarks.serving.load import Load, closed_loop, median
from benchmarks.serving.model import simulate
from benchmarks.serving.servers import PORTS, Launch, Server, free_port

SIZES = (1, 64, 512, 8192)
CONNECTIONS = 4
SINGLE_CONNECTIONS = (1, 64, 512)
BATCH = 512
WARM_UP_SECONDS = 1.0
NOT_SERVED = (404, 405, 406, 415)


@dataclass(frozen=True)
class Case:
    """One load.

    Args:
        format: Name in the table.
        make: Rows to request.
        records: In a request.
        connections: At once.
    """

    format: str
    make: Make
    records: int
    connections: int

    def few_for(self, workers: int) -> bool:
        """Whether the system may well give the workers unequal numbers of connections."""
        return workers > 1 and 1 < self.connections <= 4 * workers


Outcome = Load | str  # the text says why there is no load


@dataclass(frozen=True)
class Visit:
    """What was seen.

    Args:
        start_seconds: From the start of the process to its first answer.
        rest: Bytes of memory before any load.
        after: The same after all of it.
        outcomes: By case.
    """

    start_seconds: float
    rest: float
    after: float
    outcomes: dict[Case, Outcome]


@dataclass
class Plan:
    """How to measure.

    Args:
        seconds: Each load's length.
        repeats: Fresh starts.
        few_repeats: Fresh starts for cases in which several workers meet few connections.
        port: The next to try.
        scratch: Folder for what is written.
    """

    seconds: float
    repeats: int
    few_repeats: int
    port: int
    scratch: Path

    def server(self, launch: Launch) -> Server:
        """On a port that was not used before."""
        port = free_port(self.port)
        self.port = port + PORTS
        return Server(launch, port, self.scratch)


def by_format() -> list[Case]:
    """Every format in every size."""
    return [Case(name, make, size, CONNECTIONS) for name, make in FORMATS.items() for size in SIZES]


def single(make: Make = json_arrays) -> list[Case]:
    """One record a request, and for comparison a batch."""
    ones = [Case("JSON arrays", make, 1, connections) for connections in SINGLE_CONNECTIONS]
    return [*ones, Case("JSON arrays", make, BATCH, CONNECTIONS)]


def repeated(launch: Launch, workers: int, cases: Sequence[Case], plan: Plan) -> Visit:
    """Medians over fresh starts.

    Raises:
        NotStarted: See `Server`.
    """
    cases = list(dict.fromkeys(cases))
    starts = max(plan.repeats, plan.few_repeats if any(case.few_for(workers) for case in cases) else 0)
    visits = []
    for start in range(starts):
        visits.append(visit(launch, [case for case in cases if start < plan.repeats or case.few_for(workers)], plan))
    outcomes = {case: _joined([each.outcomes[case] for each in visits if case in each.outcomes]) for case in cases}
    # The later starts carried less load, so their memory after it would flatter.
    full = visits[: plan.repeats]
    return Visit(
        statistics.median(each.start_seconds for each in visits),
        statistics.median(each.rest for each in visits),
        statistics.median(each.after for each in full),
        outcomes,
    )


def visit(launch: Launch, cases: Sequence[Case], plan: Plan) -> Visit:
    """Start the server once and load it with one case after the other.

    Raises:
        NotStarted: See `Server`.
    """
    with plan.server(launch) as server:
        rest = server.memory()
        closed_loop(server.address, launch.make(simulate(1, seed=5)), 64, WARM_UP_SECONDS, plan.scratch)
        outcomes = {case: _measured(server, case, plan) for case in cases}
        return Visit(server.start_seconds, rest, server.memory(), outcomes)


def _measured(server: Server, case: Case, plan: Plan) -> Outcome:
    request = case.make(simulate(case.records, seed=6))
    status, body = server.ask(request)
    if status in NOT_SERVED:
        return "not served"
    if status != 200:
        return f"{status}: {body[:200].decode(errors='replace')}"
    return closed_loop(server.address, request, case.connections, plan.seconds, plan.scratch)


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    loads = [each for each in outcomes if isinstance(each, Load)]
    return median(loads) if loads else outcomes[0]
