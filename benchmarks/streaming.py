"""What it costs to train on more rows than memory holds: memory, time of each pass, steps, and the ELBO.

    python benchmarks/streaming.py [--rows 30000000] [--epochs 1] [--batch 4096] [--hidden 256 128]
                                   [--fits 1000000] [--turns 5] [--seeds 5] [--small 60000]
                                   [--small-epochs 40] [--memory 1GiB] [--folder DIR]

A table of 30 columns is simulated, sorted by category, and written as Parquet in parts; it is deleted afterwards.

1. What `surprisal train --memory 1GiB` does trains on it in a process of its own. Ten times a second its memory is
   looked at. Scores beside the likelihood are fitted behind the last epoch, so they count as "further epochs".
2. Epochs over `--fits` of the rows, from mapped files in blocks and from memory in one permutation, take turns; the
   figure is the median of the ratios of their rows/s.
3. Networks are trained on `--small` of the rows, streamed and in memory, with each seed. Their ELBO of fresh rows, as
   densities of the numbers before they are standardised, is compared.
"""

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

# As a script, this file would stand in for the package of its name.
sys.path[0] = str(Path(__file__).parents[1])

import training  # noqa: F401, I001 - before torch, whose threads it sets

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch

from bundle.record.fields import NumericField
from training import config, modality, pipeline
from training.config import TrainingConfig
from training.data import schema
from training.data.budget import read_or_stream
from training.data.read import of_table, read
from training.data.streamed import Streamed, stream
from training.fitting.fit import Fit
from training.fitting.model import Model, fit
from training.fitting.prepared import Prepared, prepare, prepare_streamed
from training.fitting.progress import Progress
from training.network.objectives import elbo
from training.table.cache import Cached, cached

NUMBERS, FLAGS = 21, 4
PART = 1_000_000
"""Rows of a file."""
CATEGORIES = ("grocer", "fuel", "travel", "salary", "rent", "online")
SPARED = 2000
"""Rows that calibrate and that stop a small training, so that its sample is a part of its rows."""
CPU = torch.device("cpu")


def simulate(rows: int, seed: int, first: float, last: float) -> pa.Table:
    """A piece of a table that is sorted by its first category.

    Args:
        rows: How many.
        seed: Of what is random.
        first: Share of the whole table that lies before it.
        last: Share of the whole table up to its end.
    """
    random, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    kind = np.minimum((np.linspace(first, last, rows, endpoint=False) * len(CATEGORIES)).astype(int), 5)
    centres, mixed = 2 * fixed.normal(size=(len(CATEGORIES), 6)), fixed.normal(size=(6, NUMBERS)) / 2
    latent = random.normal(size=(rows, 6)) + centres[kind]
    values = latent @ mixed + 0.3 * random.normal(size=(rows, NUMBERS))
    columns: dict[str, object] = {f"x{index}": values[:, index] for index in range(NUMBERS - 1)}
    columns["amount"] = np.exp(values[:, -1])
    columns["kind"] = pa.array(CATEGORIES).take(pa.array(kind))
    for index in range(4):
        level = np.clip(np.round(latent[:, index]), -3, 3).astype(int) + 3
        columns[f"level{index}"] = pa.array([f"level {each}" for each in range(7)]).take(pa.array(level))
    for index in range(FLAGS):
        columns[f"flag{index}"] = latent[:, index] + random.normal(size=rows) > 0
    return pa.table(columns)


def write(folder: Path, rows: int) -> Path:
    """The whole table in parts; the folder that holds them."""
    folder.mkdir()
    for index, start in enumerate(range(0, rows, PART)):
        end = min(rows, start + PART)
        part = simulate(end - start, 1000 + index, start / rows, end / rows)
        pyarrow.parquet.write_table(part, folder / f"part-{index}.parquet")
    return folder


