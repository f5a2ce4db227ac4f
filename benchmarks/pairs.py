"""Whether one source tree answers as many requests as another: alternating pairs, and the median of their ratios.

    python benchmarks/pairs.py OLD_TREE NEW_TREE MODELS [--pairs 9]

A tree is a checkout of this project; both run by this interpreter, with two workers, on the same bundles. wrk
(installed apart) keeps 64 connections busy with one JSON record a request, a golden one of the bundle. The trees take
turns, and each is the first of every other pair, so that a machine that slows down slows both.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import orjson
from rich.console import Console

from benchmarks.serving import servers
from benchmarks.serving.formats import JSON, Request
from benchmarks.serving.heading import heading
from benchmarks.serving.load import closed_loop, require_wrk
from benchmarks.serving.servers import Launch, Server, free_port
from bundle.folder import store

PAIRS = 9
CONNECTIONS = 64
SECONDS = 4.0
WORKERS = 2
GOOD = 0.95
"""Least median of the ratios at which the newer tree counts as no slower."""


def single(models: Path) -> Request:
    """One golden record of the only model, or of the first, as a JSON request."""
    name = store.names(models)[0]
    folder = models / name / str(store.served_version(models, name))
    record = orjson.loads((folder / "golden.json").read_bytes())["cases"][0]["record"]
    return Request(f"/models/{name}/score", {"Content-Type": JSON}, orjson.dumps({"records": [record]}), 1)


def launch(tree: Path, models: Path) -> Launch:
    """How the service of a tree is started, and nothing of another's."""
    request = single(models)
    # The working folder is another tree; its code must not come first.
    paths = {"PYTHONPATH": str(tree.resolve()), "PYTHONSAFEPATH": "1"}
    product = servers.surprisal(models.resolve(), WORKERS)
    command = product.command
    if (tree / "cli").is_dir():  # before the command line moved into the package of its name
        command = tuple("cli.main" if part == "surprisal" else part for part in command)
    return replace(
        product, name=str(tree), command=command, make=lambda _: request, environment=product.environment | paths
    )


def source(launched: Launch) -> Path:
    """The tree whose code a launch runs."""
    command = [sys.executable, "-c", "import service; print(service.__file__)"]
    environment = os.environ | launched.environment
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return Path(shown.stdout.strip()).parents[1]


def rates(measure: Callable[[Path], float], old: Path, new: Path, pairs: int) -> Iterator[tuple[float, float]]:
    """Rates of both trees, pair by pair; each tree is the first of every other pair.

    Args:
        measure: From a tree to requests a second.
        old: The tree to compare with.
        new: The tree that is compared.
        pairs: How many.
    """
    for turn in range(pairs):
        order = (old, new) if turn % 2 == 0 else (new, old)
        of = {tree: measure(tree) for tree in order}
        yield of[old], of[new]


def ratio(measured: Sequence[tuple[float, float]]) -> float:
    """The median of new over old."""
    return statistics.median(new / old for old, new in measured)


def main() -> None:
    """Print each pair and the median; the exit code is 1 where that is too low."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="checkout to compare with")
    parser.add_argument("new", type=Path, help="checkout that is compared")
    parser.add_argument("models", type=Path, help="folder of the bundles")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"how many (default {PAIRS})")
    parser.add_argument("--port", type=int, default=8500)
    arguments = parser.parse_args()
    require_wrk()
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(heading(), soft_wrap=True)
    for tree in (arguments.old, arguments.new):
        if (found := source(launch(tree, arguments.models))) != tree.resolve():
            parser.error(f"{tree}: the code that runs is that of {found}")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)

        def measure(tree: Path) -> float:
            with Server(launch(tree, arguments.models), free_port(arguments.port), scratch) as server:
                load = closed_loop(server.address, single(arguments.models), CONNECTIONS, SECONDS, scratch)
            if load.refused or load.failed:
                raise SystemExit(f"{tree}: {load.refused:.1%} refused, {load.failed:.0f} without an answer")
            return load.requests_per_second

        measured = []
        for turn, pair in enumerate(rates(measure, arguments.old, arguments.new, arguments.pairs), 1):
            measured.append(pair)
            console.print(f"{turn}: {pair[0]:,.0f} and {pair[1]:,.0f} requests/s, {pair[1] / pair[0]:.3f}")
    console.print(f"median {ratio(measured):.3f} ({GOOD} or more is as fast)")
    raise SystemExit(ratio(measured) < GOOD)


if __name__ == "__main__":
    main()
