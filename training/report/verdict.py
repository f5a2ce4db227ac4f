"""What the report opens with: what the model catches or promises, in a sentence, and where it comes from."""

import math
from dataclasses import dataclass
from datetime import datetime

from bundle.record.schema import ImageSchema, TableSchema
from training.report import wording
from training.report.evidence import Evidence
from training.report.false_alarms import count_interval

_NEXT = 1000
"""Records of which the false alarms to come are counted."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Verdict:
    """What a reader wants to know first.

    Args:
        claim: What the model catches, or promises; one sentence.
        grounds: What the claim rests on, and how far it can be believed; a few sentences.
        origin: Version, date, duration, rows and fields; a few words each.
    """

    claim: str
    grounds: tuple[str, ...]
    origin: tuple[str, ...]


def of(evidence: Evidence, version: int) -> Verdict:
    """The verdict on a model.

    Args:
        evidence: Its labelled anomalies, where there are any, say what is caught.
        version: The version that the report is of.
    """
    claim, grounds = _caught(evidence) if evidence.anomalies.rows.size else _promised(evidence)
    return Verdict(claim, (*grounds, *_false_alarms(evidence)), _origin(evidence, version))


def said(evidence: Evidence) -> str:
    """The claim, the false alarms to expect and a warning of few rows, for whoever waits for the training's end."""
    claim, _ = _caught(evidence) if evidence.anomalies.rows.size else _promised(evidence)
    return " ".join([claim, _expected(evidence), *_few(evidence)])


def _caught(evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    scores = evidence.anomalies.scores[evidence.score]
    caught, rate = int((scores > evidence.threshold(evidence.score)).sum()), evidence.manifest.false_alarm_rate
    share = wording.percent(caught / scores.size)
    claim = f"Catches {share} of the labelled anomalies at {wording.rate(rate)} false alarms."
    grounds = f"It flags {caught:,} of {scores.size:,} labelled anomalies."
    if caught <= rate * scores.size:
        grounds += " A guess would do no worse: do not rely on this model for anomalies such as these."
    return claim, (grounds,)


def _promised(evidence: Evidence) -> tuple[str, tuple[str, ...]]:
    rows = wording.count(evidence.calibrating.size, f"held-out {_noun(evidence)}")
    rate = evidence.manifest.false_alarm_rate
    return (
        f"Made to flag at most {wording.rate(rate)} of normal records, checked on {rows}.",
        (
            "The data has no labelled anomalies, so nobody knows yet how many the model catches. Once you have some, "
            "measure it with surprisal evaluate.",
        ),
    )


def _false_alarms(evidence: Evidence) -> tuple[str, ...]:
    records = evidence.calibrating.size
    unseen = "each scored by a model that has not seen it" if evidence.cross_fitted else "which it has not seen"
    said = (
        f"The threshold comes from {wording.count(records, f'normal {_noun(evidence)}')}, {unseen}.",
        _expected(evidence),
        *_few(evidence),
    )
    if evidence.manifest.calibration.approximate:
        return (*said, "This is approximate; the section on calibration says why.")
    return said


def _expected(evidence: Evidence) -> str:
    low, high = count_interval(_NEXT, _above(evidence), evidence.calibrating.size)
    return f"Expect {low:,} to {high:,} false alarms in the next {_NEXT:,} normal records, with a probability of 95 %."


def _few(evidence: Evidence) -> tuple[str, ...]:
    """A warning where the threshold is the largest score that calibrates: it rests on one row."""
    if _above(evidence) > 1:
        return ()
    records, noun = evidence.calibrating.size, _noun(evidence)
    return (
        f"The calibration has {wording.count(records, noun)}, so only a record stranger than all of them is flagged. "
        f"More normal {noun}s or a higher false-alarm rate make the threshold steadier.",
    )


def _above(evidence: Evidence) -> int:
    """Place of the threshold among the scores that calibrate, from the largest."""
    return math.floor(evidence.manifest.false_alarm_rate * (evidence.calibrating.size + 1) + _ROUNDING)


def _noun(evidence: Evidence) -> str:
    return "image" if isinstance(evidence.manifest.record, ImageSchema) else "row"


def _origin(evidence: Evidence, version: int) -> tuple[str, ...]:
    manifest, record = evidence.manifest, evidence.manifest.record
    parts = dict(manifest.training.rows)
    if evidence.cross_fitted:
        del parts["calibration"]  # It has the rows of the other parts once more.
    rows, left_out = wording.count(sum(parts.values()), _noun(evidence)), parts.get("left_out", 0)
    match record:
        case TableSchema():
            what = f"{rows}, {wording.count(len(record.fields), 'field')}"
        case ImageSchema(field=field):
            what = f"{rows} of {field.width} by {field.height} pixels, {'grey' if field.channels == 1 else 'RGB'}"
    what += f", {left_out:,} left out as likely anomalies" if left_out else ""
    created = datetime.fromisoformat(manifest.created)
    seconds = sum(epoch.seconds for epoch in evidence.history)
    return (
        f"version {version}",
        f"written {created:%Y-%m-%d %H:%M} {created.tzname()}",
        f"trained in {wording.duration(seconds)}",
        what,
    )
