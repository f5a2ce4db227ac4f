"""Whether `/metrics` says what clients saw, though a worker is killed, and what reading it costs under load.

    python benchmarks/counts.py [--requests 100000] [--workers 2]

Twice so many requests are sent and counted here, and compared with the counters of all workers. After the first half a
worker is killed by force (SIGKILL): the first time between two requests, when all is quiet, the second time under load,
when it takes along what it has counted since it last shared its counts. Then wrk measures the throughput, by turns
while nobody reads `/metrics` and while it is read as often as Prometheus does in a hurry, once a second.
"""

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from benchmarks.serving import client, servers
from benchmarks.serving.client import Client, on_the_wire
from benchmarks.serving.formats import Request, json_arrays
from benchmarks.serving.heading import heading
from benchmarks.serving.load import closed_loop, require_wrk
from benchmarks.serving.model import prepared, simulate
from benchmarks.serving.report import show, titled
from benchmarks.serving.servers import HOST, Server, free_port
from service.engine import cpus
from service.telemetry.metrics import FLUSH_SECONDS

CONNECTIONS = 16
SIZES = (1, 1, 1, 4, 16)  # records in a request, chosen at random
KILL_AFTER_SECONDS = 0.4  # into the second half, when that is under load
FIELD = "surprisal_field_bin_total"
Seen = Counter[tuple[str, str]]


def metrics(server: Server) -> str:
    """What `/metrics` says."""
    with urllib.request.urlopen(f"{server.address}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def exposed(server: Server) -> Seen:
    """What `/metrics` says of scoring, by what is counted."""
    seen: Seen = Counter()
    for family in text_string_to_metric_families(metrics(server)):
        for sample in family.samples:
            if sample.name == "surprisal_http_requests_total" and sample.labels["route"] == "/score":
                seen["requests", sample.labels["status"]] += int(sample.value)
            elif sample.name == "surprisal_http_request_duration_seconds_count" and sample.labels["route"] == "/score":
                seen["requests timed", ""] += int(sample.value)
            elif sample.name == "surprisal_records_total":
                seen["records", ""] += int(sample.value)
            elif sample.name == "surprisal_p_value_count":
                seen["p-values", ""] += int(sample.value)
            elif sample.name == FIELD:
                seen["records by bin", sample.labels["field"]] += int(sample.value)
    return seen


async def count(server: Server, requests: int, kill_under_load: bool) -> Seen:
    """Send requests, kill a worker after half of them; what a client sees."""
    asker, seen, order = Client(HOST, server.port), Counter[tuple[str, str]](), random.Random(1)
    contents = {size: on_the_wire(json_arrays(simulate(size, seed=size)), HOST) for size in set(SIZES)}
    broken = on_the_wire(Request("/score", {"Content-Type": "application/json"}, b'{"records": [', 0), HOST)
    victim = server.workers()[0]

    async def half(left: list[int]) -> None:
        while left:
            left.pop()
            size = order.choice(SIZES)
            wrong = order.random() < 0.01
            answer = await asker.ask(broken if wrong else contents[size])
            seen["requests", str(answer.status)] += 1
            seen["records", ""] += size * (answer.status == 200)

    async def kill_soon() -> None:
        await asyncio.sleep(KILL_AFTER_SECONDS)
        os.kill(victim, signal.SIGKILL)

    for part in range(2):
        if part and not kill_under_load:
            await asyncio.sleep(2 * FLUSH_SECONDS)
            os.kill(victim, signal.SIGKILL)
            await asyncio.sleep(2 * FLUSH_SECONDS)  # its connections are seen to be closed, and it is replaced
        left = [0] * (requests // 2)
        killing = [kill_soon()] if part and kill_under_load else []
        await asyncio.gather(*killing, *(half(left) for _ in range(CONNECTIONS)))
    asker.close()
    await asyncio.sleep(2 * FLUSH_SECONDS)  # or another worker would not have shared its last counts
    return seen


def compare(console: Console, title: str, seen: Seen, said: Seen) -> None:
    """A row for each count, and how far the two are apart."""
    table = titled(title, "count", "client", "/metrics", "difference")
    records = seen["records", ""]
    answered = sum(number for (kind, status), number in seen.items() if kind == "requests" and int(status) > 0)
    expected = {key: number for key, number in seen.items() if key[0] == "requests"}
    expected |= {("requests timed", ""): answered, ("records", ""): records, ("p-values", ""): records}
    fields = [key for key in said if key[0] == "records by bin"]
    worst = max(fields, key=lambda key: abs(said[key] - records))
    expected |= {worst: records}
    for (kind, label), number in sorted(expected.items()):
        name = f"{kind} {label}".strip() if label not in ("0", "-1") else f"{kind} without an answer"
        told = said[kind, label]
        table.add_row(name, f"{number:,}", f"{told:,}", f"{told - number:+,}")
    show(console, table)


def cost_of_reading(server: Server, turns: int, seconds: float, scratch: Path) -> tuple[list[float], list[float]]:
    """Requests a second, by turns without and with somebody who reads `/metrics` every second."""
    one = json_arrays(simulate(1, seed=5))
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for read, rate in enumerate(rates):
            stop = threading.Event()

            def reader(stop: threading.Event = stop) -> None:
                while not stop.wait(1.0):
                    metrics(server)

            thread = threading.Thread(target=reader)
            if read:
                thread.start()
            rate.append(closed_loop(server.address, one, 64, seconds, scratch).requests_per_second)
            stop.set()
            if read:
                thread.join()
    return rates


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000, help="of each comparison (default 100,000)")
    parser.add_argument("--workers", type=int, default=max(2, cpus.available()), help="at least 2")
    parser.add_argument("--turns", type=int, default=7, help="of the cost of reading (default 7)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn (default 5)")
    parser.add_argument("--models", type=Path, help="folder of the model from an earlier run; else it is trained now")
    parser.add_argument("--port", type=int, default=8500)
    arguments = parser.parse_args()
    if arguments.workers < 2:
        parser.error("--workers must be 2 or more: one is killed")
    require_wrk()
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(heading(), soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        models = prepared(arguments.models, scratch / "models")
        for under_load in (False, True):
            with Server(servers.surprisal(models, arguments.workers), free_port(arguments.port), scratch) as server:
                before = exposed(server)
                started = time.perf_counter()
                seen = client.run(count(server, arguments.requests, under_load))
                said = exposed(server)
                said.subtract(before)
                when = "under load" if under_load else "between two requests"
                title = (
                    f"{arguments.requests:,} requests in {time.perf_counter() - started:.0f} s, a worker killed {when}"
                )
                compare(console, title, seen, said)
        with Server(servers.surprisal(models, arguments.workers), free_port(arguments.port), scratch) as server:
            without, with_reader = cost_of_reading(server, arguments.turns, arguments.seconds, scratch)
    ratios = [read / alone for read, alone in zip(with_reader, without, strict=True)]
    table = titled("64 connections, one record a request", "/metrics", "requests/s", "ratio, turn by turn")
    table.add_row("not read", f"{statistics.median(without):,.0f}", "1")
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    table.add_row(
        "read each second", f"{statistics.median(with_reader):,.0f}", f"{statistics.median(ratios):.3f} ({each})"
    )
    show(console, table)


if __name__ == "__main__":
    main()
