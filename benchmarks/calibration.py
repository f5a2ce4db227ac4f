"""P-values: are as many fresh normal rows flagged as asked for, with rows put aside and with few rows, cross-fitted?

    python benchmarks/calibration.py [--folder FOLDER --sets NAME...] [--draws 200] [--refits 20] [--jobs 2]

Put aside: one model of simulated card payments; each draw has 999 calibration rows and 2 000 test rows of its own, so
that the draws are independent. The mean false-alarm rate over the draws should lie within 3 standard errors (between
draws) of floor(rate (n + 1)) / (n + 1). Cross-fitted: each refit has 100 normal rows of its own, from which the folds'
models and the final one are trained with the defaults, and up to 5 000 fresh ones; of card payments, and of the sets of
FOLDER (`.npz` with `X` and `y`, 1 = anomaly). The mean over the refits should be at most 1.5 times the rate.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.serving.heading import heading
from bundle.contents.calibration import Calibration
from bundle.record.schema import RecordSchema
from training import config
from training.config import TrainingConfig
from training.data import kinds, schema, transactions
from training.data.read import Data
from training.data.split import split
from training.fitting import cross_fit, model, trimming

SCORES = ("combined", "elbo")
RATES = (0.1, 0.01, 0.005)
FEW_RATES = (0.1, 0.05, 1 / 101)
TRAINED, CALIBRATED, TESTED = 4000, 999, 2000
FEW, MOST_FRESH = 100, 5000
ERRORS, FACTOR = 3.0, 1.5
CPU = torch.device("cpu")
Floats = npt.NDArray[np.float64]


def scored(fitted: model.Model, record: RecordSchema, data: Data, samples: int) -> dict[str, Floats]:
    """Anomaly scores of every row of a table."""
    found = fitted.anomaly_scores(schema.tensors(record, data, np.arange(data.table.num_rows)), samples)
    return {name: found[name].astype(np.float64) for name in SCORES}


def alarms(held_out: Floats, fresh: Floats, samples: int, rate: float) -> float:
    """The share of the fresh rows that is flagged."""
    calibration = Calibration({("score", samples): held_out.astype(np.float32)})
    return float((calibration.p_values("score", samples, fresh.astype(np.float32)) <= rate).mean())


def payments(rows: int, seed: int) -> Data:
    """Normal card payments."""
    return Data("payments", "", transactions.simulate(rows, seed, fraud_share=0.0).drop_columns([transactions.LABEL]))


def put_aside(console: Console, draws: int) -> None:
    """One model, many draws of calibration and test rows."""
    settings = config.build({})
    data = payments(TRAINED, 1)
    rows = np.random.default_rng(0).permutation(TRAINED)
    train, validation = np.sort(rows[TRAINED // 10 :]), np.sort(rows[: TRAINED // 10])
    fields = kinds.infer(data, np.arange(TRAINED), settings).fields
    record, train, validation = trimming.prepare(data, train, validation, fields, settings)
    fitted = model.fit(data, record, train, validation, settings, CPU)
    samples = settings.scoring.samples
    each = CALIBRATED + TESTED
    pool = scored(fitted, record, payments(draws * each, 2), samples)
    table = Table("score", "asked", "exact", "found", "standard error", "off by", title_justify="left")
    table.title = f"Put aside: {draws} draws of {CALIBRATED} calibration and {TESTED:,} test rows"
    for name, values in pool.items():
        parts = values.reshape(draws, each)
        for rate in RATES:
            found = np.array([alarms(part[:CALIBRATED], part[CALIBRATED:], samples, rate) for part in parts])
            exact = np.floor(rate * (CALIBRATED + 1) + 1e-9) / (CALIBRATED + 1)
            error = found.std(ddof=1) / np.sqrt(draws)
            off = (found.mean() - exact) / error
            verdict = "" if abs(off) <= ERRORS else " [bold]too far[/]"
            cells = (f"{rate:g}", f"{exact:.5f}", f"{found.mean():.5f}", f"{error:.5f}", f"{off:+.1f} errors{verdict}")
            table.add_row(name, *cells)
    console.print(table)


def refit(source: Path | None, seed: int) -> dict[tuple[str, float], float]:
    """The false-alarm rates of one model of a hundred rows, cross-fitted."""
    torch.set_num_threads(1)
    if source is None:
        data = payments(FEW + MOST_FRESH, 1000 + seed)
    else:
        with np.load(source, allow_pickle=False) as archive:
            values, labels = archive["X"].astype(np.float64), archive["y"].ravel() != 0
        chosen = np.random.default_rng(seed).permutation(np.flatnonzero(~labels))[: FEW + MOST_FRESH]
        columns = {f"x{i}": np.ascontiguousarray(column) for i, column in enumerate(values[chosen].T)}
        data = Data(source.name, "", pa.table(columns))
    few = Data(data.name, data.sha256, data.table.slice(0, FEW))
    fresh = Data(data.name, data.sha256, data.table.slice(FEW))
    settings: TrainingConfig = config.build({"seed": seed})
    parts = split(few, settings.data, min(FEW_RATES), seed)
    fields = kinds.infer(few, parts.normal, settings).fields
    held_out, _ = cross_fit.scores(few, parts, fields, settings, CPU)
    record, train, validation = trimming.prepare(few, parts.train, parts.validation, fields, settings)
    fitted = model.fit(few, record, train, validation, settings, CPU)
    samples = settings.scoring.samples
    return {
        (name, rate): alarms(held_out[name, samples].astype(np.float64), values, samples, rate)
        for name, values in scored(fitted, record, fresh, samples).items()
        for rate in FEW_RATES
    }


def cross_fitted(console: Console, sources: list[Path | None], refits: int, jobs: int) -> None:
    """Many models of a hundred rows each."""
    table = Table("set", "score", "asked", "found", "standard error", "times the rate", title_justify="left")
    table.title = f"Cross-fitted: {refits} refits of {FEW} rows"
    with ProcessPoolExecutor(jobs) as pool:
        for source in sources:
            found = list(pool.map(refit, [source] * refits, range(refits)))
            for name, rate in found[0]:
                rates = np.array([each[name, rate] for each in found])
                times = rates.mean() / rate
                verdict = "" if times <= FACTOR else " [bold]too many[/]"
                error = rates.std(ddof=1) / np.sqrt(refits) if refits > 1 else np.nan
                where = "card payments" if source is None else source.stem
                table.add_row(
                    where, name, f"{rate:.4f}", f"{rates.mean():.4f}", f"{error:.4f}", f"{times:.2f}{verdict}"
                )
    console.print(table)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--sets", nargs="*", default=[], help="names of files of the folder without .npz")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--refits", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2, help="refits at a time, a thread each")
    arguments = parser.parse_args()
    if arguments.sets and arguments.folder is None:
        parser.error("--sets names files of --folder")
    torch.set_num_threads(1)
    console = Console(width=140)
    started = time.perf_counter()
    console.print(heading())
    put_aside(console, arguments.draws)
    sources: list[Path | None] = [None, *(arguments.folder / f"{name}.npz" for name in arguments.sets)]
    cross_fitted(console, sources, arguments.refits, arguments.jobs)
    console.print(f"{datetime.now(UTC):%Y-%m-%d}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
