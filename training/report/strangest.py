"""The strangest records, each with its values and with what makes it strange."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bundle.calibration import Calibration
from bundle.fields import UNKNOWN, AnyField
from training import config
from training.preprocess import Standardised
from training.report import wording
from training.report.evidence import Evidence, Part
from training.report.expectation import Expectation
from training.report.explanation import Explanation, explain, surprisals
from training.report.field_fit import by_kind

RECORDS = 5
"""Records of each kind."""
FIELDS = 6
"""Fields of a record that are explained, most surprising first."""
VALUES = 60
"""Fields of a record whose values are listed."""

KL = "latent (KL)"
"""How the KL is called beside the fields."""

Nats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """One term of a record's negative ELBO.

    Args:
        name: The field's, or that of the KL.
        value: As text.
        expected: As text: what the other fields lead to expect.
        surprisal: nats.
        excess: nats above the usual.
        share: Of all that exceeds, in [0, 1]; NaN where nothing does.
    """

    name: str
    value: str
    expected: str
    surprisal: float
    excess: float
    share: float


@dataclass(frozen=True)
class Strange:
    """A record and why it is strange.

    Args:
        row: Its place in the data file, from 1.
        label: A labelled anomaly's label, else empty.
        score: Its anomaly score.
        p_value: Its p-value among the calibration's records.
        flagged: Whether it would be flagged.
        terms: The most surprising of its fields and the KL, by excess.
        left: How many more terms there are.
        values: Field and value, of the first `VALUES` fields.
    """

    row: int
    label: str
    score: float
    p_value: float
    flagged: bool
    terms: tuple[Term, ...]
    left: int
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Strangest:
    """Records worth looking at, strangest first.

    Args:
        normal: Of the held-out normal records the strangest.
        anomalies: Of the labelled anomalies the strangest.
        missed: Of the labelled anomalies those that look most like normal records, if they are not flagged; least
            strange first.
    """

    normal: tuple[Strange, ...]
    anomalies: tuple[Strange, ...]
    missed: tuple[Strange, ...]


def strangest(evidence: Evidence) -> Strangest:
    """Choose and explain.

    Args:
        evidence: Its calibration rows say what is usual.
    """
    usual = np.median(surprisals(evidence.vae, evidence.standardised(evidence.calibration), evidence.noise), axis=0)
    normal = order(evidence.calibration.scores[evidence.score])[:RECORDS]
    anomalies = order(evidence.anomalies.scores[evidence.score])
    limit = threshold(evidence.calibration.scores[evidence.score], evidence.manifest.false_alarm_rate)
    found = anomalies[:RECORDS]
    least = anomalies[RECORDS:][::-1][:RECORDS]
    missed = least[evidence.anomalies.scores[evidence.score][least] <= limit]
    return Strangest(
        normal=_described(evidence, evidence.calibration, normal, usual),
        anomalies=_described(evidence, evidence.anomalies, found, usual),
        missed=_described(evidence, evidence.anomalies, missed, usual),
    )


def threshold(scores: npt.NDArray[np.float32], false_alarm_rate: float) -> float:
    """The anomaly score above which a record is flagged, from (n,) scores of the calibration's rows."""
    return Calibration({("score", 1): scores}).threshold("score", 1, false_alarm_rate)


def order(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Places of (n,) anomaly scores, highest first; of equal ones the first."""
    return np.argsort(-scores.astype(np.float64), kind="stable")


def _described(evidence: Evidence, part: Part, chosen: npt.NDArray[np.int64], usual: Nats) -> tuple[Strange, ...]:
    if not chosen.size:
        return ()
    manifest = evidence.manifest
    batch = evidence.standardised(part).take(torch.from_numpy(chosen))
    surprisal = surprisals(evidence.vae, batch, evidence.noise)
    explanation = explain(surprisal, usual)
    scores = part.scores[evidence.score][chosen]
    calibration = Calibration({(evidence.score, manifest.samples): evidence.calibration.scores[evidence.score]})
    p_values = calibration.p_values(evidence.score, manifest.samples, scores)
    return tuple(
        Strange(
            row=int(part.rows[index]) + 1,
            label=_label(evidence, int(part.rows[index])) if part is evidence.anomalies else "",
            score=float(scores[place]),
            p_value=float(p_values[place]),
            flagged=bool(p_values[place] <= manifest.false_alarm_rate),
            terms=_terms(
                evidence, part, index, batch.take(torch.tensor([place])), surprisal[place], explanation, place
            ),
            left=max(0, surprisal.shape[1] - FIELDS),
            values=tuple(
                (wording.shown(field.name), _value(evidence, part, field, index))
                for field in manifest.record.fields[:VALUES]
            ),
        )
        for place, index in enumerate(chosen.tolist())
    )


def _terms(
    evidence: Evidence,
    part: Part,
    index: int,
    record: Standardised,
    surprisal: Nats,
    explanation: Explanation,
    place: int,
) -> tuple[Term, ...]:
    fields = by_kind(evidence.manifest.record)
    expectation = Expectation(evidence.vae, evidence.noise)
    excess, share = explanation.excess[place], explanation.share[place]
    terms = []
    for term in np.argsort(-excess, kind="stable")[:FIELDS].tolist():
        nats = float(surprisal[term]), float(excess[term]), float(share[term])
        if term == len(fields):
            terms.append(Term(KL, "", "", *nats))
            continue
        field = fields[term]
        expected = wording.expectation(field, expectation.of(record, term), 0)
        terms.append(Term(wording.shown(field.name), _value(evidence, part, field, index), expected, *nats))
    return tuple(terms)


def _value(evidence: Evidence, part: Part, field: AnyField, index: int) -> str:
    cell = evidence.column(part, field)[index]
    text = wording.value(field, cell)
    table = evidence.table.table
    if field.kind == "categorical" and cell == UNKNOWN and field.name in table.column_names:
        return f"{wording.shown(str(table[field.name][int(part.rows[index])].as_py()))} (unknown)"
    return text


def _label(evidence: Evidence, row: int) -> str:
    data = config.build(dict(evidence.manifest.training.config)).data
    return "" if data.label is None else wording.shown(str(evidence.table.table[data.label][row].as_py()))
