"""Does scoring a data set keep up with the graph, from a million rows to a cluster's?

    python benchmarks/scale.py FOLDER [--rows 1000000 5000000 20000000] [--turns 1]

FOLDER keeps the model and the simulated payments, Parquet files of 250 000 rows, for the next run; results are deleted.
Each turn takes, one after the other: ONNX Runtime alone, `surprisal score` on two processes, ONNX Runtime again, the
same command on a Ray cluster of two processors, ONNX Runtime again. Alone means two threads, tensors that are ready,
runs of the size that the product takes, nothing read and nothing written, for at most a million rows; its rate beside
the command is that of the two around it. A command's time is that from its start to its end. Where others use the
processors, the rows by second of processor time say more: they count every process, Ray's daemons too.

At the second size a run is killed (-9) in the middle and begun again. Requests to storage are counted on two files.
"""

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import pyarrow.parquet
from rich.console import Console

from benchmarks.data_sets.storage import KEYS_A_PAGE, requests
from benchmarks.data_sets.watch import Watch
from benchmarks.serving.heading import heading
from benchmarks.serving.model import in_fresh_process
from benchmarks.serving.report import MEBIBYTE, show, titled
from bundle.folder import store
from service.files.dataset.job import DONE

NAME = "payments"
FILE_ROWS, GROUP_ROWS = 250_000, 50_000
ALONE_ROWS = 1_000_000
TRAINED, EPOCHS = 24_000, 3
"""Its scores are worth little, its graph costs what a good one's does."""
PROCESSORS = 2
OBJECTS = 100 * 2**20
COUNTED = (1, 2)
"""Files whose requests are counted."""
PAPER_ROWS, PAPER_MACHINES = 10_000_000_000, 100


@dataclass(frozen=True)
class Pace:
    """How fast it went.

    Args:
        rows: How many.
        seconds: Of the clock.
        processor_seconds: Of all processes.
        peak: Most bytes of resident memory in one that scores.
    """

    rows: int
    seconds: float
    processor_seconds: float
    peak: int = 0

    @property
    def rate(self) -> float:
        """Rows by second of the clock."""
        return self.rows / self.seconds

    @property
    def by_processor(self) -> float:
        """Rows by second of processor time."""
        return self.rows / self.processor_seconds


def train(models: Path, rows: int, epochs: int) -> None:
    """Train the model, unless it is there."""
    from training import config, pipeline
    from training.data import transactions
    from training.data.read import of_table

    if (models / NAME).is_dir():
        return
    settings = config.build(
        {"data": {"label": transactions.LABEL, "normal": transactions.NORMAL}, "fit": {"epochs": epochs}}
    )
    data = of_table("payments.parquet", "0" * 64, transactions.simulate(rows, seed=7), None)
    pipeline.train(data, models, NAME, settings, device="cpu")


def write(folder: Path, rows: int, in_a_file: int) -> Path:
    """Write simulated payments, unless they are there: a file for each seed."""
    from training.data import transactions

    made = folder / f"rows-{rows}"
    if not made.exists():
        beside = folder / f"rows-{rows}.writing"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for number, first in enumerate(range(0, rows, in_a_file)):
            table = transactions.simulate(min(in_a_file, rows - first), seed=number).drop_columns([transactions.LABEL])
            pyarrow.parquet.write_table(table, beside / f"part-{number:04d}.parquet", row_group_size=GROUP_ROWS)
        beside.rename(made)
    return made


def alone(models: Path, source: Path, rows: int) -> Pace:
    """The product's scorer on the first rows of a data set, as tensors in memory, two runs side by side."""
    os.environ["SURPRISAL_THREADS"] = str(PROCESSORS)
    from reading.opening import opened_part
    from reading.options import Options
    from reading.parts import Part
    from service.files.piece import blocks, rows_of
    from service.files.scoring import Scoring
    from service.files.table import TableRecords

    scoring = Scoring(models / NAME)
    question = scoring.question({})
    scorer, _ = scoring.open(question)
    ready, count = [], 0
    for path in sorted(source.glob("*.parquet")):
        opened = opened_part(Part(path, "parquet"), Options(), False)
        file = TableRecords(opened, scoring.schema, Options(), False, True)
        for piece in blocks(file.pieces(), rows_of(scoring.schema)):
            if count < rows:
                ready.append(piece.tensors)
                count += piece.table.num_rows
    rows_a_run = scorer.rows_a_run(question.samples)
    scorer.run(ready[0], question.samples, rows_a_run=rows_a_run)
    began, used = time.perf_counter(), time.process_time()
    for tensors in ready:
        scorer.run(tensors, question.samples, rows_a_run=rows_a_run)
    return Pace(count, time.perf_counter() - began, time.process_time() - used)


