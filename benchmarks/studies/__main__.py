"""Every study, two at a time on a CPU.

    python -m benchmarks.studies DATA [--budget small|full] [--jobs 2] [--results FOLDER]

Each study has one thread of a CPU, so that two of them fill two cores without waiting for each other at every layer;
what it prints (STUDY.md, and its progress in STUDY.log) and its pictures are kept in the folder of results. Other
options, as `--seed 1`, are given to each study.
"""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

STUDIES = (  # the longest first, so that none is waited for alone
    "out_of_distribution",
    "autoencoders",
    "log_likelihood",
    "reconstruction_probability",
    "symbols",
    "beta",
    "fraud",
    "em",
)


def run(name: str, results: Path, options: list[str]) -> tuple[str, int, float]:
    """Run one study; its name, exit status and seconds."""
    command = [sys.executable, "-m", f"benchmarks.studies.{name}", *options, "--pictures", str(results)]
    threads = {} if torch.cuda.is_available() else {"OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    with (results / f"{name}.md").open("w") as out, (results / f"{name}.log").open("w") as progress:
        done = subprocess.run(command, env={**os.environ, **threads}, stdout=out, stderr=progress, check=False)
    return name, done.returncode, time.perf_counter() - started


def main() -> int:
    """Run all; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--budget", choices=("small", "full"), default="small", help="two cores, minutes; or a GPU")
    parser.add_argument("--jobs", type=int, default=2, help="studies at a time")
    parser.add_argument("--results", type=Path, default=Path("studies"), help="folder for tables and pictures")
    arguments, others = parser.parse_known_args()
    results = arguments.results
    results.mkdir(parents=True, exist_ok=True)
    options = [str(arguments.data), "--budget", arguments.budget, *others]
    started = time.perf_counter()
    failed = False
    with ThreadPoolExecutor(arguments.jobs) as pool:
        tasks = [pool.submit(run, name, results, options) for name in STUDIES]
        for task in tasks:
            name, status, seconds = task.result()
            failed |= status != 0
            ended = "done" if status == 0 else f"failed, see {results / name}.log,"
            print(f"{name}: {ended} after {seconds:.0f} s", flush=True)
    print(f"all: {(time.perf_counter() - started) / 60:.1f} minutes")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
