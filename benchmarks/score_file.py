"""What `surprisal score` costs beside ONNX Runtime alone on the same rows, in one run.

    python benchmarks/score_file.py [--rows 200000] [--repeats 3]

The command reads a Parquet file, scores it and writes another one; the graph alone gets the same rows as one tensor in
memory, by the product's scorer on as many threads. The two take turns; rates are medians. What the command needs to
start is measured by a file of one row.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
import pyarrow.parquet
from rich.console import Console

from benchmarks.serving.heading import heading
from benchmarks.serving.model import NAME, SAMPLES, in_fresh_process, prepared, simulate, table
from benchmarks.serving.report import MEBIBYTE, show, titled
from bundle.folder import store

ROOT = Path(__file__).parents[1]
WATCH_SECONDS = 0.02
WARM_UP_ROWS = 4096


@dataclass(frozen=True)
class Run:
    """One call of the command.

    Args:
        seconds: From its start to its end.
        peak: Most bytes of resident memory.
    """

    seconds: float
    peak: int


def score(models: Path, source: Path, target: Path) -> Run:
    """Call `surprisal score` and watch its memory.

    Raises:
        SystemExit: It failed.
    """
    command = [sys.executable, "-m", "surprisal", "score", str(models / NAME), str(source), str(target)]
    started, peak = time.perf_counter(), 0
    with subprocess.Popen([*command, "--samples", str(SAMPLES)], cwd=ROOT, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            # The kernel's own high-water mark; that of getrusage would count the parent's memory too.
            peak = max(peak, _high_water(process.pid))
            time.sleep(WATCH_SECONDS)
        seconds = time.perf_counter() - started
        if process.returncode:
            assert process.stderr is not None
            raise SystemExit(process.stderr.read().decode())
    return Run(seconds, peak)


def graph_alone(models: Path, source: Path) -> float:
    """Seconds of the product's scorer on the file's rows, read and in memory before."""
    from service.models.opening import open_scorer
    from service.settings import Settings

    scorer = open_scorer(store.load(models, NAME, store.served_version(models, NAME)), Settings(device="cpu"))
    columns = pyarrow.parquet.read_table(source)
    rows = np.stack([column.to_numpy() for column in columns.columns], axis=1)
    scorer.run({"numeric": rows[:WARM_UP_ROWS]}, SAMPLES)
    started = time.perf_counter()
    scorer.run({"numeric": rows}, SAMPLES)
    return time.perf_counter() - started


def _high_water(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Print both rates, their ratio and the peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", type=Path, help="folder of the model from an earlier run; else it is trained now")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(heading(), soft_wrap=True)
    with tempfile.TemporaryDirectory() as folder, console.status("measuring"):
        scratch = Path(folder)
        models = prepared(arguments.models, scratch / "models")
        source, one, target = scratch / "rows.parquet", scratch / "one.parquet", scratch / "scored.parquet"
        pyarrow.parquet.write_table(table(simulate(arguments.rows, seed=2)), source)
        pyarrow.parquet.write_table(table(simulate(1, seed=2)), one)
        score(models, one, target)  # the first call compiles to bytecode
        runs, alone, starts = [], [], []
        for _ in range(arguments.repeats):
            starts.append(score(models, one, target).seconds)
            runs.append(score(models, source, target))
            alone.append(in_fresh_process(graph_alone, models, source))
    whole, start = statistics.median(run.seconds for run in runs), statistics.median(starts)
    rates = {
        "ONNX Runtime alone": arguments.rows / statistics.median(alone),
        "surprisal score, whole command": arguments.rows / whole,
        "surprisal score, less its start": arguments.rows / (whole - start),
    }
    shown = titled(f"{arguments.rows:,} rows, median of {arguments.repeats}", "", "records/s", "ratio")
    for name, rate in rates.items():
        shown.add_row(name, f"{rate:,.0f}", f"{rate / rates['ONNX Runtime alone']:.2f}")
    show(console, shown)
    peak = max(run.peak for run in runs)
    console.print(f"start of the command {start:.2f} s; peak memory of its process {peak / MEBIBYTE:,.0f} MiB")


if __name__ == "__main__":
    main()