def command(models: Path, source: Path, out: Path, *more: str) -> list[str]:
    """`surprisal score`, a data set on two processes."""
    called = [sys.executable, "-m", "surprisal", "score", str(models / NAME), str(source), f"{out}/", "--quiet"]
    return [*called, "--workers", str(PROCESSORS), *more]


def scored(called: list[str], rows: int, worker: str, beside: list[int] | None = None) -> Pace:
    """Run a command and watch it.

    Args:
        called: The command.
        rows: How many it scores.
        worker: Stands in the command line of the processes that score.
        beside: Processes that were there before and work for it.

    Raises:
        SystemExit: It failed.
    """
    began = time.perf_counter()
    with subprocess.Popen(called, stderr=subprocess.PIPE) as process, Watch([process.pid, *(beside or [])]) as watch:
        _, said = process.communicate()
        seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(said.decode())
    return Pace(rows, seconds, watch.processor_seconds, watch.peak(worker))


def local(models: Path, source: Path, out: Path, rows: int) -> Pace:
    """The command on processes of this machine."""
    return scored(command(models, source, out), rows, "multiprocessing.spawn")


def on_ray(models: Path, source: Path, out: Path, rows: int) -> Pace:
    """The command on a cluster of one machine, which is there already."""
    with _cluster() as (address, processes):
        called = command(models, source, out, "--engine", "ray", "--address", address)
        return scored(called, rows, "ray::Actor", processes)


@contextlib.contextmanager
def _cluster() -> Iterator[tuple[str, list[int]]]:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    from ray.cluster_utils import Cluster

    # Ray's sockets have paths of at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        machine = {"num_cpus": PROCESSORS, "object_store_memory": OBJECTS, "include_dashboard": False}
        # Ray notes its address there wherever its other files are.
        Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
        cluster = Cluster(initialize_head=True, head_node_args=machine | {"temp_dir": folder})
        processes = [each.process.pid for kind in cluster.head_node.all_processes.values() for each in kind]
        try:
            yield cluster.address, processes
        finally:
            cluster.shutdown()


