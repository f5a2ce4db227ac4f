"""The strangest records, each with its values and with what makes it strange."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from bundle.contents.explanation import Explanations
from bundle.record.fields import UNKNOWN, AnyField, ImageField
from bundle.record.schema import ImageSchema
from training import config
from training.report import imagery, naming, wording
from training.report.evidence import Evidence, Part

RECORDS = 5
"""Records of each kind."""
FIELDS = 6
"""Fields of a record that are explained, most surprising first."""
VALUES = 60
"""Fields of a record whose values are listed."""

KL = "latent (KL)"
"""How the KL is called beside the fields."""


@dataclass(frozen=True)
class Term:
    """One term of a record's -ELBO, which is its surprisal.

    Args:
        name: The field's, or that of the KL.
        value: As text; empty for the KL.
        expected: As text, what the other fields lead to expect; empty for the KL.
        surprisal: nats.
        excess: nats above the usual.
        share: Of all that exceeds, in [0, 1]; NaN where nothing does.
        conditional_excess: nats by which the record becomes likelier without the field, above the usual; orders the
            fields. NaN for the KL and for an image.
    """

    name: str
    value: str
    expected: str
    surprisal: float
    excess: float
    share: float
    conditional_excess: float


@dataclass(frozen=True)
class Strange:
    """A record and why it is strange.

    Args:
        row: Its place in the data file, from 1.
        name: How it is called: by its file or by its row.
        label: A labelled anomaly's label, else empty.
        score: Its anomaly score.
        p_value: Its p-value among the calibration's records.
        flagged: Whether it would be flagged.
        terms: Its most surprising fields, in the order of the service's explanations, and then the KL.
        left: How many more fields there are.
        values: Field and value, of the first `VALUES` fields; none of an image.
        picture: Of an image: itself, what is expected, and its map; else None.
    """

    row: int
    name: str
    label: str
    score: float
    p_value: float
    flagged: bool
    terms: tuple[Term, ...]
    left: int
    values: tuple[tuple[str, str], ...]
    picture: Markup | None = None


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
        evidence: Its held-out rows say what is usual.
    """
    normal = order(evidence.held_out.scores[evidence.score])[:RECORDS]
    anomalies = order(evidence.anomalies.scores[evidence.score])
    limit = evidence.threshold(evidence.score)
    found = anomalies[:RECORDS]
    least = anomalies[RECORDS:][::-1][:RECORDS]
    missed = least[evidence.anomalies.scores[evidence.score][least] <= limit]
    return Strangest(
        normal=_described(evidence, evidence.held_out, normal),
        anomalies=_described(evidence, evidence.anomalies, found),
        missed=_described(evidence, evidence.anomalies, missed),
    )


def order(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Places of (n,) anomaly scores, highest first; of equal ones the first."""
    return np.argsort(-scores.astype(np.float64), kind="stable")


def _described(evidence: Evidence, part: Part, chosen: npt.NDArray[np.int64]) -> tuple[Strange, ...]:
    if not chosen.size:
        return ()
    record = evidence.manifest.record
    explanations = evidence.explanations({kind: values[chosen] for kind, values in part.tensors.items()})
    scores = part.scores[evidence.score][chosen]
    p_values = evidence.p_values(scores)
    names = naming.names(evidence.table, part.rows[chosen])
    return tuple(
        Strange(
            row=evidence.table.number(int(part.rows[index])),
            name=names[place],
            label=_label(evidence, int(part.rows[index])) if part is evidence.anomalies else "",
            score=float(scores[place]),
            p_value=float(p_values[place]),
            flagged=bool(p_values[place] <= evidence.manifest.false_alarm_rate),
            terms=(*_terms(evidence, part, index, explanations, place), _kl(explanations, place)),
            left=max(0, len(record.fields) - FIELDS),
            values=_values(evidence, part, index),
            picture=imagery.explained(part.tensors["image"][index], explanations, place)
            if isinstance(record, ImageSchema)
            else None,
        )
        for place, index in enumerate(chosen.tolist())
    )


def _values(evidence: Evidence, part: Part, index: int) -> tuple[tuple[str, str], ...]:
    """The first fields and what they hold; of an image, which is shown, nothing."""
    shown = [field for field in evidence.manifest.record.fields if not isinstance(field, ImageField)][:VALUES]
    return tuple((wording.shown(field.name), _value(evidence, part, field, index)) for field in shown)


def _terms(evidence: Evidence, part: Part, index: int, explanations: Explanations, place: int) -> tuple[Term, ...]:
    terms = []
    for position in explanations.order[place][:FIELDS].tolist():
        field, said = evidence.manifest.record.fields[position], explanations.field(place, position)
        terms.append(
            Term(
                wording.shown(field.name),
                "" if isinstance(field, ImageField) else _value(evidence, part, field, index),
                "" if isinstance(field, ImageField) else wording.expectation(said),
                said["surprisal"],
                said["excess"],
                said["share"],
                math.nan if isinstance(field, ImageField) else said["conditional_excess"],
            )
        )
    return tuple(terms)


def _kl(explanations: Explanations, place: int) -> Term:
    return Term(
        KL,
        "",
        "",
        float(explanations.surprisals.kl[place]),
        float(explanations.kl_excess[place]),
        float(explanations.share[place, -1]),
        math.nan,
    )


def _value(evidence: Evidence, part: Part, field: AnyField, index: int) -> str:
    assert not isinstance(field, ImageField)
    cell = evidence.column(part, field)[index]
    text = wording.value(field, cell)
    table = evidence.table.table
    if field.kind == "categorical" and cell == UNKNOWN and field.name in table.column_names:
        return f"{wording.shown(str(table[field.name][int(part.rows[index])].as_py()))} (unknown)"
    return text


def _label(evidence: Evidence, row: int) -> str:
    data = config.build(dict(evidence.manifest.training.config)).data
    return "" if data.label is None else wording.shown(str(evidence.table.table[data.label][row].as_py()))