def whole(folder: Path, data: Path, given: argparse.Namespace) -> None:
    """Train on all of it in a process of its own, and print its memory and the time of each pass."""
    command = [sys.executable, __file__, "--train", str(data), "--folder", str(folder), "--memory", given.memory]
    command += ["--epochs", str(given.epochs), "--batch", str(given.batch), "--hidden", *map(str, given.hidden)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    most = {"RssAnon": 0, "RssFile": 0}
    while running.poll() is None:
        for name, size in resident(running.pid):
            most[name] = max(most[name], size)
        time.sleep(0.1)
    if running.returncode or running.stdout is None:
        raise SystemExit(f"the training ended with {running.returncode}")
    took, rows = json.loads(running.stdout.read().splitlines()[-1])
    print(f"most RssAnon {most['RssAnon']:,} MiB, most RssFile {most['RssFile']:,} MiB")
    print(f"{sum(took.values()):.0f} s in all:", end=" ")
    print(", ".join(f"{name} {seconds:.0f} s" for name, seconds in took.items()))
    print(f"epoch 1: {rows / took['epoch 1']:,.0f} rows/s", flush=True)


def train(given: argparse.Namespace) -> None:
    """What `surprisal train` does; the last line is the seconds of each pass, and the rows that are trained on."""
    marks, at = {"loading": time.monotonic()}, iter(PASSES)
    mark = next(at)

    def say(line: str) -> None:
        nonlocal mark
        print(f"{time.monotonic() - began:.0f} s: {line}", file=sys.stderr, flush=True)
        if mark[0] in line:
            marks[mark[1]] = time.monotonic()
            mark = next(at, ("\0", ""))

    def report(progress: Progress) -> None:
        if progress.epoch == 1:
            marks["epoch 1"] = time.monotonic() - progress.seconds
            marks["further epochs"] = time.monotonic()

    began = time.monotonic()
    fitted = {"epochs": given.epochs, "batch_size": given.batch}
    settings = config.build({"fit": fitted, "network": {"hidden": tuple(given.hidden)}})
    table = read_or_stream(given.train, settings, given.memory, say)
    made = pipeline.train(table, given.folder / "models", "whole", settings, device="cpu", say=say, report=report)
    ordered = sorted((moment, name) for name, moment in marks.items())
    ends = [*(moment for moment, _ in ordered[1:]), time.monotonic()]
    took = {name: end - start for (start, name), end in zip(ordered, ends, strict=True)}
    print(json.dumps((took, made.manifest.training.rows["train"])))


PASSES = (
    ("streamed from disk", "pass 1 (rows, sample, digest)"),
    ("rows in ", "fields of the sample"),
    ("reading all training rows", "pass 2 (exact statistics)"),
    ("standardised rows are written", "pass 3 (cache)"),
    ("are kept", "export"),
    ("the exported graphs agree", "calibration and report"),
)
"""What is said when a pass begins, and its name."""


def resident(process: int) -> Iterator[tuple[str, int]]:
    """RssAnon and RssFile of a process, in MiB."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it has ended
        return
    for line in status.splitlines():
        name, _, rest = line.partition(":")
        if name in ("RssAnon", "RssFile"):
            yield name, int(rest.split()[0]) // 1024


def steps(folder: Path, data: Path, batch: int, turns: int) -> None:
    """Print the rows/s of an epoch from mapped files and from memory, which take turns."""
    settings = config.build({"fit": {"epochs": 1, "batch_size": batch}})
    streamed = stream(data, settings)
    made = prepare_streamed(streamed, settings, lambda line: None)
    with cached(folder / "cache", made.record, streamed, settings) as on_disk:
        records = type(on_disk.records)(*(part.clone() for part in on_disk.records))
        in_memory = replace(on_disk, records=records)
        given = (made, streamed, settings)
        epoch(*given, on_disk, blocks=True)
        pairs = [(epoch(*given, on_disk, blocks=True), epoch(*given, in_memory, blocks=False)) for _ in range(turns)]
    for place, clock in enumerate(("rows/s", "rows a second of the processor's")):
        both = [[turn[place] for turn in turns_of] for turns_of in zip(*pairs, strict=True)]
        ratios = sorted(ours / theirs for ours, theirs in zip(*both, strict=True))
        medians = ", ".join(f"{statistics.median(rates):,.0f}" for rates in both)
        print(f"{clock}, streamed and in memory: {medians} (medians of {turns}, batches of {batch})")
        print(f"streamed / in memory: {statistics.median(ratios):.2f} (from {ratios[0]:.2f} to {ratios[-1]:.2f})")


def epoch(
    made: Prepared, streamed: Streamed, settings: TrainingConfig, records: Cached, *, blocks: bool
) -> tuple[float, float]:
    """Rows/s of one epoch, the validation behind it included, by the clock and by the processor's time."""
    torch.manual_seed(settings.seed)
    vae = modality.of(made.record).vae(settings.network)
    tensors = schema.tensors(made.record, streamed.sample, made.validation[:SPARED])
    validation = vae.standardise({kind: torch.from_numpy(values) for kind, values in tensors.items()})
    run = Fit(
        vae,
        records.records,
        validation,
        settings.objective,
        settings.fit,
        names=made.record.names,
        seed=settings.seed,
        order=records.order if blocks else None,
    )
    began = time.process_time()
    run.run()
    return records.records.rows / run.history[0].seconds, records.records.rows / (time.process_time() - began)


def compare(folder: Path, rows: int, seeds: int, epochs: int) -> None:
    """Print the ELBO of fresh rows by networks that were trained streamed and in memory."""
    path = folder / "small.parquet"
    pyarrow.parquet.write_table(simulate(rows, 1, 0.0, 1.0), path)
    fresh = simulate(max(100, rows // 6), 2, 0.0, 1.0)
    reached: dict[str, list[float]] = {"streamed": [], "in memory": []}
    for seed in range(seeds):
        held_out = {"calibration_most": min(SPARED, rows // 10)}
        settings = config.build({"seed": seed, "data": held_out, "fit": {"epochs": epochs, "batch_size": 256}})
        streamed = stream(path, settings, sample_rows=rows // 8)
        made = prepare_streamed(streamed, settings, lambda line: None)
        with cached(folder / "cache", made.record, streamed, settings) as on_disk:
            given = (streamed.sample, made.record, made.train, made.validation, settings, CPU)
            reached["streamed"].append(measured(fit(*given, on_disk=on_disk), made, fresh))
        data = read(path)
        made = prepare(data, settings, lambda line: None)
        model = fit(data, made.record, made.train, made.validation, settings, CPU)
        reached["in memory"].append(measured(model, made, fresh))
        print(f"seed {seed}: {', '.join(f'{name} {values[-1]:.3f}' for name, values in reached.items())}", flush=True)
    for name, values in reached.items():
        print(f"{name}: ELBO {statistics.mean(values):.3f} nats")
    deviation = statistics.stdev(reached["in memory"]) if seeds > 1 else float("nan")
    difference = statistics.mean(reached["streamed"]) - statistics.mean(reached["in memory"])
    share = f"{difference / deviation:+.1f} of the deviation of seeds ({deviation:.3f})"
    print(f"streamed - in memory: {difference:+.3f} nats, {share}")


@torch.no_grad()
def measured(model: Model, made: Prepared, fresh: pa.Table) -> float:
    """Mean ELBO of fresh rows in nats, as densities of the numbers themselves."""
    data, vae = of_table("fresh", "", fresh), model.scorer.vae
    tensors = schema.tensors(made.record, data, np.arange(fresh.num_rows))
    batch = vae.standardise({kind: torch.from_numpy(values) for kind, values in tensors.items()})
    noise = torch.randn(fresh.num_rows, 1, vae.latent_size, generator=torch.Generator().manual_seed(0))
    found = float(elbo(vae, batch, noise).bound.double().mean())
    for position, field in enumerate(each for each in made.record.fields if isinstance(each, NumericField)):
        found += float(np.nanmean(field.log_slope(tensors["numeric"][:, position].astype(np.float64))))
    return found


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=30_000_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 128], help="of the network of the first part")
    parser.add_argument("--fits", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--small", type=int, default=60_000)
    parser.add_argument("--small-epochs", type=int, default=40)
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--folder", type=Path, help="where it is written; by default a temporary folder")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train:
        train(given)
        return
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.platform()}, {torch.get_num_threads()} threads")
    folder = Path(tempfile.mkdtemp(prefix="streaming-", dir=given.folder))
    try:
        if given.rows:
            data = write(folder / "data", given.rows)
            size = sum(part.stat().st_size for part in data.iterdir())
            print(f"{given.rows:,} rows x 30 columns, {size / 2**30:.2f} GiB of Parquet", flush=True)
            whole(folder, data, given)
            shutil.rmtree(data)
        if given.fits:
            steps(folder, write(folder / "fits", given.fits), given.batch, given.turns)
        if given.seeds:
            compare(folder, given.small, given.seeds, given.small_epochs)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
