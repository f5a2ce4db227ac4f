"""Attack a service of one's own, and say what each attack did to its memory, its health checks and its end.

    python -m benchmarks.attack MODELS [NAME…] [--budget MIB]

MODELS holds the model `transactions` that `surprisal demo` trains and, for the image files, any model of images. A
case runs where its name holds one of the NAMEs; all run without one, which takes an hour or two. Each has a fresh
server on a copy of the models, which is ended by force above 3 600 MiB. Peaks are of the largest process over its
memory at rest. The cases of `victims` measure other clients, alone and beside an attacker; their figures stand in the
place of statuses.
"""

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])

from rich.console import Console

from benchmarks.attack import (
    arrow,
    bodies,
    bundles,
    connections,
    images,
    metrics_folder,
    processes,
    refused,
    report,
    starving,
)
from benchmarks.attack.case import Case
from benchmarks.serving.heading import heading

CASES: tuple[Case, ...] = (
    *bodies.CASES,
    *arrow.CASES,
    *images.CASES,
    *refused.CASES,
    *connections.CASES,
    *starving.CASES,
    *bundles.CASES,
    *processes.CASES,
    *metrics_folder.CASES,
)


def main() -> None:
    """Print the table, a line a case."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.attack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, help="folder of the bundles")
    parser.add_argument("names", nargs="*", help="parts of names of cases; all by default")
    parser.add_argument("--budget", type=int, help="MiB that requests may hold in a worker")
    arguments = parser.parse_args()
    wanted = [case for case in CASES if not arguments.names or any(name in case.name for name in arguments.names)]
    if not wanted:
        parser.error("no case has such a name")
    console = Console(width=None if sys.stdout.isatty() else 240, highlight=False)
    console.print(heading(), soft_wrap=True)
    console.print("case | status | seconds | peak MiB | health p99 ms | max ms | failed | alive | exit code at SIGTERM")
    for row in report.every(wanted, arguments.models, arguments.budget):
        said = (row.name, "no model of this kind") if isinstance(row, Case) else report.cells(row)
        console.print(" | ".join(said), soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
