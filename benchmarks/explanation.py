"""Does an explanation name the field that was corrupted? Whole bundles, through ONNX Runtime as the service runs them.

    python benchmarks/explanation.py [--seeds 3] [--rows 24000] [--score combined] [--amounts 5]

Of each seed a simulator of fields that depend on each other (`dependent.py`), a model with all defaults, and 4 000
fresh records of which one field each is corrupted so that it still looks usual by itself. Of those that are flagged at
the bundle's false-alarm rate (0.01): how many name that field first, with the right direction, and with an expected
value nearer the one before than the one given. Beside it, how many would if fields were ordered by their own excess.

Of fresh records that are not corrupted: the share of numbers inside their interval, and how far what is expected lies
from what is there, the median over records as a share of the field's own median deviation, the mean over fields. With
`--amounts` the first of the ten numbers are exponentials, as amounts of money are, and the error is that of these.
"""

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

# As a script, its neighbour training.py would stand in for the package of that name.
sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.dependent import NAMES, NUMBERS, Corrupted, Records, Simulator
from benchmarks.serving.heading import heading
from bundle.contents.explanation import COVERAGE, Explanations
from bundle.folder import contents, store
from bundle.record.fields import Tensors
from service.engine.question import Question
from service.engine.verdicts import answered, judge
from service.models.opening import open_explainer, open_scorer
from service.settings import Settings
from training import config, pipeline
from training.data import schema
from training.data.read import Data

RECORDS = 4000
Flags = npt.NDArray[np.bool_]
MEASURES = (
    "flagged", "field first", "direction", "nearer", "all three", "first by excess", "shares off 1", "terms off -ELBO",
    "in interval", "median error",
)  # fmt: skip


def measure(seed: int, rows: int, score: str | None, amounts: int) -> dict[str, float]:
    """Every figure of one seed."""
    simulator = Simulator(seed, amounts)
    drawn = simulator.table(simulator.draw(rows, part=0))
    corrupted = simulator.corrupt(simulator.draw(RECORDS, part=1), part=2)
    with tempfile.TemporaryDirectory() as models:
        data = Data("simulated", "0" * 64, drawn)
        trained = pipeline.train(data, Path(models), "model", config.build({"seed": seed}), device="cpu")
        bundle = store.load(Path(models), "model", trained.version)
    manifest = bundle.manifest
    scorer, explainer = open_scorer(bundle, Settings(device="cpu")), open_explainer(bundle, Settings(device="cpu"))
    assert explainer is not None

    def tensors(records: Records) -> Tensors:
        table = simulator.table(records)
        return schema.tensors(manifest.record, Data("simulated", "", table), np.arange(table.num_rows))

    given = {} if score is None else {"score": score}
    question, faults = Question.usual(manifest).changed(given, manifest)
    assert not faults, faults
    after = tensors(corrupted.after)
    calibration = contents.calibration(bundle)
    verdicts = judge(manifest, calibration, scorer.run(after, question.samples), question.samples)
    verdicts = answered(verdicts, manifest, calibration, question)
    flagged = verdicts.is_anomaly
    some = {kind: values[flagged] for kind, values in after.items()}
    explanations = Explanations(manifest, some, explainer.run(some, question.samples))
    usual = tensors(simulator.draw(RECORDS, part=5))
    first, direction, nearer = judged(explanations, corrupted, flagged, simulator)
    places = np.array([manifest.record.names.index(name) for name in NAMES])[corrupted.field[flagged]]
    elbo = verdicts.columns()["elbo"][flagged]
    total = explanations.surprisals.fields.sum(axis=1) + explanations.surprisals.kl
    values = (
        flagged.mean(),
        first.mean(),
        direction.mean(),
        nearer.mean(),
        (first & direction & nearer).mean(),
        (explanations.excess.argmax(axis=1) == places).mean(),
        np.abs(explanations.share.sum(axis=1) - 1).max(),
        np.abs(total + elbo).max(),
        *expected(Explanations(manifest, usual, explainer.run(usual, question.samples)), amounts or NUMBERS),
    )
    return dict(zip(MEASURES, map(float, values), strict=True))


def judged(
    explanations: Explanations, corrupted: Corrupted, flagged: Flags, simulator: Simulator
) -> tuple[Flags, Flags, Flags]:
    """Of each flagged record whether the field is named first, its direction right, its expected value nearer."""
    before, after = (simulator.table(records).to_pylist() for records in (corrupted.before, corrupted.after))
    said = []
    for row, record in enumerate(np.flatnonzero(flagged)):
        name = NAMES[corrupted.field[record]]
        named = explanations.field(row, explanations.schema.names.index(name))
        was, given, expected = before[record][name], after[record][name], named["expected"]
        if "likely" in named:
            # Of categories that is the nearer one which is the more likely.
            probability = {each["value"]: each["probability"] for each in named["likely"]}
            nearer = probability.get(was, 0.0) > probability.get(given, 0.0)
        else:
            nearer = abs(expected - was) < abs(expected - given)
        first = explanations.schema.names[explanations.order[row, 0]] == name
        said.append((first, named["direction"] == corrupted.direction[record], nearer))
    columns = np.array(said, bool).T
    return columns[0], columns[1], columns[2]


def expected(explanations: Explanations, numbers: int) -> tuple[float, float]:
    """Share of normal numbers inside their interval, 0.9 if that is true to its name; the error of the first ones."""
    inside, errors = [], []
    rows = range(0, len(explanations), 10)
    for place in range(NUMBERS):
        said = [explanations.field(row, place) for row in rows]
        given = np.array([explanations.given(row, place) for row in rows])
        low, high = np.array([each["interval"] for each in said]).T
        inside.append((low <= given) & (given <= high))
        off = np.abs(given - [each["expected"] for each in said])
        errors.append(np.median(off) / np.median(np.abs(given - np.median(given))))
    return float(np.mean(inside)), float(np.mean(errors[:numbers]))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=24_000)
    parser.add_argument("--score", help="which score flags; by default the bundle's own")
    parser.add_argument("--amounts", type=int, default=0, help="how many of the ten numbers are amounts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    table = Table("seed", *MEASURES, title=f"One corrupted field; intervals of {COVERAGE:.0%}", title_justify="left")
    every = []
    for seed in range(arguments.seeds):
        figures = measure(seed, arguments.rows, arguments.score, arguments.amounts)
        every.append(list(figures.values()))
        table.add_row(str(seed), *(f"{value:.3g}" for value in every[-1]))
    table.add_row("mean", *(f"{value:.3g}" for value in np.mean(every, axis=0)))
    console = Console(width=170)
    console.print(heading())
    console.print(f"{datetime.now(UTC):%Y-%m-%d}: {time.perf_counter() - started:.0f} s")
    console.print(table)


if __name__ == "__main__":
    main()
