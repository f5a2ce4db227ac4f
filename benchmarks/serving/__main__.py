"""How fast `surprisal serve` is, beside what its machine can do and what other servers do, in one run.

    python -m benchmarks.serving [--workers 2] [--seconds 5] [--peers FOLDER]

First the limits without HTTP: ONNX Runtime alone on every core, and the product's own decode, score and encode in a
process on every core. Then the product in every format and size, single records at three concurrencies, and beside it
a bare ASGI endpoint and a FastAPI app written by hand around the same graph; with --peers also MLServer, LitServe and
BentoML, where FOLDER/mlserver, FOLDER/litserve and FOLDER/bentoml are virtual environments.

wrk (installed apart) makes the load, on the same cores: a closed loop, in which every connection waits for its answer
before it asks again. An asyncio client makes the open one: requests arrive by a clock, whatever the server does. wrk
sends the same bytes each time and counts statuses of 400 and more as refused; its latencies are those of all answers.
With the defaults the whole takes about a quarter of an hour, because few connections meet several workers by chance,
and what does so is the median of five fresh starts.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

from rich.console import Console

from benchmarks.serving import client, limits, peers, report, servers, visit
from benchmarks.serving.client import Answer, Client
from benchmarks.serving.formats import json_arrays
from benchmarks.serving.heading import heading
from benchmarks.serving.load import require_wrk
from benchmarks.serving.model import prepared, simulate
from benchmarks.serving.servers import HOST, Launch, NotStarted
from benchmarks.serving.visit import Plan
from service.engine import cpus


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, help="folder of the model from an earlier run; else it is trained now")
    parser.add_argument("--workers", type=int, default=cpus.available(), help="of the product (default: the cores)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default 5)")
    parser.add_argument("--repeats", type=int, default=1, help="fresh starts, of which medians are shown (default 1)")
    parser.add_argument(
        "--few-repeats", type=int, default=5, help="the same where several workers meet few connections (default 5)"
    )
    parser.add_argument(
        "--rates", type=float, nargs="*", default=[500, 2000, 5000], help="arrivals a second of the open loop"
    )
    parser.add_argument("--peers", type=Path, help="folder of the other servers' virtual environments")
    parser.add_argument("--port", type=int, default=8300, help="the first of some ports (default 8300)")
    return parser.parse_args()


def open_loop(launch: Launch, rates: list[float], plan: Plan) -> dict[float, list[Answer]]:
    """Answers by arrival rate, from one start."""
    request = json_arrays(simulate(1, seed=5))

    async def arrive(port: int, rate: float) -> list[Answer]:
        asker = Client(HOST, port)
        try:
            await client.open_loop(asker, request, HOST, rate, visit.WARM_UP_SECONDS)
            return await client.open_loop(asker, request, HOST, rate, plan.seconds)
        finally:
            asker.close()

    with plan.server(launch) as server:
        return {rate: client.run(arrive(server.port, rate), precise=True) for rate in rates}


def others(arguments: argparse.Namespace, models: Path, scratch: Path) -> Iterator[tuple[int, Launch]]:
    """Number of workers and launch of each server to compare with, but for the bare endpoint."""
    for workers in sorted({1, 2, arguments.workers}):
        yield workers, peers.by_hand(models, workers)
    if arguments.peers:
        yield from peers.installed(arguments.peers, models, scratch)


def main() -> None:
    """Print the tables."""
    arguments = parse()
    require_wrk()
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    console.print(heading(), soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        plan = Plan(arguments.seconds, arguments.repeats, arguments.few_repeats, arguments.port, scratch)
        with console.status("training the model"):
            models = prepared(arguments.models, scratch / "models")
        with console.status("measuring the limits"):
            bounds = limits.measure(models, arguments.seconds)
        report.show(console, report.limits_table(bounds, "of this run"))

        many = arguments.workers
        ours, bare = servers.surprisal(models, many), servers.bare(models, many)
        with console.status(ours.name):
            visits = {ours.name: visit.repeated(ours, many, [*visit.by_format(), *visit.single()], plan)}
        report.show(console, report.formats_table(ours.name, visits[ours.name], bounds))
        for failure in report.failures(visits[ours.name]):
            console.print(failure, markup=False)
        if arguments.rates:
            with console.status(f"{ours.name}, open loop"):
                answers = open_loop(ours, arguments.rates, plan)
            report.show(console, report.arrivals_table(ours.name, answers, arguments.seconds))

        with console.status(bare.name):
            visits[bare.name] = visit.repeated(bare, many, visit.single(), plan)
        for workers, launch in others(arguments, models, scratch):
            with console.status(launch.name):
                try:
                    visits[launch.name] = visit.repeated(launch, workers, visit.single(launch.make), plan)
                except NotStarted as error:
                    console.print(f"left out: {error}", markup=False)
        if arguments.peers:
            for line in peers.how_to_install(arguments.peers):
                console.print(f"left out; to have it: {line}", markup=False, soft_wrap=True)
        report.show(console, report.singles_table(visits, bare.name), report.servers_table(visits, bounds))
        with console.status("measuring the limits again"):
            again = limits.measure(models, arguments.seconds)
        report.show(console, report.limits_table(again, "again, at its end: far apart where the machine was not quiet"))


if __name__ == "__main__":
    main()
