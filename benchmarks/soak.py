"""Whether `surprisal serve` keeps its memory and its temper: a long mixed soak, then more than it can do.

    python benchmarks/soak.py [--seconds 600] [--workers 2]

The soak mixes every format that is served, sizes from one to thousands of records, and now and then a body that is no
JSON; memory is read at rest, after a first burst, at times in between and at the end. The overload comes in two parts:
wrk with 512 connections of single records for a minute (does anything time out or break?), and 512 connections of
batches, more than the queues hold, to see how soon those beyond it are told so (429): once with clients that wait the
second that Retry-After asks for, once with clients that do not.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serving import client, servers
from benchmarks.serving.client import NO_CONNECTION, TIMED_OUT, Answer, Client, on_the_wire
from benchmarks.serving.formats import FORMATS, JSON, Request, json_arrays
from benchmarks.serving.heading import heading
from benchmarks.serving.load import Load, closed_loop, require_wrk
from benchmarks.serving.model import prepared, simulate
from benchmarks.serving.report import MEBIBYTE, show, titled
from benchmarks.serving.servers import HOST, Server, free_port
from service.engine import cpus

SIZES = {1: 70, 8: 15, 64: 10, 512: 4, 4096: 1}  # records in a request, and how often of a hundred
BROKEN = "no JSON"
BROKEN_SHARE = 0.02
SOAK_CONNECTIONS = 16
OVERLOAD_CONNECTIONS = 512
REST_SECONDS = 3.0  # until what a load has left behind is gone
READINGS = 10  # of memory, over the soak
NAMES = {NO_CONNECTION: "connection failed", TIMED_OUT: "no answer in time"}


@dataclass(frozen=True)
class Kind:
    """One request of the mixture.

    Args:
        name: Of its format.
        content: Its bytes on the wire.
        records: How many it holds.
        weight: How often it is sent, beside the others.
        expected: Status of the right answer.
    """

    name: str
    content: bytes
    records: int
    weight: float
    expected: int = 200


@dataclass
class Soak:
    """What became of the mixture.

    Args:
        memory: Seconds since the start, and bytes.
        statuses: How many answers, by kind and status.
        records: Scored.
    """

    memory: list[tuple[float, int]]
    statuses: Counter[tuple[str, int]]
    records: int = 0


def mixture(server: Server) -> list[Kind]:
    """Every format that the server knows, in every size, and a body that is none."""
    kinds = []
    for name, make in FORMATS.items():
        if server.ask(make(simulate(1, seed=3)))[0] != 200:
            continue
        for size, weight in SIZES.items():
            kinds.append(Kind(name, on_the_wire(make(simulate(size, seed=4)), HOST), size, weight))
    broken = Request("/score", {"Content-Type": JSON}, b'{"records": [', 0)
    share = BROKEN_SHARE * sum(kind.weight for kind in kinds)
    return [*kinds, Kind(BROKEN, on_the_wire(broken, HOST), 0, share, expected=400)]


async def soak(server: Server, kinds: Sequence[Kind], burst: float, seconds: float) -> Soak:
    """Send the mixture, and read the memory after the burst, at intervals and at the end."""
    seen = Soak([(0.0, server.memory())], Counter())
    asker, started = Client(HOST, server.port), time.perf_counter()
    weights = [kind.weight for kind in kinds]

    async def ask(number: int) -> None:
        order = random.Random(number)
        while time.perf_counter() - started < seconds:
            (kind,) = order.choices(kinds, weights)
            answer = await asker.ask(kind.content)
            seen.statuses[kind.name, answer.status] += 1
            if answer.status == 200:
                seen.records += kind.records

    async def read() -> None:
        step = (seconds - burst) / READINGS
        for moment in [burst + step * turn for turn in range(READINGS + 1)]:
            await asyncio.sleep(moment - (time.perf_counter() - started))
            seen.memory.append((time.perf_counter() - started, server.memory()))

    await asyncio.gather(read(), *(ask(number) for number in range(SOAK_CONNECTIONS)))
    asker.close()
    return seen


async def beyond_the_queue(port: int, records: int, seconds: float, pause: float) -> list[Answer]:
    """Batches on 512 connections; a client that is refused waits before it asks again."""
    content = on_the_wire(json_arrays(simulate(records, seed=5)), HOST)
    asker, ends = Client(HOST, port), time.perf_counter() + seconds
    answers: list[Answer] = []

    async def ask() -> None:
        while time.perf_counter() < ends:
            answer = await asker.ask(content)
            answers.append(answer)
            if answer.status != 200:
                await asyncio.sleep(pause)

    await asyncio.gather(*(ask() for _ in range(OVERLOAD_CONNECTIONS)))
    asker.close()
    return answers


def memory_table(seen: Soak) -> Table:
    """Memory by time, against that after the first burst."""
    shown = Table(
        "after", "memory MiB", "growth since the burst", title="Memory of all processes", title_justify="left"
    )
    settled = seen.memory[1][1]
    for number, (moment, size) in enumerate(seen.memory):
        grown = "" if number < 2 else f"{size / settled - 1:+.1%}"
        shown.add_row("at rest" if not number else f"{moment:,.0f} s", f"{size / MEBIBYTE:,.1f}", grown)
    return shown


def statuses_table(seen: Soak, kinds: Sequence[Kind]) -> Table:
    """Answers by format: right ones, and every other by its status."""
    shown = titled("Answers (expected status)", "format", "right", "wrong")
    for name, expected in {kind.name: kind.expected for kind in kinds}.items():
        counts = {status: count for (each, status), count in sorted(seen.statuses.items()) if each == name}
        right = counts.pop(expected, 0)
        wrong = ", ".join(f"{NAMES.get(status, status)}: {count:,}" for status, count in counts.items())
        shown.add_row(f"{name} ({expected})", f"{right:,}", wrong or "none")
    return shown


def singles_table(load: Load, seconds: float) -> Table:
    """The first part of the overload."""
    title = f"{OVERLOAD_CONNECTIONS} connections, one JSON record a request, closed loop by wrk, {seconds:.0f} s"
    columns = ("p50 ms", "p99 ms", "p99.9 ms", "refused", "timed out", "broken connections")
    shown = titled(title, "requests/s", *columns)
    times = (f"{each:,.1f}" for each in (load.p50, load.p99, load.p999))
    shown.add_row(
        f"{load.requests_per_second:,.0f}", *times, f"{load.refused:.2%}", f"{load.late:.0f}", f"{load.broken:.0f}"
    )
    return shown


def refusals_table(answers: Sequence[Answer], title: str) -> Table:
    """The second part: how long each kind of answer took."""
    shown = titled(title, "answer", "count", "median ms", "p99 ms")
    for status in sorted({answer.status for answer in answers}):
        times = [answer.seconds * 1e3 for answer in answers if answer.status == status]
        median, p99 = np.percentile(times, (50, 99))
        shown.add_row(NAMES.get(status, str(status)), f"{len(times):,}", f"{median:,.1f}", f"{p99:,.1f}")
    return shown


def say_memory(console: Console, server: Server, seen: Soak) -> None:
    """Memory once a load is over, against that after the soak."""
    time.sleep(REST_SECONDS)
    size, before = server.memory(), seen.memory[-1][1]
    console.print(f"memory afterwards: {size / MEBIBYTE:,.1f} MiB ({size / before - 1:+.1%})")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the soak, its burst included (default 600)")
    parser.add_argument("--burst", type=float, default=30.0, help="of which memory may still settle (default 30)")
    parser.add_argument("--overload-seconds", type=float, default=60.0, help="of each overload (default 60)")
    parser.add_argument("--records", type=int, default=256, help="a request, beyond the queue (default 256)")
    parser.add_argument("--workers", type=int, default=cpus.available(), help="of the product (default: the cores)")
    parser.add_argument("--models", type=Path, help="folder of the model from an earlier run; else it is trained now")
    parser.add_argument("--port", type=int, default=8400)
    arguments = parser.parse_args()
    if arguments.burst >= arguments.seconds:
        parser.error("--burst must be shorter than --seconds")
    require_wrk()
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(heading(), soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        models = prepared(arguments.models, scratch / "models")
        with Server(servers.surprisal(models, arguments.workers), free_port(arguments.port), scratch) as server:
            kinds = mixture(server)
            with console.status("soaking"):
                seen = client.run(soak(server, kinds, arguments.burst, arguments.seconds))
            rate = seen.records / arguments.seconds
            console.print(f"\n{SOAK_CONNECTIONS} connections, {arguments.seconds:.0f} s, {rate:,.0f} records/s")
            show(console, memory_table(seen), statuses_table(seen, kinds))
            seconds = arguments.overload_seconds
            with console.status("overload"):
                one = json_arrays(simulate(1, seed=5))
                load = closed_loop(server.address, one, OVERLOAD_CONNECTIONS, seconds, scratch)
            show(console, singles_table(load, seconds))
            say_memory(console, server, seen)
            for pause, called in ((1.0, "clients wait a second when refused"), (0.0, "clients ask again at once")):
                with console.status(called):
                    flood = beyond_the_queue(server.port, arguments.records, seconds, pause)
                    answers = client.run(flood)
                title = f"{OVERLOAD_CONNECTIONS} connections, {arguments.records} records a request: {called}"
                show(console, refusals_table(answers, title))
                say_memory(console, server, seen)


if __name__ == "__main__":
    main()
