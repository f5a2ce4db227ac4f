"""Evidence that reports are made from, as training gathers it."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from bundle.contents.calibration import Calibration
from bundle.contents.explanation import usual
from bundle.contents.manifest import CalibrationSummary, Manifest, TrainingFacts
from bundle.contents.reference import references
from bundle.contents.scores import TABLE_SCORES
from bundle.record.fields import Tensors
from bundle.record.schema import TableSchema
from tests.conftest import as_data
from tests.training.conftest import mixed_table
from training import config
from training.data import kinds, schema
from training.data.split import split
from training.export import runs
from training.export.runs import Outputs
from training.fitting import trimming
from training.fitting.model import fit
from training.report import evidence
from training.report.evidence import Evidence
from training.table.explainer import TableExplainer
from training.table.vae import TableVAE

TINY = {"network": {"hidden": (8,), "latent_size": 2}, "fit": {"epochs": 2}}
HOSTILE = "<script>alert('x')</script>"


def gather(table: pa.Table, settings: dict[str, Any]) -> Evidence:
    """What a training run would write a report from, scored by torch: the export to ONNX takes longer than all else."""
    given, data = config.build(settings), as_data(table)
    parts = split(data, given.data, given.scoring.false_alarm_rate, given.seed)
    inferred = kinds.chosen(data, parts.normal, given)
    record, train, validation = trimming.prepare(data, parts.train, parts.validation, inferred.fields, given)
    model = fit(data, record, train, validation, given, torch.device("cpu"))
    noise = torch.from_numpy(model.noise[: given.scoring.samples])

    @torch.no_grad()
    def score(tensors: Tensors) -> Outputs:
        outputs = model.scorer({kind: torch.from_numpy(values) for kind, values in tensors.items()}, noise)
        return {name: output.numpy() for name, output in zip(model.scorer.names, outputs, strict=True)}

    assert isinstance(model.scorer.vae, TableVAE)
    assert isinstance(record, TableSchema)
    explainer = TableExplainer(model.scorer.vae, record).eval()

    @torch.no_grad()
    def explain(tensors: Tensors) -> Outputs:
        parts = [explainer(runs.as_torch(piece), noise) for piece in runs.pieces(tensors, 64)]
        joined = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
        return dict(zip(explainer.names, joined, strict=True))

    samples, decides = given.scoring.samples, given.anomaly_score
    held_out = schema.tensors(record, data, parts.normal if parts.folds else parts.calibration)
    outputs = score(held_out)
    calibration = Calibration({(each.name, samples): each.sign * outputs[each.output] for each in TABLE_SCORES})
    limit = calibration.threshold(decides, samples, given.scoring.false_alarm_rate)
    manifest = Manifest(
        created="2026-01-01T00:00:00+00:00",
        record=record,
        reference=references(record, schema.tensors(record, data, parts.train)),
        latent_size=model.scorer.vae.latent_size,
        anomaly_score=decides,
        samples=samples,
        false_alarm_rate=given.scoring.false_alarm_rate,
        calibration=CalibrationSummary(records=calibration.records, thresholds={str(samples): limit}),
        usual_surprisal=usual(record, held_out, explain(held_out)),
        training=TrainingFacts(
            data=data.name,
            data_sha256=data.sha256,
            rows={part: len(getattr(parts, part)) for part in ("train", "validation", "calibration", "anomalies")},
            seed=given.seed,
            device="cpu",
            config=given.model_dump(mode="json", exclude_none=True),
            metrics={"validation_elbo": model.validation_elbo},
            packages={},
        ),
        files={},
    )
    return evidence.gather("odd", model, score, explain, data, inferred, parts, calibration, manifest)


@pytest.fixture(scope="session")
def mixed() -> Evidence:
    """Of a table with fields of every kind and labelled anomalies."""
    fields = [
        {"name": "height", "kind": "numeric"},
        {"name": "visits", "kind": "numeric"},
        {"name": "member", "kind": "boolean"},
        {"name": "colour", "kind": "categorical"},
    ]
    settings: dict[str, Any] = {"network": {"hidden": (8,), "latent_size": 3}, "fit": {"epochs": 3}, "fields": fields}
    settings |= {"data": {"label": "label", "normal": "ok"}, "scoring": {"false_alarm_rate": 0.05}}
    return gather(mixed_table(), settings)


@pytest.fixture(scope="session")
def hostile() -> Evidence:
    """Of a table whose names, categories and labels are markup, mathematics or not to be printed."""
    random = np.random.default_rng(0)
    rows = 300
    table = pa.table(
        {
            HOSTILE: random.choice([HOSTILE, "$x_1$ & 'y'", "日本語\x0b\x1f", "x" * 500], rows),
            "$\\frac{1}{2}": random.normal(size=rows) * 1e150,
            "wide" * 100: random.standard_cauchy(rows) * 1e9,
            '"><img src=x onerror=alert(1)>': np.where(random.random(rows) < 0.5, np.nan, 1.0),
            "label": random.choice(["ok", HOSTILE], rows, p=[0.9, 0.1]),
        }
    )
    return gather(table, TINY | {"data": {"label": "label", "normal": "ok"}})
