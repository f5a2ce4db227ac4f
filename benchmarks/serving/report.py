"""The tables."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serving.client import Answer
from benchmarks.serving.limits import Limits
from benchmarks.serving.load import Load
from benchmarks.serving.visit import BATCH, CONNECTIONS, SINGLE_CONNECTIONS, SIZES, Outcome, Visit

MEBIBYTE = 2**20


def limits_table(limits: Limits, when: str) -> Table:
    """What the machine can do in process, at some time of the run."""
    table = titled(f"In process, no HTTP: the limits {when}", "limit", "records/s")
    table.add_row(f"ONNX Runtime alone, {limits.cores} threads, batches of {BATCH}", f"{limits.graph:,.0f}")
    table.add_row(f"JSON in, score, JSON out, {limits.cores} processes at once", f"{limits.json:,.0f}")
    return table


def formats_table(name: str, visit: Visit, limits: Limits) -> Table:
    """Records a second by format and size, each with its share of the limit."""
    title = f"{name}: records/s at {CONNECTIONS} connections (share of the limit)"
    table = titled(title, "format", *(f"{size:,} a request" for size in SIZES), "limit")
    cases = {(case.format, case.records): case for case in visit.outcomes if case.connections == CONNECTIONS}
    for format_name in dict.fromkeys(case.format for case in visit.outcomes):
        limit, called = (limits.json, "JSON") if format_name.startswith("JSON") else (limits.graph, "ORT")
        cells = [_rate_cell(visit.outcomes[cases[format_name, size]], limit) for size in SIZES]
        table.add_row(format_name, *cells, called)
    return table


def failures(visit: Visit) -> list[str]:
    """What was answered with neither a score nor "no such format", in a sentence each."""
    return [
        f"{case.format}, {case.records} records: {outcome}"
        for case, outcome in visit.outcomes.items()
        if isinstance(outcome, str) and outcome != "not served"
    ]


def singles_table(visits: Mapping[str, Visit], bare: str) -> Table:
    """One record a request, server by server.

    Args:
        visits: By server's name.
        bare: The server whose rates the others are divided by.
    """
    table = titled(
        "JSON, one record a request", "server", "connections", "requests/s", "share of bare",
        "p50 ms", "p99 ms", "p99.9 ms", "refused", "failed",
    )  # fmt: skip
    for name, visit in visits.items():
        for connections in SINGLE_CONNECTIONS:
            outcome = _find(visit, 1, connections)
            if isinstance(outcome, str):
                table.add_row(name, str(connections), outcome)
                continue
            base = _find(visits[bare], 1, connections)
            share = f"{outcome.requests_per_second / base.requests_per_second:.2f}" if isinstance(base, Load) else ""
            table.add_row(
                name if connections == SINGLE_CONNECTIONS[0] else "",
                str(connections),
                f"{outcome.requests_per_second:,.0f}",
                share,
                *(f"{each:.2f}" for each in (outcome.p50, outcome.p99, outcome.p999)),
                f"{outcome.refused:.1%}",
                f"{outcome.failed:.0f}",
            )
        table.add_section()
    return table


def servers_table(visits: Mapping[str, Visit], limits: Limits) -> Table:
    """Batches over JSON, start-up and memory, server by server."""
    batch = f"records/s, {BATCH} a request, {CONNECTIONS} connections"
    table = titled(
        "JSON batches, start-up and memory", "server", batch, "share of JSON limit",
        "first answer s", "at rest MiB", "after MiB",
    )  # fmt: skip
    for name, visit in visits.items():
        outcome = _find(visit, BATCH, CONNECTIONS)
        rate = outcome.records_per_second if isinstance(outcome, Load) else 0.0
        table.add_row(
            name,
            f"{rate:,.0f}" if isinstance(outcome, Load) else outcome,
            f"{rate / limits.json:.2f}",
            f"{visit.start_seconds:.2f}",
            f"{visit.rest / MEBIBYTE:.0f}",
            f"{visit.after / MEBIBYTE:.0f}",
        )
    return table


def arrivals_table(name: str, measured: Mapping[float, Sequence[Answer]], seconds: float) -> Table:
    """Requests that arrived by a clock."""
    table = titled(
        f"{name}: open loop, one JSON record a request, random arrivals", "due requests/s", "answered/s",
        "p50 ms", "p99 ms", "p99.9 ms", "refused", "failed", "client late p50 / p99 ms",
    )  # fmt: skip
    for rate, answers in measured.items():
        good = sum(answer.status == 200 for answer in answers)
        refused = sum(answer.status >= 400 for answer in answers)
        times, late = ([getattr(answer, each) * 1e3 for answer in answers] for each in ("seconds", "late"))
        table.add_row(
            f"{rate:,.0f}",
            f"{good / seconds:,.0f}",
            *(f"{each:.2f}" for each in np.percentile(times, (50, 99, 99.9))),
            f"{refused / len(answers):.1%}",
            str(len(answers) - good - refused),
            " / ".join(f"{each:.2f}" for each in np.percentile(late, (50, 99))),
        )
    return table


def titled(title: str, first: str, *others: str) -> Table:
    """A table whose first column names what the others measure."""
    table = Table(title=title)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def show(console: Console, *tables: Table) -> None:
    """Print each below its title, which rich would break at the table's own width."""
    for table in tables:
        title, table.title = table.title, None
        console.print(f"\n[bold]{title}[/]", soft_wrap=True)
        console.print(table)


def _rate_cell(outcome: Outcome, limit: float) -> str:
    if isinstance(outcome, str):
        return outcome.split(":")[0]
    refused = f", {outcome.refused:.0%} refused" if outcome.refused else ""
    failed = f", {outcome.failed:.0f} failed" if outcome.failed else ""
    return f"{outcome.records_per_second:,.0f} ({outcome.records_per_second / limit:.2f}{refused}{failed})"


def _find(visit: Visit, records: int, connections: int) -> Outcome:
    wanted = ("JSON arrays", records, connections)
    return next(
        outcome for case, outcome in visit.outcomes.items() if (case.format, case.records, case.connections) == wanted
    )
