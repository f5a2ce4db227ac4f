"""The sentence that a report opens with, compared with the scores that it is of."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.training.report.conftest import TINY, gather
from training.report import verdict, wording
from training.report.evidence import Evidence


def test_it_says_what_is_caught(mixed: Evidence) -> None:
    scores, limit = mixed.anomalies.scores[mixed.score], mixed.threshold(mixed.score)
    caught = int((scores > limit).sum())
    found = verdict.of(mixed, 7)
    assert (
        found.claim == f"Catches {wording.percent(caught / scores.size)} of the labelled anomalies at 5% false alarms."
    )
    assert f"It flags {caught} of {scores.size} labelled anomalies." in found.grounds[0]
    assert f"The threshold comes from {mixed.held_out.rows.size} normal rows, which it has not seen." in found.grounds
    assert found.origin[0] == "version 7"
    assert found.origin[-1] == f"{mixed.table.table.num_rows} rows, 4 fields"


def test_rows_left_out_are_counted_and_no_row_is_counted_twice(mixed: Evidence) -> None:
    def origin(evidence: Evidence, rows: dict[str, int]) -> str:
        facts = evidence.manifest.training.model_copy(update={"rows": rows})
        manifest = evidence.manifest.model_copy(update={"training": facts})
        return verdict.of(replace(evidence, manifest=manifest), 1).origin[-1]

    rows = {"train": 60, "validation": 10, "calibration": 20, "anomalies": 4, "left_out": 6}
    assert origin(mixed, rows) == "100 rows, 4 fields, 6 left out as likely anomalies"
    folds = replace(mixed, held_out=mixed.validation)
    assert origin(folds, {"train": 90, "validation": 10, "calibration": 100, "anomalies": 4}) == "104 rows, 4 fields"


def test_a_model_that_catches_no_more_than_a_guess_says_so(mixed: Evidence) -> None:
    usual = {name: np.full_like(values, values.min() - 1) for name, values in mixed.anomalies.scores.items()}
    found = verdict.of(replace(mixed, anomalies=replace(mixed.anomalies, scores=usual)), 1)
    assert found.claim.startswith("Catches 0%")
    assert "A guess would do no worse" in found.grounds[0]


def test_without_a_label_it_says_what_it_promises() -> None:
    table = pa.table({"x": np.random.default_rng(0).normal(size=1000)})
    evidence = gather(table, TINY)
    rows = evidence.calibrating.size
    found = verdict.of(evidence, 1)
    assert found.claim == f"Made to flag at most 1% of normal records, checked on {rows} held-out rows."
    assert "no labelled anomalies" in found.grounds[0]


@pytest.mark.parametrize("records", [199, 1999])
def test_the_false_alarms_to_come_are_as_many_as_it_says(mixed: Evidence, records: int) -> None:
    """Nineteen times in twenty, over calibrations drawn anew."""
    random = np.random.default_rng(records)
    calibrating = random.normal(size=records).astype(np.float32)
    evidence = replace(mixed, calibration=type(mixed.calibration)({(mixed.score, mixed.manifest.samples): calibrating}))
    words = next(line for line in verdict.of(evidence, 1).grounds if line.startswith("Expect")).split()
    low, high = int(words[1]), int(words[3])
    allowed = round(0.05 * (records + 1))
    limits = np.sort(random.normal(size=(400, records)), axis=1)[:, records - allowed]
    alarms = (random.normal(size=(400, 1000)) > limits[:, np.newaxis]).sum(axis=1)
    assert 0.91 < np.mean((low <= alarms) & (alarms <= high)) < 0.99


@pytest.mark.parametrize(("records", "few"), [(30, True), (38, True), (39, False), (199, False)])
def test_a_threshold_that_rests_on_one_row_is_said(mixed: Evidence, records: int, few: bool) -> None:
    calibrating = np.random.default_rng(records).normal(size=records).astype(np.float32)
    evidence = replace(mixed, calibration=type(mixed.calibration)({(mixed.score, mixed.manifest.samples): calibrating}))
    assert bool(evidence.threshold(evidence.score) == calibrating.max()) is few
    warned = f"The calibration has {records} rows, so only a record stranger than all of them is flagged."
    assert (warned in " ".join(verdict.of(evidence, 1).grounds)) is few
    assert (warned in verdict.said(evidence)) is few