def killed(models: Path, source: Path, out: Path, undisturbed: float) -> str:
    """Kill a run in the middle, run it again, and say what that took.

    Args:
        models: The models folder.
        source: IN.
        out: OUT.
        undisturbed: Seconds that a whole run takes.
    """
    shards = len([*source.glob("*.parquet")])
    with subprocess.Popen(command(models, source, out), stderr=subprocess.DEVNULL) as process:
        while _done(out) < shards / 2 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    left, began = 1 - _done(out) / shards, time.perf_counter()
    subprocess.run(command(models, source, out), check=True, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    if not left:
        return "it was done before it could be killed"
    return (
        f"killed with {left:.0%} of the shards left: done {seconds:.1f} s later; that share of an undisturbed run is "
        f"{left * undisturbed:.1f} s"
    )


def _done(out: Path) -> int:
    return len([*out.joinpath(DONE).glob("*.json")])


@dataclass(frozen=True)
class Turn:
    """Each once, ONNX Runtime alone before, between and after.

    Args:
        before: ONNX Runtime alone.
        local: On two processes.
        between: ONNX Runtime alone.
        ray: On a cluster.
        after: ONNX Runtime alone.
    """

    before: Pace
    local: Pace
    between: Pace
    ray: Pace
    after: Pace

    @property
    def alone(self) -> Pace:
        """All of ONNX Runtime alone."""
        return together(self.before, self.between, self.after)

    @property
    def beside_local(self) -> Pace:
        """ONNX Runtime alone, next to the run on two processes."""
        return together(self.before, self.between)


def together(*paces: Pace) -> Pace:
    """Several as one."""
    sums = [sum(getattr(each, name) for each in paces) for name in ("rows", "seconds", "processor_seconds")]
    return Pace(*sums)


def turn(models: Path, source: Path, scratch: Path, rows: int) -> Turn:
    """Measure each once; what the commands write is deleted."""
    found = [in_fresh_process(alone, models, source, min(rows, ALONE_ROWS))]
    for run in (local, on_ray):
        found.append(run(models, source, scratch, rows))
        shutil.rmtree(scratch)
        found.append(in_fresh_process(alone, models, source, min(rows, ALONE_ROWS)))
    return Turn(*found)


def paper(ray: Pace, bundle: Path, source: Path, scratch: Path) -> Iterator[str]:
    """Ten thousand million rows on a hundred such machines, from what was measured."""
    few, more = COUNTED
    asked = {files: in_fresh_process(requests, bundle, source, scratch / f"of-{files}", files) for files in COUNTED}
    by_shard = {name: (asked[more][name] - asked[few][name]) / (more - few) for name in sorted(asked[more])}
    by_run = {name: asked[few][name] - few * count for name, count in by_shard.items()}
    yield f"requests to storage: {_counted(by_shard)} a shard; {_counted(by_run)} a run"
    hours, shards = PAPER_ROWS / (ray.rate * PAPER_MACHINES) / 3600, PAPER_ROWS // FILE_ROWS
    total = {name: by_run[name] + count * shards for name, count in by_shard.items()}
    total["list"] += shards / KEYS_A_PAGE  # the pages of IN
    yield (
        f"on paper, {PAPER_ROWS:,} rows in {shards:,} files on {PAPER_MACHINES} machines of {PROCESSORS} processors: "
        f"{hours:.2f} hours; {_counted(total)}, {sum(total.values()) / hours / 3600:,.0f} requests a second"
    )


def _counted(requests: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:,.0f}" for name, count in requests.items() if count)


def report(console: Console, rows: int, turns: list[Turn]) -> None:
    """A table of one size."""
    shown = titled(
        f"{rows:,} rows, median of {len(turns)}", "", "rows/s", "ratio", "rows by processor s", "ratio", "peak MiB"
    )
    of = statistics.median
    bare, bare_by = of(each.alone.rate for each in turns), of(each.alone.by_processor for each in turns)
    shown.add_row("ONNX Runtime alone", f"{bare:,.0f}", "", f"{bare_by:,.0f}", "", "")
    for name, paces, against in (
        ("local, of ONNX Runtime alone", [each.local for each in turns], [each.beside_local for each in turns]),
        ("Ray, of local", [each.ray for each in turns], [each.local for each in turns]),
    ):
        pairs = list(zip(paces, against, strict=True))
        shown.add_row(
            name,
            f"{of(pace.rate for pace in paces):,.0f}",
            f"{of(pace.rate / other.rate for pace, other in pairs):.2f}",
            f"{of(pace.by_processor for pace in paces):,.0f}",
            f"{of(pace.by_processor / other.by_processor for pace, other in pairs):.2f}",
            f"{max(pace.peak for pace in paces) / MEBIBYTE:,.0f}",
        )
    show(console, shown)


def main() -> None:
    """A table for each size, and what follows from them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 5_000_000, 20_000_000])
    parser.add_argument("--turns", type=int, default=1)
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(heading(), soft_wrap=True)
    models, scratch = arguments.folder / "models", arguments.folder / "scored"
    shutil.rmtree(scratch, ignore_errors=True)
    in_fresh_process(train, models, TRAINED, EPOCHS)
    for rows in arguments.rows:
        source = in_fresh_process(write, arguments.folder, rows, FILE_ROWS)
        turns = [turn(models, source, scratch, rows) for _ in range(arguments.turns)]
        report(console, rows, turns)
        if rows == arguments.rows[min(1, len(arguments.rows) - 1)]:
            console.print(
                killed(models, source, scratch / "killed", statistics.median(each.local.seconds for each in turns))
            )
    bundle = models / NAME / str(store.served_version(models, NAME))
    for line in paper(turns[-1].ray, bundle, source, scratch):
        console.print(line)
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
