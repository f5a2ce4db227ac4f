"""Golden records: held-out and contrived ones as a client would send them, with every score that they get."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from bundle.contents.golden import Golden, GoldenCase, plain
from bundle.record.records import encode_records
from bundle.record.schema import RecordSchema
from training import modality
from training.data.read import Data
from training.data.split import Split
from training.export import parity, runs
from training.export.explainer import ExportedExplainer
from training.export.runs import Inputs
from training.network.scores import ScoringNetwork

_NORMAL, _ANOMALIES = 6, 2
_SAMPLES = (1, 16, 256)
_EXPLAINED_SAMPLES = 16


def choose_and_replay(
    scorer: ScoringNetwork,
    session: onnxruntime.InferenceSession,
    explainer: ExportedExplainer,
    record: RecordSchema,
    data: Data,
    parts: Split,
    noise: npt.NDArray[np.float32],
) -> Golden:
    """Choose records, and note what they score and are explained by.

    Args:
        scorer: The trained model and what was fitted with it, on the CPU.
        session: Of `scorer.onnx`.
        explainer: The exported explainer.
        record: The bundle's fields.
        data: The table.
        parts: Which of its rows served what.
        noise: eps, (256, K) float32.
    """
    raw = _raw(record, data, parts)
    tensors = encode_records(record, raw)
    comparison = parity.of_scorer(scorer, session)
    cases = []
    for samples in _SAMPLES:
        outputs = runs.score(session, tensors, noise[:samples])
        allowed = comparison.tolerance(Inputs(tensors, noise[:samples]))
        for index, each in enumerate(raw):
            expected = {name: plain(values[index]) for name, values in outputs.items()}
            cases.append(GoldenCase(record=each, samples=samples, expected=expected, tolerance=float(allowed[index])))
    explained = [case for case in cases if case.samples == _EXPLAINED_SAMPLES]
    return Golden(cases=tuple(cases), explained=explainer.golden(explained, tensors))


def _raw(record: RecordSchema, data: Data, parts: Split) -> list[dict[str, Any] | list[Any]]:
    kind = modality.of(record)
    normal = parts.calibration if parts.calibration.size else parts.validation
    rows = [*normal[:_NORMAL].tolist(), *parts.anomalies[:_ANOMALIES].tolist()]
    return [*(kind.raw(data, row) for row in rows), *kind.contrived()]
